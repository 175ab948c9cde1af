"""Tables, cells and the manifest of a results folder, read back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from trimtab.errors import ResultsError
from trimtab.evaluation.cells import title
from trimtab.evaluation.measured import Row
from trimtab.evaluation.metrics import Column
from trimtab.evaluation.store import read_manifest


@dataclass(frozen=True)
class Entry:
    """A row of a table with the cell behind it.

    Attributes:
        row: the figures.
        cell: what `cells/<key>.json` holds.
        name: the method, and its guide where the table has several.
    """

    row: Row
    cell: Mapping[str, Any]
    name: str

    def number(self, column: str) -> float | None:
        """A figure; None where it does not exist."""
        value = self.row.get(column)
        return float(value) if isinstance(value, int | float) else None

    @property
    def beta(self) -> float:
        """The strength."""
        return float(self.cell["method"]["beta"])

    @property
    def guide(self) -> str | None:
        """The name of its guide."""
        guide = self.cell["guide"]
        return guide and str(guide["name"])

    @property
    def guided(self) -> bool:
        """Whether a guide steers it."""
        return self.cell["guide"] is not None

    @property
    def family(self) -> str:
        """Its name without the strength."""
        return re.sub(r"beta=[^,)]+(, )?", "", self.name).replace("()", "")


@dataclass(frozen=True)
class Sheet:
    """A table: one split of the task.

    Attributes:
        about: task, split, model, scorers, baseline.
        entries: the rows.
        best_of: best-of-n from the base's own samples, for n = 1, 2, 4, ...
        asked: name, heading and format of the figures that were asked for by name.
    """

    about: Mapping[str, Any]
    entries: tuple[Entry, ...]
    best_of: tuple[Row, ...]
    asked: tuple[Column, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        """The scores that there are: "reward", and perhaps "judge"."""
        return tuple(role for role in ("reward", "judge") if role in self.about)

    @property
    def baseline(self) -> Entry:
        """The row that others are compared with."""
        label = self.about["baseline"]
        return next((e for e in self.entries if e.row["method"] == label), self.entries[0])


@dataclass(frozen=True)
class Results:
    """A results folder.

    Attributes:
        folder: where.
        manifest: the model, the task and the version that all of it shares.
        sheets: tables by split.
        sweep: which strengths were chosen and why; None where nothing was swept.
    """

    folder: Path
    manifest: Mapping[str, Any]
    sheets: Mapping[str, Sheet]
    sweep: Mapping[str, Any] | None

    @cached_property
    def head(self) -> Sheet:
        """The table that conclusions rest on: fresh prompts after a sweep, else the test split."""
        wanted = [self.sweep["score_on"]] if self.sweep else []
        order = [*wanted, "test", "validation", *self.sheets]
        return next(self.sheets[split] for split in order if split in self.sheets)

    @cached_property
    def grid(self) -> Sheet:
        """The table of all strengths."""
        split = self.sweep["choose_on"] if self.sweep else None
        return self.sheets.get(split, self.head) if split else self.head


def read_results(folder: str | Path) -> Results:
    """Read a results folder.

    Raises:
        ResultsError: it is none, or no run in it has finished.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    sheets, sweep = {}, None
    for path in sorted((folder / "tables").glob("*.json")):
        if path.stem == "sweep":
            sweep = read_json(path)
        else:
            sheets[path.stem] = _sheet(folder, read_json(path))
    if not sheets:
        raise ResultsError(
            "a report needs a finished table",
            got=f"none in {folder / 'tables'}",
            do="run the evaluation again to its end: what is finished is kept",
        )
    return Results(folder, manifest, sheets, sweep)


def read_json(path: Path) -> Any:
    """A file of the folder.

    Raises:
        ResultsError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResultsError(
            "every file that a table rests on must be whole",
            got=f"{path} ({type(error).__name__})",
            do="run the evaluation again: it computes only what is missing",
        ) from error


def _sheet(folder: Path, table: Mapping[str, Any]) -> Sheet:
    several = len({row["guide"] for row in table["rows"]} - {None}) > 1
    asked = tuple((name, heading, form) for name, heading, form in table.get("asked", ()))
    entries = []
    for row, key in zip(table["rows"], table["about"]["cells"], strict=True):
        name = title(str(row["method"]), row["guide"], named=several)
        cell = read_json(folder / "cells" / f"{key}.json")
        entries.append(Entry(row, cell, name))
    return Sheet(table["about"], tuple(entries), tuple(table["best_of"]), asked)
