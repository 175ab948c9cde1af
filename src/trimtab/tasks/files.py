"""Rows of a user's data, each with the place that errors name: the one reader of files and the Hub.

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
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import FetchError, PromptError, UsageError
from trimtab.plugins import optional
from trimtab.types import Message

HUB = "hub:"
"""What the name of a data set of the Hub begins with."""

_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        place: what errors call it: "prompts.jsonl, line 3".
        values: its columns.
    """

    place: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """A column that must hold text, and not only blanks."""
        value = self.values[column]
        if not isinstance(value, str) or not value.strip():
            got = "nothing" if value is None else repr(value)[:80]
            raise self.error(f"`{column}` must be a text that is not empty", got)
        if not _encodes(value):
            raise self.error(f"`{column}` must be Unicode text", f"half a letter in {value!r:.80}")
        return value

    def prompt(self, column: str | None = None) -> str | tuple[Message, ...]:
        """What is asked, a text or a conversation: that column, else `prompt`, else `messages`."""
        if column is None:
            there = [name for name in ("prompt", "messages") if name in self.values]
            given = [name for name in there if self.values[name] is not None]
            column = (given or there or ["messages"])[0]
        elif column not in self.values:
            raise self.error(f"a row must have the column {column!r}", self._columns)
        talk = column == "messages" or isinstance(self.values[column], list)
        return self.messages(column) if talk else self.text(column)

    def texts(self, column: str) -> None:
        """Checks a column that must hold a text or several."""
        value = self.values[column]
        many = [value] if isinstance(value, str) else value
        if not isinstance(many, list) or not many or not all(isinstance(t, str) for t in many):
            raise self.error(f"`{column}` must be a text or a list of texts", repr(value)[:80])

    def one_of(self, column: str, known: tuple[str, ...]) -> None:
        """Checks a column that must hold one of a few words."""
        if self.values[column] not in known:
            raise self.error(f"`{column}` must be {', '.join(known)}", repr(self.values[column]))

    def messages(self, column: str) -> tuple[Message, ...]:
        """A column that must hold a conversation."""
        value = self.values.get(column)
        if value is None:
            do = "correct that row, or name another column by column=..."
            raise self.error(f"a row must have a `prompt` or `{column}`", self._columns, do)
        if not isinstance(value, list) or not value:
            raise self.error(f"`{column}` must be a list of messages", repr(value)[:80])
        return tuple(self._message(turn) for turn in value)

    def _message(self, turn: object) -> Message:
        whole = isinstance(turn, dict) and turn.get("role") in _ROLES
        if not whole or not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            must = f"a message must have a role ({', '.join(_ROLES)}) and a text as content"
            raise self.error(must, repr(turn)[:80])
        if not turn["content"].strip():
            raise self.error("a message must not be empty", repr(turn)[:80])
        return {"role": turn["role"], "content": turn["content"]}

    def error(self, must: str, got: str, do: str = "correct that row") -> PromptError:
        """What is wrong with this row, and where it is."""
        return PromptError(f"{self.place}: {must}", got=got, do=do)

    @property
    def _columns(self) -> str:
        return ", ".join(map(str, self.values)) or "no column"


def _encodes(text: str) -> bool:
    """Whether it is Unicode: JSON can spell half of a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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

        Raises:
            UsageError: it is written in another way.
        """
        if not isinstance(source, str | Path) or not str(source).startswith(HUB):
            return None
        rest, _, column = str(source).removeprefix(HUB).partition("#")
        dataset, _, split = rest.partition("@")
        if not dataset or ":" in dataset:
            raise UsageError(
                "a data set of the Hub must be written hub:DATASET[@SPLIT][#COLUMN]",
                got=repr(source),
                do="write it as in hub:HuggingFaceH4/ultrachat_200k@train_sft#prompt",
            )
        return cls(dataset, split or None, column or None)

    def splits(self) -> tuple[str, ...]:
        """The names of all of its splits.

        Raises:
            FetchError: the data set can't be had.
            UsageError: the package `datasets` is not installed.
        """
        return tuple(_hub("get_dataset_split_names", self.dataset))

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split, in its order.

        Raises:
            FetchError: the data set can't be had, or has no such split.
            UsageError: the package `datasets` is not installed.
        """
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
    """The rows of a file.

    Raises:
        PromptError: a line is no row.
        UsageError: the file can't be read, or is of no known kind.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind and kind not in KINDS:
        raise UsageError(
            f"a file of rows must be one of {', '.join(KINDS)}",
            got=str(path),
            do="convert it, or name it by its kind",
        )
    try:
        if kind == PARQUET:
            return _read_parquet(path)
        return rows_in(path.read_bytes(), path.name, kind)
    except OSError as error:
        raise _unreadable(str(path), error.strerror or str(error)) from error


