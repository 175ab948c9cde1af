"""From a results folder to one page, with Markdown, CSV and pictures beside it.

The page is `templates/report.html.j2`; what stands in it is found in `results`, put into words and
tables in `words`, and drawn in `pictures`. Nothing here decodes: the report is a function of the
folder, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.evaluation import words
from trimtab.evaluation.pictures import drawings, gain
from trimtab.evaluation.presentation import Drawing, TextTable, render
from trimtab.evaluation.results import Comparison, Results, Sheet, comparisons, read_results
from trimtab.evaluation.table import Table
from trimtab.evaluation.words import Fact, Peak
from trimtab.files import write_atomic


@dataclass(frozen=True)
class Report:
    """All that is shown, from the first line to the last."""

    title: str
    task: str
    opening: str  # what was asked, and how it was scored
    warnings: tuple[str, ...]  # what may not be read out of the facts
    facts: tuple[Fact, ...]  # empty where nothing is compared
    gain: Drawing  # the picture beside them
    tables: tuple[TextTable, ...]  # of the table that conclusions rest on
    strengths: tuple[TextTable, ...]  # of all strengths; empty where that is the same
    place: str  # whose prompts the pictures show
    drawings: tuple[Drawing, ...]  # along strengths
    verdicts: tuple[str, ...]  # a sentence on over-optimisation for each curve
    comparisons: tuple[Comparison, ...]
    baseline: str  # name of the row that others are compared with
    manifest: Mapping[str, Any]  # how all of it came about


def report(folder: str | Path, out: str | Path | None = None) -> list[Path]:
    """Write a results folder's report: HTML, Markdown, CSV and PNG.

        report.html        needs nothing else
        report.md          with the pictures beside it
        <picture>.png      gain, frontier, strength, cost
        <split>.csv        all figures of a table
        best-of-n.csv      where the base has samples to take it from

    Args:
        folder: what `evaluate`, `sweep` or `collect` wrote.
        out: a folder, made where it is missing; None takes `report` inside `folder`.

    Returns:
        The files, the page first.

    Raises:
        ResultsError: the folder holds nothing that is finished.
        UsageError: matplotlib or scipy is not installed.
        OutputError: a file cannot be written.
    """
    results = read_results(folder)
    composed = compose(results)
    files: dict[str, str | bytes] = {"report.html": page(composed), "report.md": markdown(composed)}
    files |= {f"{drawing.name}.png": drawing.png for drawing in (composed.gain, *composed.drawings)}
    rows = {split: sheet.entries for split, sheet in results.sheets.items()}
    if results.head.best_of:
        rows["best-of-n"] = results.head.best_of
    for name, entries in rows.items():
        files[f"{name}.csv"] = Table({}, tuple(entry.row for entry in entries)).to_csv()
    place = Path(out) if out is not None else Path(folder) / "report"
    return [write_atomic(place / name, content) for name, content in files.items()]


def page(report: Report) -> str:
    """One HTML file that needs nothing else: no network, light and dark, any width."""
    return render("report.html.j2", report=report, manifest=_indented(report))


def markdown(report: Report) -> str:
    """The report for a repository, with pictures as the files that stand beside it."""
    return render("report.md.j2", report=report, manifest=_indented(report))


def _indented(report: Report) -> str:
    return json.dumps(report.manifest, indent=1, ensure_ascii=False)


def compose(results: Results) -> Report:
    """All parts, from a folder that was read."""
    head, grid = results.head, results.grid
    about = results.manifest["about"]
    curves = words.curves(grid)
    peaks = [peak for curve in curves if (peak := words.find_peak(curve, grid)) is not None]
    verdicts = [words.verdict(peak) for peak in peaks] or [words.silence(grid, bool(curves))]
    return Report(
        task=str(head.about["task"]),
        title=f"{head.about['task']} on {about['model']['name']}",
        opening=words.opening(head),
        warnings=tuple(_warnings(head, peaks)),
        facts=tuple(words.facts(head)),
        gain=gain(head),
        tables=_tables(head),
        strengths=() if grid is head else _strengths(results),
        place=grid.place,
        drawings=tuple(drawings(grid, curves, peaks)),
        verdicts=tuple(verdicts),
        comparisons=tuple(comparisons(head)),
        baseline=head.baseline.name,
        manifest=_manifest(results),
    )


def _warnings(head: Sheet, peaks: list[Peak]) -> list[str]:
    warnings = [words.verdict(peak) for peak in peaks if peak.verdict == "over-optimised"]
    if head.best is None:
        warnings.append("Only one method has a reward, so there is nothing to compare.")
    return warnings


def _tables(sheet: Sheet) -> tuple[TextTable, ...]:
    tables = [
        words.methods(sheet),
        words.differences(sheet),
        words.costs(sheet),
        words.best_of(sheet),
        words.steered(sheet),
    ]
    return tuple(table for table in tables if table and table.rows)


def _strengths(results: Results) -> tuple[TextTable, ...]:
    chosen = words.choices(results)
    return (*([chosen] if chosen else []), words.methods(results.grid))


def _manifest(results: Results) -> dict[str, Any]:
    """The folder's manifest, and of every table what its figures rest on."""
    named = ("key", "method", "guide", "n")
    sheets = {
        split: {
            **{k: v for k, v in sheet.about.items() if k != "conditions"},
            "prompts": sheet.entries[0].condition.prompts,
            "conditions": [
                {"name": e.name, **{k: getattr(e.condition, k) for k in named}}
                for e in sheet.entries
            ],
        }
        for split, sheet in results.sheets.items()
    }
    return {**results.manifest, "tables": sheets, "sweep": results.sweep}
