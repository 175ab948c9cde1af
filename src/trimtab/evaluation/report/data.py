"""Everything that a report shows, before anybody says how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.evaluation.report import grids
from trimtab.evaluation.report.canvas import Drawing
from trimtab.evaluation.report.curves import curves, find_peak
from trimtab.evaluation.report.grids import Grid
from trimtab.evaluation.report.plots import drawings
from trimtab.evaluation.report.reading import Results, Sheet
from trimtab.evaluation.report.samples import Side, side_by_side
from trimtab.evaluation.report.sentences import summary, verdict
from trimtab.evaluation.report.texts import Texts


@dataclass(frozen=True)
class Report:
    """What is shown, from the first line to the last.

    Attributes:
        title: of the page.
        summary: sentences.
        tables: methods, differences and costs of the table that conclusions rest on.
        strengths: the table of all strengths, and which a sweep chose; empty where it is the same.
        split: whose prompts the pictures show.
        drawings: the pictures.
        verdicts: a sentence on over-optimisation for each curve.
        sides: prompts with their answers.
        baseline: name of the row that others are compared with.
        manifest: how all of it came about.
    """

    title: str
    summary: tuple[str, ...]
    tables: tuple[Grid, ...]
    strengths: tuple[Grid, ...]
    split: str
    drawings: tuple[Drawing, ...]
    verdicts: tuple[str, ...]
    sides: tuple[Side, ...]
    baseline: str
    manifest: Mapping[str, Any]


def compose(results: Results) -> Report:
    """All parts, from a folder that was read."""
    texts, head, grid = Texts(results.folder), results.head, results.grid
    along = curves(grid)
    peaks = [peak for curve in along if (peak := find_peak(curve, grid, texts)) is not None]
    return Report(
        title=f"{results.manifest['task']} on {results.manifest['model']['name']}",
        summary=tuple(summary(results, peaks)),
        tables=_tables(head, texts),
        strengths=_strengths(results),
        split=str(grid.about["split"]),
        drawings=tuple(drawings(grid, along, peaks)),
        verdicts=tuple(verdict(peak) for peak in peaks) or (_silence(bool(along), grid),),
        sides=tuple(side_by_side(head, texts)),
        baseline=head.baseline.name,
        manifest=_manifest(results),
    )


def _silence(swept: bool, sheet: Sheet) -> str:
    """Why nothing can be said about over-optimisation."""
    if "judge" not in sheet.roles:
        return "Without a judge, nothing tells whether the reward's gain is the goal's."
    missing = "no score of the judge" if swept else "no method ran at two strengths or more"
    return f"Nothing can be said on over-optimisation: {missing}."


def _tables(sheet: Sheet, texts: Texts) -> tuple[Grid, ...]:
    found = [grids.methods(sheet), grids.differences(sheet), grids.costs(sheet, texts)]
    return tuple(grid for grid in [*found, grids.best_of(sheet)] if grid and grid.rows)


def _strengths(results: Results) -> tuple[Grid, ...]:
    if results.grid is results.head:
        return ()
    chosen = grids.choices(results)
    return (*([chosen] if chosen else []), grids.methods(results.grid))


def _manifest(results: Results) -> dict[str, Any]:
    """The folder's manifest, and of every table what its figures rest on."""
    sheets = {
        split: {
            **{k: v for k, v in sheet.about.items() if k != "cells"},
            "prompts": sheet.entries[0].cell["prompts"],
            "cells": [
                {"name": e.name, **{k: e.cell[k] for k in ("key", "method", "guide", "n")}}
                for e in sheet.entries
            ],
        }
        for split, sheet in results.sheets.items()
    }
    whole = {**results.manifest, "tables": sheets, "sweep": results.sweep}
    return {k: json.loads(json.dumps(v)) for k, v in whole.items()}
