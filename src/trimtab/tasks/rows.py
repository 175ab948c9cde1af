"""Rows of a user's file, each with the place that errors name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import PromptError, UsageError
from trimtab.types import Message

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
            raise self.error(f"`{column}` must be a text that is not empty", repr(value)[:80])
        return value

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
            names = ", ".join(map(str, self.values)) or "no column"
            raise self.error(f"a row must have a `prompt` or `{column}`", names)
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

    def error(self, must: str, got: str) -> PromptError:
        """What is wrong with this row, and where it is."""
        return PromptError(f"{self.place}: {must}", got=got, do="correct that row")


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a text, JSON lines or Parquet file.

    Raises:
        PromptError: a line is no row.
        UsageError: the file can't be read, or is of no known kind.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(
            f"a file of prompts must be one of {', '.join(_READERS)}",
            got=str(path),
            do="convert it, or name it by its kind",
        )
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} must be a readable file in UTF-8", got=str(error), do="check the path"
        ) from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, and where they are. A byte order mark is no part of the first."""
    text = path.read_text(encoding="utf-8-sig")
    for number, line in enumerate(text.split("\n"), start=1):  # not at U+2028, as splitlines does
        if line.strip():
            yield f"{path.name}, line {number}", line.strip()


def _read_text(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        yield Row(place, {"prompt": line})


def _read_json_lines(path: Path) -> Iterator[Row]:
    for place, line in _lines(path):
        try:
            values = json.loads(line)
        except ValueError as error:
            must = f"{place}: must be JSON"
            raise PromptError(must, got=str(error), do="correct that line") from error
        if not isinstance(values, dict):
            raise Row(place, {}).error("must be an object", repr(values)[:80])
        yield Row(place, values)


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        must = f"{path} must be a Parquet file"
        raise UsageError(must, got=str(error), do="write it anew") from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield Row(f"{path.name}, row {number}", values)


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
