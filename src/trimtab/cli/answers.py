"""Where `generate` puts responses: on the screen, in a file, or beside those of other methods.

A file is made of FILE.part, which a killed job leaves in a state to go on from: a line with the
settings, then a line of JSON per response, in order. A response counts when its line ends, and a
prompt when it has all its responses; what follows is cut off before the job goes on.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from filelock import FileLock, Timeout

from trimtab.cli.options import OutputOptions
from trimtab.cli.screen import finite, print_json
from trimtab.errors import OutputError, UsageError
from trimtab.files import replacing

if TYPE_CHECKING:
    from trimtab.cli.generate import Job
    from trimtab.runs.resolve import GuideSource
    from trimtab.types import Completion, Prompt

Write: TypeAlias = Callable[[str], object]


@dataclass(frozen=True)
class Answer:
    """A response with what the rewards say of it; None where one could not say."""

    index: int  # of its prompt
    completion: Completion
    scores: dict[str, float | None] = field(default_factory=dict)


class Writer:
    """Writes responses one after the other: texts, or JSON objects that share a ledger's facts."""

    def __init__(
        self, n: int, prompts: int, put: Write, ledger: dict[str, Any] | None, *, steps: bool = True
    ) -> None:
        self.n, self.several, self.put = n, prompts * n > 1, put
        self.ledger, self.steps = ledger, steps
        self.tokens, self.guide_tokens = 0, 0.0
        self.kl: float | None = 0.0

    def write(self, answer: Answer, *, streamed: bool = False) -> None:
        """Writes a response; of a streamed one, what its parts have left."""
        done = answer.completion
        if self.ledger is not None:
            facts = {"index": answer.index, **self.ledger, **done.as_dict()}
            if not self.steps:
                del facts["steps"]
            if answer.scores:
                facts["rewards"] = answer.scores
            self.put(json.dumps(finite(facts), ensure_ascii=False) + "\n")
        else:
            head = self._head(answer.index, done.sample, answer.scores)
            self.put("\n" if streamed else f"{head}{done.text}\n")
        self.tokens += len(done.tokens)
        self.guide_tokens += done.guide_tokens
        self.kl = None if self.kl is None or done.kl is None else self.kl + done.kl

    def part(self, row: int, text: str, *, begins: bool) -> None:
        """Prints more of a row's response; nothing where JSON is written."""
        if self.ledger is None:
            self.put((self._head(*divmod(row, self.n), {}) if begins else "") + text)

    def _head(self, index: int, sample: int, scores: Mapping[str, float | None]) -> str:
        """The line above a text, where there are several or a reward has scored it."""
        if not (self.several or scores):
            return ""
        which = f"prompt {index + 1}" + (f", sample {sample + 1}" if self.n > 1 else "")
        return f"--- {': '.join(filter(None, (which, ', '.join(_shown(scores)))))} ---\n"

    def summary(self, seconds: float) -> str:
        """One line on what it took."""
        tokens = max(self.tokens, 1)
        kl = "" if self.kl is None else f"KL {self.kl / tokens:.3f} nats per token, "
        guide = f"{self.guide_tokens / tokens:.1f} guide reads per token"
        return f"{self.tokens} tokens, {kl}{guide}, {seconds:.1f} s"


def _shown(scores: Mapping[str, float | None]) -> list[str]:
    return [f"{name} {'none' if x is None else f'{x:.3f}'}" for name, x in scores.items()]


# --- a file --------------------------------------------------------------------------------------

_ROWS = 1000  # that are held at once while a .parquet is made


def check_file(path: Path, *, overwrite: bool, ledger: bool) -> None:
    """Raise a `UsageError` for a file that cannot be meant, before anything is loaded."""
    kind = path.suffix.lower()
    if kind not in _FORMS:
        do = "name it by its kind"
        raise UsageError(f"--out must be one of {', '.join(_FORMS)}", got=str(path), do=do)
    if ledger and kind != ".jsonl":
        do = "name it .jsonl, or drop --json"
        raise UsageError("the ledger of --json needs a .jsonl", got=str(path), do=do)
    if path.exists() and not overwrite:
        do = "name another, or pass --overwrite"
        raise UsageError(f"{path} must not exist yet", got="something there", do=do)


