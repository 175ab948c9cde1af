"""What was found, as tables of text, as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trimtab.evaluation.table import TextTable
from trimtab.evaluation.text import NONE, number, p_value, rounded
from trimtab.training.inspection.findings import Finding
from trimtab.training.inspection.fits import Bin, Figure, Fit
from trimtab.training.inspection.inspect import Inspection
from trimtab.training.inspection.pairs import TEST

_FIT = "± standard error by the bootstrap over prompts. Spearman: rank correlation."
_EXACT = " R2: 1 - MSE / variance of the labels."
_LABELS = " Ceiling: the R2 that the true value would reach against labels that are means of a few."
_PAIRS = (
    "Each response is cut at that share of its own tokens; ties count half. ± standard error over "
    f"prompts; p: {TEST}."
)
_BINS = "Tenths by what the guide predicts; ± standard error over prompts."


def grids(found: Inspection) -> list[TextTable]:
    """Every table: facts, audit, figures."""
    facts = TextTable("Guide", ("", ""), found.facts)
    audit = _audit(found.findings)
    tables = [facts, audit]
    of = f"{found.reward or 'preference'}: {found.compared}"
    if found.labels:
        tables.append(_fits(f"Labelled prefixes, {of}", found.labels, _LABELS))
    if found.values:
        tables.append(_fits(f"Along responses, {of}", found.values, _known(found)))
    if calibration := shown_bins(found):
        tables.append(_calibration(*calibration))
    if found.pairs:
        tables.append(_accuracy(found))
    return [grid for grid in tables if grid.rows]


def _audit(findings: Sequence[Finding]) -> TextTable:
    """A row for each finding; without the last column where nothing is to be done."""
    rows = [(f.level.upper() if f.level != "ok" else "ok", f.about, f.said, f.do) for f in findings]
    head = ("", "of", "found", "what to do")
    width = len(head) if any(f.do for f in findings) else len(head) - 1
    return TextTable("Audit", head[:width], tuple(row[:width] for row in rows))


def shown_bins(found: Inspection) -> tuple[str, tuple[Bin, ...]] | None:
    """The calibration that is worth a table: on labels, else half-way through responses."""
    if found.labels:
        return "labelled prefixes", found.labels[0].bins
    half = next((fit for fit in found.values if fit.where == "50%"), None)
    return None if half is None else ("half-way through responses", half.bins)


def _known(found: Inspection) -> str:
    """What the prompt alone explains."""
    if found.prompt is None:
        return ""
    return (
        f" A perfect value of the prompt alone would reach R2 {with_se(found.prompt)}; at 100% "
        "everything is known."
    )


def _fits(caption: str, fits: Sequence[Fit], note: str) -> TextTable:
    columns = [
        ("MSE", [fit.mse for fit in fits]),
        ("R2", [fit.r2 for fit in fits]),
        ("ceiling", [fit.ceiling for fit in fits]),
        ("Spearman", [fit.spearman for fit in fits]),
    ]
    shown = [(name, column) for name, column in columns if any(column)]
    exact = any(fit.mse for fit in fits)
    rows = tuple(
        (fit.where, f"{fit.n}", f"{fit.prompts}", *(with_se(column[i]) for _, column in shown))
        for i, fit in enumerate(fits)
    )
    said = _FIT + (_EXACT + note if exact else "")
    return TextTable(
        caption, ("prefixes", "n", "prompts", *(name for name, _ in shown)), rows, said
    )


def _calibration(of: str, bins: Sequence[Bin]) -> TextTable:
    rows = tuple((number(b.predicted), f"{b.n}", with_se(b.label)) for b in bins)
    return TextTable(f"Calibration, {of}", ("predicted", "n", "mean label"), rows, _BINS)


def _accuracy(found: Inspection) -> TextTable:
    rows = tuple(
        (a.where, f"{a.n}", f"{a.prompts}", with_se(a.accuracy), f"{a.ties}", p_value(a.p))
        for a in found.pairs
    )
    head = ("of the response", "n", "prompts", "accuracy", "ties", "p")
    return TextTable("Pairs", head, rows, _PAIRS)


def with_se(figure: Figure | None) -> str:
    """A figure and its standard error; a dash where there is none."""
    if figure is None:
        return NONE
    return number(figure.value) + (f" ± {number(figure.se)}" if figure.se is not None else "")


def to_markdown(found: Inspection) -> str:
    """The whole report; a line of its own for each warning, so that it can be searched for."""
    lines = [f"# {found.name}", ""]
    for grid in grids(found):
        rule = "|" + "---|" * len(grid.head)
        lines += [f"## {grid.caption}", "", _line(grid.head), rule, *map(_line, grid.rows), ""]
        lines += [grid.note, ""] if grid.note else []
    said = [line for f in found.findings if (line := warning(f.level, f.about, f.said, f.do))]
    return "\n".join([*lines, *(f"{line}\n" for line in said)]).rstrip() + "\n"


def warning(level: str, about: str, said: str, do: str) -> str:
    """A finding as one line; "" where nothing is to be said."""
    if level == "ok":
        return ""
    return f"{level.upper()}: {about}: {said}" + (f"; {do}" if do else "")


def _line(fields: Sequence[str]) -> str:
    flat = (" ".join(field.split()).replace("<", "&lt;").replace("|", "\\|") for field in fields)
    return "| " + " | ".join(flat) + " |"


def to_json(found: Inspection) -> str:
    """The whole report with six significant digits; null where a figure does not exist."""
    whole = {**asdict(found), "facts": dict(found.facts), "worst": found.worst}
    return json.dumps(_plain(whole), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else None
    return value
