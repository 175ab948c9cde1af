"""Where rows of preferences come from: files, memory, the Hub; each row with its place."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.errors import FetchError, PromptError, UsageError
from trimtab.tasks.rows import Row, rows_of

Source: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A file, `hub:<dataset>[:split]`, or rows in memory."""

HUB = "hub:"
_KINDS = (".jsonl", ".json", ".parquet")


def preference_rows(source: Source) -> Iterator[Row]:
    """The rows of a source, in its order.

    Raises:
        PromptError: a line is no row.
        UsageError: the source can't be read, or is of no known kind.
        FetchError: the dataset can't be had.
    """
    if isinstance(source, str) and source.startswith(HUB):
        return _hub(source.removeprefix(HUB))
    if isinstance(source, str | Path):
        return _file(Path(source))
    return _rows(source, "row")


def _file(path: Path) -> Iterator[Row]:
    if path.suffix.lower() not in _KINDS:
        raise UsageError(
            f"a file of preferences must be one of {', '.join(_KINDS)}",
            got=str(path),
            do="convert it, or name a dataset of the Hub as hub:<dataset>:<split>",
        )
    return _list(path) if path.suffix.lower() == ".json" else rows_of(path)


def _list(path: Path) -> Iterator[Row]:
    """A JSON file that is one list of rows."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        must = f"{path} must be a readable file"
        raise UsageError(must, got=str(error), do="check the path") from error
    except ValueError as error:  # bad UTF-8 as well
        do = "write it anew, or name it .jsonl if each line is a row"
        raise UsageError(f"{path} must be JSON in UTF-8", got=str(error), do=do) from error
    if not isinstance(found, list):
        got = f"a {type(found).__name__}"
        raise UsageError(f"{path} must hold a list of rows", got=got, do="write a list")
    yield from _rows(found, f"{path.name}, row")


def _hub(name: str) -> Iterator[Row]:
    """A dataset of the Hub, or a folder that the package `datasets` can read."""
    name, _, split = name.partition(":")
    split = split or "train"
    try:
        found = importlib.import_module("datasets").load_dataset(name, split=split)
    except ModuleNotFoundError as missing:
        raise UsageError(
            "datasets of the Hub need the package datasets",
            got=f"no module named {missing.name!r}",
            do="run: pip install 'trimtab[data]', or name a file",
        ) from missing
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FetchError(
            "a dataset must be one of the Hub that can be reached, with that split",
            got=f"{name!r}, split {split!r} ({reason})",
            do="check the name and the network, or name a file",
        ) from error
    yield from _rows(found, f"{name} ({split}), row")


def _rows(rows: Iterable[object], place: str) -> Iterator[Row]:
    for number, values in enumerate(rows, start=1):
        if not isinstance(values, Mapping):
            must = f"{place} {number}: must be an object with columns"
            raise PromptError(must, got=repr(values)[:80], do="correct that row")
        yield Row(f"{place} {number}", values)
