"""The same results thrice: a table on the terminal, JSON, Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from overhead.cells import Row
from overhead.targets import Verdict

ROW_HEADS = (
    "guide", "k", "prefix", "batch", "unguided ms", "guided ms", "guided / unguided",
    "generate ms", "bound ms", "guided / bound", "kernels ms", "guided / kernels",
    "re-encoding / guided", "same tokens", "spread",
)  # fmt: skip
VERDICT_HEADS = ("target", "case", "figure", "met")


def row_cells(r: Row) -> list[str]:
    """A row as text, in the order of `ROW_HEADS`."""
    return [
        r.cell.guide,
        str(r.cell.k),
        str(r.cell.prefix),
        str(r.cell.batch),
        f"{1e3 * r.unguided:.1f}",
        f"{1e3 * r.guided:.1f}",
        f"{r.guided / r.unguided:.2f}",
        "-" if r.generate is None else f"{1e3 * r.generate:.1f}",
        f"{1e3 * r.bound_guided:.1f}",
        f"{r.guided / r.bound_guided:.2f}",
        f"{1e3 * r.kernels:.1f}",
        f"{r.guided / r.kernels:.2f}",
        "-" if r.reencoding is None else f"{r.reencoding / r.guided:.1f}",
        {None: "-", True: "yes", False: "no"}[r.same_tokens],
        f"{r.spread:.0%}",
    ]


def verdict_cells(v: Verdict) -> list[str]:
    """A verdict as text."""
    return [v.target, v.case, f"{v.figure:.2f}", "met" if v.met else "not met"]


def show(console: Console, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on the terminal."""
    table = Table(title=title)
    for head in heads:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(
    facts: dict[str, Any],
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    breakdowns: dict[str, dict[str, float]],
) -> str:
    """The results as a page."""
    parts = ["# Decode overhead", "\n".join(f"- {k}: {v}" for k, v in facts.items())]
    parts += [markdown_table(ROW_HEADS, [row_cells(r) for r in rows])]
    if verdicts:
        parts += ["## Targets", markdown_table(VERDICT_HEADS, [verdict_cells(v) for v in verdicts])]
    for name, found in breakdowns.items():
        lines = [[part, f"{share:.1%}"] for part, share in found.items()]
        parts += [f"## Where a turn goes: {name}", markdown_table(("part", "share"), lines)]
    return "\n\n".join(parts) + "\n"


def as_json(
    facts: dict[str, Any],
    rows: Sequence[Row],
    verdicts: Sequence[Verdict],
    breakdowns: dict[str, dict[str, float]],
) -> str:
    """The results as data; times in seconds."""
    found = {
        "facts": facts,
        "rows": [asdict(r) for r in rows],
        "targets": [asdict(v) for v in verdicts],
        "breakdowns": breakdowns,
    }
    return json.dumps(found, indent=2) + "\n"
