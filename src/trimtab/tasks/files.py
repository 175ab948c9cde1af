"""Prompts from files and the Hub, each row with the place that errors name; the split by topic.

    .txt                a prompt a line
    .jsonl              an object a line
    .json               one list of objects
    .csv, .tsv          a head with the columns' names, then cells; an empty cell is none
    .parquet            columns
    hub:DATASET[@SPLIT][#COLUMN]      a data set of the Hugging Face Hub, by the package `datasets`

A file's ending decides; a name without one, and stdin, is a text, or JSON lines where it begins
with "{". Text is UTF-8, with or without a byte order mark. A line ends at a line feed,
with or without a carriage return before it: U+2028, U+0085 and form feeds are letters.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from trimtab.errors import FetchError, PromptError, UsageError, check_word
from trimtab.plugins import optional
from trimtab.types import Message, Sample, Split

_SPLITS = tuple(split for split in get_args(Split) if split != "all")
_TRAIN, _VALIDATION = 0.60, 0.75  # the ends of their shares; the rest is for the test


# --- splits --------------------------------------------------------------------------------------


def split_of(topic: str) -> Split:
    """Which split a topic is in: 60 % train, 15 % validation, 25 % test.

    It depends on the topic alone, so it stays where it is when others come or go, and a topic that
    two tasks share is in the same split of both: a guide trained on one may be tested on the other.

    >>> split_of("coffee"), split_of("fog"), split_of("bag")
    ('train', 'validation', 'test')
    """
    digest = hashlib.sha256(topic.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if share < _TRAIN else "validation" if share < _VALIDATION else "test"


def in_split(samples: Iterable[Sample], split: str, name: str) -> tuple[Sample, ...]:
    """The samples of one split, in their order: the split that a sample names, else its topic's.

    Raises:
        UnknownNameError: there is no such split.
        PromptError: nothing is in it; the message calls the samples by their task's `name`.
    """
    check_word("split", split, Split)
    chosen = tuple(s for s in samples if split in ("all", s.meta.get("split") or split_of(s.topic)))
    if not chosen:
        do = "take another split, or more prompts"
        raise PromptError(f"the split {split!r} of {name!r} must hold prompts", got="none", do=do)
    return chosen


# --- samples -------------------------------------------------------------------------------------


def read_samples(
    source: str | Path, column: str | None = None, split: str = "all"
) -> tuple[Sample, ...]:
    """Reads the prompts of a file, or of a data set of the Hub.

    In a text file (.txt) each line is a prompt. In JSON lines (.jsonl, or a list in .json), CSV
    (.csv, .tsv; its first line names the columns), Parquet (.parquet) and on the Hub each row has a
    `prompt` (a text) or `messages` (`[{"role": "user", "content": "..."}]`); it may have a `topic`,
    which decides its split, or a `split` of its own. All other columns are kept as `meta`;
    `reference`, a text or a list of texts, is what some rewards compare a response with.

    `hub:DATASET` has the splits of the data set. The rows of `hub:DATASET@SPLIT` are split by topic
    like those of a file, so that splits of any name can be used.

    Args:
        source: the file, whose ending says what it holds, or `hub:DATASET[@SPLIT][#COLUMN]`.
        column: where a row's prompt is, if neither in `prompt` nor in `messages`.
        split: which of them: "train", "validation", "test" or "all".

    Raises:
        PromptError: a row is no prompt (its file and line are named), or the split is empty.
        UsageError: the file can't be read, or is of no known kind.
        FetchError: the data set can't be had.
    """
    check_word("split", split, Split)
    hub = HubData.parse(source)
    if hub is None:
        samples = samples_of(rows_of(source), str(source), column)
    else:
        samples = _from_hub(hub, column, split)
    return in_split(samples, split, Path(source).stem if hub is None else str(source))


def samples_of(rows: Iterable[Row], name: str, column: str | None = None) -> tuple[Sample, ...]:
    """Rows of a file of that name as samples; their prompts are in `column` as for `read_samples`.

    Raises:
        PromptError: a row is no prompt, or there is none.
    """
    samples = tuple(row.sample(column) for row in rows)
    if not samples:
        raise PromptError(f"{name} must hold prompts", got="none", do="write one per line")
    return samples


def _from_hub(hub: HubData, column: str | None, split: str) -> tuple[Sample, ...]:
    """The samples of the split that is named, else of the data set's own splits, marked so."""
    if column and hub.column and column != hub.column:
        raise UsageError(
            "the column of the prompts must be named once",
            got=f"#{hub.column} and {column!r}",
            do="drop one of them",
        )
    parts = (hub.split,) if hub.split else hub.splits() if split == "all" else (split,)
    samples: list[Sample] = []
    for part in parts:
        read = samples_of(hub.rows(part), f"{hub.dataset} ({part})", hub.column or column)
        if part in _SPLITS and not hub.split:
            read = tuple(replace(sample, meta={**sample.meta, "split": part}) for sample in read)
        samples += read
    return tuple(samples)


