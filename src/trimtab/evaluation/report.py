"""From a results folder to the files of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.evaluation import words
from trimtab.evaluation.pictures import drawings, gain
from trimtab.evaluation.presentation import Drawing, TextTable, render
from trimtab.evaluation.results import Comparison, Results, Sheet, Texts, comparisons, read_results
from trimtab.evaluation.table import Table
from trimtab.evaluation.words import (
    Fact,
    curves,
    facts,
    find_peak,
    opening,
    silence,
    verdict,
    warnings,
)
from trimtab.files import write_atomic


@dataclass(frozen=True)
class Report:
    """All that is shown, from the first line to the last.

    Attributes:
        title: of the page.
        task: what was measured on.
        opening: what was asked, and how it was scored.
        warnings: what may not be read out of the facts.
        facts: gain, judge, cut answers and cost; empty where nothing is compared.
        gain: the picture beside them.
        tables: methods, differences and costs of the table that conclusions rest on.
        strengths: the table of all strengths, and which a sweep chose; empty where it is the same.
        place: whose prompts the pictures show.
        drawings: the pictures along strengths.
        verdicts: a sentence on over-optimisation for each curve.
        comparisons: prompts with their answers.
        baseline: name of the row that others are compared with.
        manifest: how all of it came about.
    """

    title: str
    task: str
    opening: str
    warnings: tuple[str, ...]
    facts: tuple[Fact, ...]
    gain: Drawing
    tables: tuple[TextTable, ...]
    strengths: tuple[TextTable, ...]
    place: str
    drawings: tuple[Drawing, ...]
    verdicts: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    baseline: str
    manifest: Mapping[str, Any]


def compose(results: Results) -> Report:
    """All parts, from a folder that was read."""
    texts, head, grid = Texts(results.folder), results.head, results.grid
    about = results.manifest["about"]
    along = curves(grid)
    peaks = [peak for curve in along if (peak := find_peak(curve, grid, texts)) is not None]
    return Report(
        task=str(head.about["task"]),
        title=f"{head.about['task']} on {about['model']['name']}",
        opening=opening(head),
        warnings=tuple(warnings(results, peaks)),
        facts=tuple(facts(head, texts)),
        gain=gain(head),
        tables=_tables(head, texts),
        strengths=_strengths(results),
        place=grid.place,
        drawings=tuple(drawings(grid, along, peaks)),
        verdicts=tuple(map(verdict, peaks)) or (silence(grid, bool(along)),),
        comparisons=tuple(comparisons(head, texts)),
        baseline=head.baseline.name,
        manifest=_manifest(results),
    )


def _tables(sheet: Sheet, texts: Texts) -> tuple[TextTable, ...]:
    every = [
        words.methods(sheet),
        words.differences(sheet),
        words.costs(sheet, texts),
        words.best_of(sheet),
    ]
    return tuple(table for table in every if table and table.rows)


def _strengths(results: Results) -> tuple[TextTable, ...]:
    if results.grid is results.head:
        return ()
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
                {
                    "name": e.name,
                    **{k: getattr(e.condition, k) for k in named},
                }
                for e in sheet.entries
            ],
        }
        for split, sheet in results.sheets.items()
    }
    return {**results.manifest, "tables": sheets, "sweep": results.sweep}


def page(report: Report) -> str:
    """One HTML file that needs nothing else: no network, light and dark, any width."""
    return render("report.html.j2", report=report, manifest=_indented(report))


def markdown(report: Report) -> str:
    """The report for a repository, with pictures as the files that stand beside it."""
    return render("report.md.j2", report=report, manifest=_indented(report))


def _indented(report: Report) -> str:
    return json.dumps(report.manifest, indent=1, ensure_ascii=False)


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
    for split, sheet in results.sheets.items():
        files[f"{split}.csv"] = Table({}, tuple(entry.row for entry in sheet.entries)).to_csv()
    if results.head.best_of:
        files["best-of-n.csv"] = Table({}, results.head.best_of).to_csv()
    place = Path(out) if out is not None else Path(folder) / "report"
    return [write_atomic(place / name, content) for name, content in files.items()]
