"""Where rows of preferences come from: files, memory, the Hub; each row with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.errors import FetchError
from trimtab.plugins import optional
from trimtab.tasks.rows import Row, mapped, rows_of

Source: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A file, `hub:<dataset>[:split]`, or rows in memory."""

HUB = "hub:"


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
        return rows_of(source)
    return mapped(source, "row")


def _hub(name: str) -> Iterator[Row]:
    """A dataset of the Hub, or a folder that the package `datasets` can read."""
    name, _, split = name.partition(":")
    split = split or "train"
    hub = optional("datasets", "data", user="a data set of the Hub")
    try:
        found = hub.load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FetchError(
            "a dataset must be one of the Hub that can be reached, with that split",
            got=f"{name!r}, split {split!r} ({reason})",
            do="check the name and the network, or name a file",
        ) from error
    yield from mapped(found, f"{name} ({split}), row")