@contextmanager
def unfinished(
    path: Path, settings: dict[str, Any], prompts: Sequence[Prompt], n: int, *, overwrite: bool
) -> Iterator[tuple[int, Write]]:
    """How many prompts are done, and what takes the lines of others; then the file has its name.

    A job of other `settings` (all that the responses depend on) or prompts is refused, or begun
    anew with `overwrite`.
    """
    part = path.with_name(f"{path.name}.part")
    head = json.dumps(settings, sort_keys=True)
    with _alone(path):
        with _writing(path):
            part.touch()
            try:
                done, end = _begun(part, json.loads(head), prompts, n)
            except UsageError:
                if not overwrite:
                    raise
                done, end = 0, 0
            os.truncate(part, end)
            file = part.open("ab", buffering=0)  # what is written outlives this process

        def write(text: str) -> None:
            left = memoryview(text.encode())
            with _writing(path):
                while left:
                    left = left[file.write(left) :]

        with file:
            if not end:
                write(f"{head}\n")
            yield done, write
        with _writing(path):
            _publish(part, path)
            part.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock beside the file; a killed process' lock is free."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            do = "wait for it, or name another file"
            raise UsageError(f"{path} must have one writer", got="another", do=do) from error
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        do = "make room, or choose another place; what is finished is kept"
        raise OutputError(f"{path} must be writable", got=why, do=do) from error


def _begun(
    part: Path, settings: dict[str, Any], prompts: Sequence[Prompt], n: int
) -> tuple[int, int]:
    """How many prompts an earlier job has done, and the bytes up to the last one's end."""
    with part.open("rb") as file:
        head = file.readline()
        begun = _whole(head)
        if begun is None:
            return 0, 0
        if begun != settings:
            names = {**settings, **begun}
            name = next(k for k in names if settings.get(k) != begun.get(k))
            got = f"{name} {settings.get(name)!r}, begun with {begun.get(name)!r}"
            raise _refused(part, "settings", got)
        done, end = 0, len(head)
        while lines := list(islice(file, n)):
            rows = [row for line in lines if (row := _whole(line)) is not None]
            if len(rows) < n:
                break
            if done == len(prompts) or not all(_answers(row, prompts[done]) for row in rows):
                raise _refused(part, "prompts", f"others, from prompt {done + 1} on")
            done, end = done + 1, end + sum(map(len, lines))
    return done, end


