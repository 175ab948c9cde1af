"""The report for a repository: the same sentences, tables and texts, with pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from trimtab.evaluation.report.data import Report
from trimtab.evaluation.report.grids import Grid
from trimtab.evaluation.report.samples import Side
from trimtab.evaluation.report.sentences import NONE


def markdown(report: Report) -> str:
    """The whole text; pictures are named as the files that stand beside it."""
    lines = [f"# {report.title}", "", *_spaced(report.summary), "## Methods", ""]
    lines += [line for grid in report.tables for line in _grid(grid)]
    lines += [f"## Pictures, split {report.split}", "", *_spaced(report.verdicts)]
    for drawing in report.drawings:
        lines += [f"![{drawing.title}]({drawing.name}.png)", "", drawing.caption, ""]
    if report.strengths:
        lines += ["## All strengths", ""]
        lines += [line for grid in report.strengths for line in _grid(grid)]
    lines += ["## Side by side", "", *(line for side in report.sides for line in _side(side))]
    whole = json.dumps(report.manifest, indent=1, ensure_ascii=False)
    lines += ["## How it came about", "", "```json", whole, "```"]
    return "\n".join(lines) + "\n"


def _spaced(sentences: Sequence[str]) -> Iterator[str]:
    for said in sentences:
        yield from (said, "")


def _grid(grid: Grid) -> list[str]:
    rule = "|---|" + "---:|" * (len(grid.head) - 1)
    table = [_line(grid.head), rule, *map(_line, grid.rows)]
    return [f"### {grid.caption}", "", *table, "", *([grid.note, ""] if grid.note else [])]


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(_flat(field) for field in fields) + " |"


def _side(side: Side) -> list[str]:
    """A prompt and its answers as rows; Markdown has no tints."""
    head = ["method", *(role for role, _ in side.answers[0].scores), "response"]
    rows = [
        [a.method, *(_score(x) for _, x in a.scores), "".join(p.text for p in a.pieces).strip()]
        for a in side.answers
    ]
    rule = "|---|" + "---:|" * (len(head) - 2) + "---|"
    return [f"> {_flat(side.prompt)}", "", _line(head), rule, *map(_line, rows), ""]


def _score(value: float | None) -> str:
    return NONE if value is None else f"{value:+.2f}"


def _flat(text: str) -> str:
    """Text that cannot leave its field, nor be read as HTML."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("\\", "\\\\").replace("|", "\\|")