def rows_in(data: bytes, name: str, kind: str = "") -> Iterator[Row]:
    """The rows of a text of that kind.

    Args:
        data: UTF-8.
        name: what errors call it.
        kind: one of `KINDS` that is text; "" looks whether it begins with "{", as JSON lines do.

    Raises:
        PromptError: a line is no row.
        UsageError: it is not UTF-8.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(name, str(error)) from error
    if not kind:
        kind = ".jsonl" if text.lstrip().startswith("{") else ".txt"
    return _TEXTS[kind](text, name)


def mapped(rows: Iterable[object], place: str) -> Iterator[Row]:
    """Objects as rows, numbered from 1.

    Raises:
        PromptError: one has no columns.
    """
    for number, values in enumerate(rows, start=1):
        if not isinstance(values, Mapping):
            must = f"{place} {number}: must be an object with columns"
            raise PromptError(must, got=repr(values)[:80], do="correct that row")
        yield Row(f"{place} {number}", values)


def _unreadable(name: str, reason: str) -> UsageError:
    return UsageError(f"{name} must be a readable file in UTF-8", got=reason, do="check the path")


def _lines(text: str, name: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, as they are, and where they are."""
    for number, line in enumerate(re.split("\r?\n", text), start=1):
        if line.strip():
            yield f"{name}, line {number}", line


def _read_text(text: str, name: str) -> Iterator[Row]:
    for place, line in _lines(text, name):
        yield Row(place, {"prompt": line})


def _read_json_lines(text: str, name: str) -> Iterator[Row]:
    for place, line in _lines(text, name):
        try:
            values = json.loads(line)
        except ValueError as error:
            must = f"{place}: must be JSON"
            raise PromptError(must, got=str(error), do="correct that line") from error
        if not isinstance(values, dict):
            raise Row(place, {}).error("must be an object", repr(values)[:80])
        yield Row(place, values)


def _read_json(text: str, name: str) -> Iterator[Row]:
    try:
        found = json.loads(text)
    except ValueError as error:
        do = "write it anew, or name it .jsonl if each line is a row"
        raise UsageError(f"{name} must be JSON", got=str(error), do=do) from error
    if not isinstance(found, list):
        do = "write a list, or name it .jsonl if each line is a row"
        raise UsageError(f"{name} must hold a list of rows", got=f"a {type(found).__name__}", do=do)
    return mapped(found, f"{name}, row")


def _read_csv(text: str, name: str, delimiter: str = ",") -> Iterator[Row]:
    with _long_cells():
        lines = io.StringIO(text, newline="\n")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        head: list[str] = []
        rows: list[Row] = []
        while True:
            place = f"{name}, line {reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                do = "put the cell into quotes, and double the quotes in it"
                raise PromptError(f"{place}: must be CSV", got=str(error), do=do) from error
            if cells is None:
                return iter(rows)
            if not cells:  # a blank line
                continue
            if not head:
                head = _head(cells, place)
                continue
            if len(cells) != len(head):
                do = "put a cell with commas or line ends into quotes"
                must = f"{place}: a row must have {len(head)} cells, as the head has"
                raise PromptError(must, got=f"{len(cells)}", do=do)
            rows.append(Row(place, {k: v or None for k, v in zip(head, cells, strict=True)}))


def _head(cells: list[str], place: str) -> list[str]:
    twice = sorted({name for name in cells if cells.count(name) > 1})
    if twice:
        must = f"{place}: each column must have a name of its own"
        raise PromptError(must, got=f"{twice[0]!r} twice", do="rename one of them")
    return cells


@contextmanager
def _long_cells() -> Iterator[None]:
    """The csv module takes no cell of more than 131,072 letters, for the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            rows = file.read().to_pylist()
    except pa.ArrowException as error:
        must = f"{path} must be a Parquet file"
        raise UsageError(must, got=str(error), do="write it anew") from error
    return mapped(rows, f"{path.name}, row")


_TEXTS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": lambda text, name: _read_csv(text, name, "\t"),
}
PARQUET = ".parquet"
KINDS = (*_TEXTS, PARQUET)
"""The endings that are known."""