def _whole(line: bytes) -> dict[str, Any] | None:
    """A line as an object; None where it was not written to its end."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _answers(row: dict[str, Any], prompt: Prompt) -> bool:
    messages = prompt.messages and [dict(message) for message in prompt.messages]
    return row.get("prompt") == prompt.text and row.get("messages") == messages


def _refused(part: Path, what: str, got: str) -> UsageError:
    return UsageError(
        f"{part} was begun by another job: the {what} must be the same",
        got=got,
        do="name another file, or pass --overwrite to begin anew",
    )


def _publish(part: Path, path: Path) -> None:
    """The responses under their final name, in their final form."""
    with replacing(path, locked=True) as whole, part.open("rb") as lines:
        lines.readline()  # the settings
        _FORMS[path.suffix.lower()](lines, whole)


def _jsonl(lines: BinaryIO, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(lines, out)


def _csv(lines: BinaryIO, path: Path) -> None:
    """Lists and rewards as JSON in their cells."""
    first = json.loads(lines.readline())
    with path.open("w", encoding="utf-8", newline="") as out:
        # All quoted: a bare carriage return would end the row for most readers.
        table = csv.DictWriter(out, list(first), quoting=csv.QUOTE_ALL, lineterminator="\n")
        table.writeheader()
        for row in chain([first], map(json.loads, lines)):
            nested = {k: json.dumps(v) for k, v in row.items() if isinstance(v, list | dict)}
            table.writerow(row | nested)


def _parquet(lines: BinaryIO, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in islice(lines, _ROWS)]
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {
        "index": pa.int64(), "model": pa.string(), "method": pa.string(), "beta": pa.float64(),
        "guide": pa.string(), "seed": pa.int64(), "prompt": pa.string(),
        "messages": pa.list_(message), "sample": pa.int64(), "text": pa.string(),
        "finish": pa.string(), "tokens": pa.list_(pa.int64()), "kl": pa.float64(),
        "logprob": pa.float64(), "ref_logprob": pa.float64(), "base_tokens": pa.float64(),
        "guide_tokens": pa.float64(),
    }  # fmt: skip
    if "rewards" in rows[0]:
        columns["rewards"] = pa.struct([(name, pa.float64()) for name in rows[0]["rewards"]])
    schema = pa.schema(list(columns.items()))
    with pq.ParquetWriter(path, schema) as table:
        while rows:
            table.write_table(pa.Table.from_pylist(rows, schema))
            rows = [json.loads(line) for line in islice(lines, _ROWS)]


_FORMS = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}


# --- beside those of other methods ---------------------------------------------------------------

WIDE = 100
"""Columns of a screen on which three texts can be read beside each other."""


def show_compared(job: Job, guide: GuideSource | None, n: int, output: OutputOptions) -> None:
    """Decode each prompt by the base, by the job's method and by best-of-n, and print the three.

    Best-of-n picks by the first reward, else by the guide.
    """
    from trimtab.decoding.methods import best_of_n, sampling
    from trimtab.runs.resolve import GuideSource

    if guide is None or job.guide is None:
        raise UsageError("--compare shows what a guide changes", got="no guide", do="add --guide")
    if job.n != 1:
        raise UsageError("--compare shows one response of each", got="--n", do="drop it")
    picker = GuideSource.on_prefixes(job.scorers[0]).open(job.lm) if job.scorers else job.guide
    rows, bound = max(1, job.rows // n), math.log(n) - (n - 1) / n if n > 1 else None
    best = replace(job, method=best_of_n(n), guide=picker, rows=rows)
    columns = [
        _decoded(replace(job, method=sampling(), guide=None), "base", None, output.quiet),
        _decoded(job, job.method.name, None, output.quiet),
        _decoded(best, f"best-of-{n}", bound, output.quiet),
    ]
    for index, answers in enumerate(zip(*columns, strict=True)):
        if output.json:
            for one in answers:
                prompt = job.prompts[index].text
                print_json({"index": index, "prompt": prompt, **one}, indent=None)
        else:
            _show(f"prompt {index + 1}" if len(job.prompts) > 1 else "", answers)


def _decoded(job: Job, label: str, bound: float | None, quiet: bool) -> list[dict[str, Any]]:
    """What a method says to each prompt; `bound` is of its KL where it has no exact one."""
    job.check()
    return [
        {
            "method": label,
            "text": answer.completion.text,
            "rewards": answer.scores,
            "kl": answer.completion.kl if bound is None else bound,
            "kl_is_bound": bound is not None,
            "tokens": len(answer.completion.tokens),
            "finish": answer.completion.finish,
        }
        for answers in job.answers(label=label, quiet=quiet)
        for answer in answers
    ]


def _show(title: str, answers: Sequence[Mapping[str, Any]]) -> None:
    """In columns where the screen is wide enough, else one below the other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if title:
        console.print(f"--- {title} ---", markup=False)
    if console.width < WIDE:
        for one in answers:
            console.print(Text(f"{one['method']}: {_facts(one)}", style="bold"), soft_wrap=True)
            console.print(Text(one["text"].strip()), "", soft_wrap=True)
        return
    table = Table(*(one["method"] for one in answers), box=None, expand=True, padding=(0, 2, 0, 0))
    table.add_row(*(Text(one["text"].strip()) for one in answers))
    table.add_row(*(Text(_facts(one), style="dim") for one in answers))
    console.print(table, "")


def _facts(one: Mapping[str, Any]) -> str:
    """Rewards, KL, length, and whether it was cut, in one line."""
    shown = _shown(one["rewards"])
    if one["kl"] is not None:
        shown.append(f"KL {'<= ' if one['kl_is_bound'] else ''}{one['kl']:.2f}")
    shown.append(f"{one['tokens']} tokens")
    return ", ".join([*shown, *(["cut"] if one["finish"] == "length" else [])])
