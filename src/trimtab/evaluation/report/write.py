"""From a results folder to the files of its report."""

from __future__ import annotations

from pathlib import Path

from trimtab.evaluation.report.data import compose
from trimtab.evaluation.report.markdown import markdown
from trimtab.evaluation.report.page import page
from trimtab.evaluation.report.reading import read_results
from trimtab.evaluation.tables import Table
from trimtab.evaluation.writers import to_csv
from trimtab.files import write_atomic


def write_report(folder: str | Path, out: str | Path | None = None) -> list[Path]:
    """Write a results folder's report: HTML, Markdown, CSV and PNG.

        report.html        needs nothing else
        report.md          with the pictures beside it
        <picture>.png      frontier, strength, cost
        <split>.csv        all figures of a table
        best-of-n.csv      where the base has samples to take it from

    Args:
        folder: what `evaluate` or `sweep` wrote.
        out: a folder, made where it is missing; None takes `report` inside `folder`.

    Returns:
        The files, the page first.

    Raises:
        ResultsError: the folder holds no finished table.
        UsageError: matplotlib or scipy is not installed.
        OutputError: a file cannot be written.
    """
    results = read_results(folder)
    report = compose(results)
    found: dict[str, str | bytes] = {"report.html": page(report), "report.md": markdown(report)}
    found |= {f"{drawing.name}.png": drawing.png for drawing in report.drawings}
    for split, sheet in results.sheets.items():
        rows = tuple(entry.row for entry in sheet.entries)
        found[f"{split}.csv"] = to_csv(Table(dict(sheet.about), rows))
    if results.head.best_of:
        found["best-of-n.csv"] = to_csv(Table({}, results.head.best_of))
    place = Path(out) if out is not None else Path(folder) / "report"
    return [write_atomic(place / name, content) for name, content in found.items()]
