"""Where rows of preferences come from: files, memory, the Hub; each row with its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.errors import UsageError
from trimtab.tasks.files import HubData, Row, mapped, rows_of

Source: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A file, `hub:DATASET[@SPLIT]`, or rows in memory."""


def preference_rows(source: Source) -> Iterator[Row]:
    """The rows of a source, in its order; of a data set, its training split if it names none.

    Raises:
        PromptError: a line is no row.
        UsageError: the source can't be read, or is of no known kind.
        FetchError: the dataset can't be had.
    """
    hub = HubData.parse(source)
    if hub is not None:
        if hub.column is not None:
            raise UsageError(
                "preferences have columns of fixed names",
                got=f"#{hub.column}",
                do="name no column",
            )
        return hub.rows(hub.split or "train")
    if isinstance(source, str | Path):
        return rows_of(source)
    return mapped(source, "row")