# --- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The columns of one row, and the place that errors name: "prompts.jsonl, line 3"."""

    place: str
    values: Mapping[str, Any]

    def error(self, must: str, got: str, do: str = "correct that row") -> PromptError:
        """What is wrong with this row, and where it is."""
        return PromptError(f"{self.place}: {must}", got=got, do=do)

    def text(self, column: str) -> str:
        """A column that must hold text, and not only blanks."""
        value = self.values[column]
        if not isinstance(value, str) or not value.strip():
            got = "nothing" if value is None else repr(value)[:80]
            raise self.error(f"`{column}` must be a text that is not empty", got)
        if re.search(r"[\ud800-\udfff]", value):  # half a pair of surrogates: JSON can spell it
            raise self.error(f"`{column}` must be Unicode text", f"half a letter in {value!r:.80}")
        return value

    def messages(self, column: str) -> tuple[Message, ...]:
        """A column that must hold a conversation."""
        value = self.values.get(column)
        if value is None:
            do = "correct that row, or name another column by column=..."
            raise self.error(f"a row must have a `prompt` or `{column}`", self._columns, do)
        if not isinstance(value, list) or not value:
            raise self.error(f"`{column}` must be a list of messages", repr(value)[:80])
        return tuple(self._message(turn) for turn in value)

    def _message(self, turn: Any) -> Message:
        match turn:
            case {"role": "system" | "user" | "assistant" as role, "content": str(content)}:
                if content.strip():
                    return {"role": role, "content": content}
                raise self.error("a message must not be empty", repr(turn)[:80])
        must = "a message must have a role (system, user, assistant) and a text as content"
        raise self.error(must, repr(turn)[:80])

    def prompt(self, column: str | None = None) -> str | tuple[Message, ...]:
        """A text or a conversation: that column, else `prompt`, else `messages`."""
        if column is None:
            given = [c for c in ("prompt", "messages") if self.values.get(c) is not None]
            column = given[0] if given else "prompt" if "prompt" in self.values else "messages"
        elif column not in self.values:
            raise self.error(f"a row must have the column {column!r}", self._columns)
        talk = column == "messages" or isinstance(self.values[column], list)
        return self.messages(column) if talk else self.text(column)

    def sample(self, column: str | None) -> Sample:
        """The row as a prompt; its text is its topic where it names none."""
        prompt = self.prompt(column)
        topic = self.text("topic") if self.values.get("topic") is not None else None
        used = ("prompt", "messages", "topic", column)
        meta = {name: value for name, value in self.values.items() if name not in used}
        if meta.get("split") is None:
            meta.pop("split", None)
        elif meta["split"] not in _SPLITS:
            raise self.error(f"`split` must be {', '.join(_SPLITS)}", repr(meta["split"]))
        if (reference := meta.get("reference")) is not None:
            many = [reference] if isinstance(reference, str) else reference
            if not isinstance(many, list) or not many or not all(isinstance(t, str) for t in many):
                must = "`reference` must be a text or a list of texts"
                raise self.error(must, repr(reference)[:80])
        last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        return Sample(prompt, topic or last, meta)

    @property
    def _columns(self) -> str:
        return ", ".join(map(str, self.values)) or "no column"


def mapped(rows: Iterable[object], place: str) -> Iterator[Row]:
    """Objects as rows, numbered from 1."""
    for number, values in enumerate(rows, start=1):
        at = f"{place} {number}"
        if not isinstance(values, Mapping):
            raise Row(at, {}).error("must be an object with columns", repr(values)[:80])
        yield Row(at, values)


