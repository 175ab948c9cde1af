"""A file of responses that a killed job leaves in a state to go on from.

    FILE.part     a line with the settings, then a line of JSON per response, in order, while the
                  job works
    FILE          the responses, once all are there; made from the above in one rename

A response counts when its line ends, and a prompt when it has all its responses; what follows the
last such prompt is cut off before the job goes on. A job of other settings or prompts is refused.
"""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from trimtab.errors import OutputError, UsageError
from trimtab.files import replacing

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.runs.resolve import GuideSource, Scorer
    from trimtab.types import Prompt

KINDS = (".jsonl", ".csv", ".parquet")
_ROWS = 1000  # that are held at once while a .parquet is made


def check(path: Path, *, overwrite: bool, ledger: bool) -> None:
    """Raise a `UsageError` for a file that cannot be meant, before anything is loaded."""
    kind = path.suffix.lower()
    if kind not in KINDS:
        do = "name it by its kind"
        raise UsageError(f"--out must be one of {', '.join(KINDS)}", got=str(path), do=do)
    if ledger and kind != ".jsonl":
        do = "name it .jsonl, or drop --json"
        raise UsageError("the ledger of --json needs a .jsonl", got=str(path), do=do)
    if path.exists() and not overwrite:
        do = "name another, or pass --overwrite"
        raise UsageError(f"{path} must not exist yet", got="something there", do=do)


def settings_of(
    lm: TransformersLM, method: Method, guide: GuideSource | None, scorers: Sequence[Scorer]
) -> dict[str, Any]:
    """What the responses depend on beside the options, in JSON's types."""
    from trimtab import version
    from trimtab.cli.methods import parts_of
    from trimtab.runs.identity import identify

    return {
        "trimtab": version.__version__,
        "base": identify(lm).identity(),
        "template": lm.codec.template,
        "parts": parts_of(method),
        "steering": guide.fingerprint if guide else None,
        "rewards": {scorer.name: scorer.fingerprint for scorer in scorers},
    }


class Lines:
    """Where responses are written; a full disk is an error in our words."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path

    def write(self, text: str) -> None:
        """Appends a text."""
        with _writing(self.path):
            self.file.write(text.encode())

    def flush(self) -> None:
        """Hands what was written to the system, which keeps it if this process is killed."""
        with _writing(self.path):
            self.file.flush()


@dataclass(frozen=True)
class Begun:
    """A job's unfinished file.

    Attributes:
        out: where more responses are written, a line of JSON each.
        done: prompts that have all their responses already.
    """

    out: Lines
    done: int


@contextmanager
def unfinished(
    path: Path, settings: dict[str, Any], prompts: Sequence[Prompt], n: int, *, overwrite: bool
) -> Iterator[Begun]:
    """The responses so far; the file takes its name when the block ends without an error.

    Args:
        path: of the finished file; its ending is one of `KINDS`.
        settings: all that the responses depend on beside the prompts, in JSON's types.
        prompts: all of the job.
        n: responses to each.
        overwrite: begin anew where another job was begun.

    Raises:
        UsageError: a job of other settings or prompts was begun, or another process is at it.
        OutputError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    head = json.dumps(settings, sort_keys=True).encode() + b"\n"
    with _alone(path):
        with _writing(path):
            done, end = _kept(part, json.loads(head), prompts, n, overwrite=overwrite)
            file = part.open("r+b" if part.exists() else "w+b")
        try:
            with _writing(path):
                file.truncate(end)
                file.seek(end)
                if not end:
                    file.write(head)
            yield Begun(Lines(file, path), done)
        finally:
            with _writing(path):
                file.close()
        with _writing(path):
            _publish(part, path)
            part.unlink()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds a lock beside the file; a killed process' lock is free."""
    from filelock import FileLock, Timeout

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


def _kept(
    part: Path, settings: dict[str, Any], prompts: Sequence[Prompt], n: int, *, overwrite: bool
) -> tuple[int, int]:
    """How many prompts are done, and the bytes up to the last one's end."""
    if not part.exists():
        return 0, 0
    with part.open("rb") as file:
        head = file.readline()
        begun = _whole(head)
        if begun is None or (overwrite and begun != settings):
            return 0, 0
        if begun != settings:
            names = {**settings, **begun}
            name = next(k for k in names if settings.get(k) != begun.get(k))
            got = f"{name} {settings.get(name)!r}, begun with {begun.get(name)!r}"
            raise _refused(part, "settings", got)
        done, end = 0, len(head)
        while rows := _responses(file, n):
            if done == len(prompts) or not all(_answers(row, prompts[done]) for row in rows[0]):
                if overwrite:
                    return 0, 0
                raise _refused(part, "prompts", f"others, from prompt {done + 1} on")
            done, end = done + 1, end + rows[1]
    return done, end


def _responses(file: BinaryIO, n: int) -> tuple[list[dict[str, Any]], int] | None:
    """The next prompt's responses and their bytes; None where they are not all there."""
    lines = [file.readline() for _ in range(n)]
    rows = [row for line in lines if (row := _whole(line)) is not None]
    return (rows, sum(map(len, lines))) if len(rows) == n else None


def _whole(line: bytes) -> dict[str, Any] | None:
    """A line as an object; None where it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
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


# --- the finished file ---------------------------------------------------------------------------


def _publish(part: Path, path: Path) -> None:
    """The responses under their final name, in their final form."""
    write = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}[path.suffix.lower()]
    with replacing(path, locked=True) as whole, part.open("rb") as lines:
        lines.readline()  # the settings
        write(lines, whole)


def _jsonl(lines: BinaryIO, path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(lines, out)


def _csv(lines: BinaryIO, path: Path) -> None:
    """Lists and rewards as JSON in their cells."""
    with path.open("w", encoding="utf-8", newline="") as out:
        for i, row in enumerate(map(json.loads, lines)):
            if i == 0:
                # All quoted: a bare carriage return would end the row for most readers.
                table = csv.DictWriter(out, list(row), quoting=csv.QUOTE_ALL, lineterminator="\n")
                table.writeheader()
            nested = {k: json.dumps(v) for k, v in row.items() if isinstance(v, list | dict)}
            table.writerow(row | nested)


def _parquet(lines: BinaryIO, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in itertools.islice(lines, _ROWS)]
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    fields = [
        *[("index", pa.int64()), ("model", pa.string()), ("method", pa.string())],
        *[("beta", pa.float64()), ("guide", pa.string()), ("seed", pa.int64())],
        *[("prompt", pa.string()), ("messages", pa.list_(message)), ("sample", pa.int64())],
        *[("text", pa.string()), ("finish", pa.string()), ("tokens", pa.list_(pa.int64()))],
        *[("kl", pa.float64()), ("logprob", pa.float64()), ("ref_logprob", pa.float64())],
        *[("base_tokens", pa.float64()), ("guide_tokens", pa.float64())],
    ]
    if "rewards" in rows[0]:
        names = rows[0]["rewards"]
        fields.append(("rewards", pa.struct([(name, pa.float64()) for name in names])))
    schema = pa.schema(fields)
    with pq.ParquetWriter(path, schema) as table:
        while rows:
            table.write_table(pa.Table.from_pylist(rows, schema))
            rows = [json.loads(line) for line in itertools.islice(lines, _ROWS)]