# --- the Hub -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HubData:
    """What `hub:DATASET[@SPLIT][#COLUMN]` names.

    Attributes:
        dataset: its id on the Hub, or a folder that the package `datasets` reads.
        split: one of its splits, or a part of it as in "train[:1000]"; None where none is named.
        column: where a row's prompt is; None where none is named.
    """

    dataset: str
    split: str | None = None
    column: str | None = None

    @classmethod
    def parse(cls, source: object) -> HubData | None:
        """The data set that a text or path names; None where it names something else.

        >>> HubData.parse("hub:some/pairs@train[:1000]#question")
        HubData(dataset='some/pairs', split='train[:1000]', column='question')
        """
        if not isinstance(source, str | Path) or not str(source).startswith("hub:"):
            return None
        rest, _, column = str(source).removeprefix("hub:").partition("#")
        dataset, _, split = rest.partition("@")
        if not dataset or ":" in dataset:
            raise UsageError(
                "a data set of the Hub must be written hub:DATASET[@SPLIT][#COLUMN]",
                got=repr(source),
                do="write it as in hub:HuggingFaceH4/ultrachat_200k@train_sft#prompt",
            )
        return cls(dataset, split or None, column or None)

    def splits(self) -> tuple[str, ...]:
        """The names of all of its splits."""
        return tuple(_hub("get_dataset_split_names", self.dataset))

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split, in its order."""
        rows = _hub("load_dataset", self.dataset, split=split)
        return mapped(rows, f"{self.dataset} ({split}), row")


def _hub(function: str, dataset: str, **split: str) -> Any:
    package = optional("datasets", "data", user="a data set of the Hub")
    try:
        return getattr(package, function)(dataset, **split)
    except Exception as error:  # the package raises whatever its parts raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = "".join([repr(dataset), *(f", split {name!r}" for name in split.values())])
        raise FetchError(
            "a data set must be one of the Hub that can be reached, with the split that is read",
            got=f"{name} ({type(error).__name__}: {reason})",
            do="check the name and the network, name a split as hub:DATASET@SPLIT, or name a file",
        ) from error


# --- files ---------------------------------------------------------------------------------------


def rows_of(path: str | Path) -> Iterator[Row]:
    """The rows of a file."""
    path = Path(path)
    kind = path.suffix.lower()
    if kind and kind not in KINDS:
        raise UsageError(
            f"a file of rows must be one of {', '.join(KINDS)}",
            got=str(path),
            do="convert it, or name it by its kind",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(str(path), error.strerror or str(error)) from error
    return rows_in(data, path.name, kind)


def rows_in(data: bytes, name: str, kind: str = "") -> Iterator[Row]:
    """The rows of a file of one of `KINDS`; without one it is text, whose beginning tells."""
    if kind == ".parquet":
        return _read_parquet(data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(name, str(error)) from error
    if not kind:
        kind = ".jsonl" if text.lstrip().startswith("{") else ".txt"
    return _TEXTS[kind](text, name)


def _unreadable(name: str, reason: str) -> UsageError:
    return UsageError(f"{name} must be a readable file in UTF-8", got=reason, do="check the path")


def _read_text(text: str, name: str) -> Iterator[Row]:
    """A row for each line that is not blank, as it is."""
    for number, line in enumerate(re.split("\r?\n", text), start=1):
        if line.strip():
            yield Row(f"{name}, line {number}", {"prompt": line})


def _read_json_lines(text: str, name: str) -> Iterator[Row]:
    for line in _read_text(text, name):
        try:
            values = json.loads(line.values["prompt"])
        except ValueError as error:
            raise line.error("must be JSON", str(error), "correct that line") from error
        if not isinstance(values, dict):
            raise line.error("must be an object", repr(values)[:80])
        yield Row(line.place, values)


def _read_json(text: str, name: str) -> Iterator[Row]:
    do = "write a list, or name it .jsonl if each line is a row"
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} must be JSON", got=str(error), do=do) from error
    if not isinstance(found, list):
        raise UsageError(f"{name} must hold a list of rows", got=f"a {type(found).__name__}", do=do)
    return mapped(found, f"{name}, row")


def _read_csv(text: str, name: str, delimiter: str = ",") -> Iterator[Row]:
    before = csv.field_size_limit(2**31 - 1)  # else no cell of more than 131,072 letters is read
    try:
        rows = list(_cells(text, name, delimiter))
    finally:
        csv.field_size_limit(before)  # which holds for the whole process
    head = rows[0][1] if rows else []
    for column in head:
        if head.count(column) > 1:
            must = f"{rows[0][0]}: each column must have a name of its own"
            raise PromptError(must, got=f"{column!r} twice", do="rename one of them")
    for place, cells in rows[1:]:
        if len(cells) != len(head):
            do = "put a cell with commas or line ends into quotes"
            must = f"{place}: a row must have {len(head)} cells, as the head has"
            raise PromptError(must, got=f"{len(cells)}", do=do)
        yield Row(place, {k: v or None for k, v in zip(head, cells, strict=True)})


def _cells(text: str, name: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Rows of cells that are not blank, each with the line in which it begins."""
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    while True:
        place = f"{name}, line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            do = "put the cell into quotes, and double the quotes in it"
            raise PromptError(f"{place}: must be CSV", got=str(error), do=do) from error
        if cells is None:
            return
        if cells:
            yield place, cells


def _read_parquet(data: bytes, name: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(pa.BufferReader(data)).read().to_pylist()
    except pa.ArrowException as error:
        must = f"{name} must be a Parquet file"
        raise UsageError(must, got=str(error), do="write it anew") from error
    return mapped(rows, f"{name}, row")


_TEXTS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
}
KINDS = (*_TEXTS, ".parquet")
