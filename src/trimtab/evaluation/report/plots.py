"""The pictures: reward against KL, reward and judge along the strength, reward against cost.

Each is drawn twice: as a PNG on white, and as an SVG for the page, whose text and axes take the
page's own colour so that light and dark both read well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trimtab.evaluation.report.budget import cost, counted
from trimtab.evaluation.report.canvas import Drawing, draw
from trimtab.evaluation.report.curves import Curve, Peak
from trimtab.evaluation.report.looks import GREY, LINE, Place, in_words, looks
from trimtab.evaluation.report.reading import Entry, Sheet
from trimtab.evaluation.report.strength import strength

TICKS = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280)


def drawings(sheet: Sheet, curves: Sequence[Curve], peaks: Sequence[Peak]) -> list[Drawing]:
    """All pictures that the table has figures for."""
    found = [_frontier(sheet, curves), _cost(sheet, curves)]
    if curves:
        found.insert(1, strength(sheet, curves, peaks))
    return [drawing for drawing in found if drawing is not None]


# --- reward against KL, reward against cost ------------------------------------------------------


def _frontier(sheet: Sheet, curves: Sequence[Curve]) -> Drawing | None:
    shown = [e for e in sheet.entries if _kl(e) is not None]
    if not shown:
        return None
    missing = [e.name for e in sheet.entries if _kl(e) is None]
    caption = (
        "Mean ± standard error over prompts; the scale of the KL is that of its square root. "
        "Numbers at points are beta, and n on the line of best-of-n by the reward, whose KL is "
        "estimated."
    ) + (f" Without a KL: {', '.join(missing)}." if missing else "")

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("function", functions=(_root, _square))
        _best_of(axes, sheet, _kl)
        _points(axes, sheet, curves, _kl)
        most = max(0.1, *(x + se for x, se in filter(None, map(_kl, shown))))
        axes.set_xlim(-most / 900, most * 1.08)  # a marker's width left of zero
        axes.set_xticks(_ticks(most), [f"{t:g}" for t in _ticks(most)])
        axes.set_xlabel("KL to the base, nats per response")
        axes.set_ylabel(f"reward: {sheet.about['reward']}")

    return draw("frontier", "Reward against KL", caption, in_words(shown, "KL", _kl), paint)


def _cost(sheet: Sheet, curves: Sequence[Curve]) -> Drawing | None:
    def place(entry: Entry) -> tuple[float, float] | None:
        paid = cost(entry, sheet)
        return None if paid is None else (paid, 0.0)

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        _best_of(axes, sheet, lambda e: (float(e.number("n") or 1), 0.0))
        _points(axes, sheet, curves, place)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        unit = "operations" if counted(sheet) else "tokens that the base reads"
        axes.set_xlabel(f"{unit}, in multiples of the base alone")
        axes.set_ylabel(f"reward: {sheet.about['reward']}")

    shown = [e for e in sheet.entries if place(e) is not None]
    alt = in_words(shown, "cost", place)
    return draw("cost", "Reward against cost", _uncounted(sheet), alt, paint) if shown else None


def _uncounted(sheet: Sheet) -> str:
    """How to read the picture of costs, and what it leaves out."""
    guides = [e for e in sheet.entries if e.guided and e.cell["guide_shape"] is None]
    said = (
        "Mean ± standard error over prompts. Best-of-n by the reward costs n: what lies above it "
        "is cheaper."
    )
    names = ", ".join(sorted({str(e.guide) for e in guides}))
    return f"{said} Not counted: what {names} costs, which is a function." if guides else said


def _kl(entry: Entry) -> tuple[float, float] | None:
    """Rounding may leave a KL of zero a hair below it."""
    kl = entry.number("kl")
    return None if kl is None else (max(0.0, kl), entry.number("kl_se") or 0.0)


def _points(axes: Any, sheet: Sheet, curves: Sequence[Curve], place: Place) -> None:
    """Curves along the strength, and methods that have none."""
    styles = looks(sheet)
    on_curve = {e.name for curve in curves for e in curve.entries}
    groups = [(c.name, c.entries) for c in curves]
    groups += [(e.name, (e,)) for e in sheet.entries if e.name not in on_curve]
    for name, entries in groups:
        look = styles[entries[0].family]
        style = {"label": name, "color": look.colour, "marker": look.marker}
        for entry, at in _errors(axes, entries, place, style):
            if len(entries) > 1:
                _note(axes, at, f"{entry.beta:g}", look.colour)


def _best_of(axes: Any, sheet: Sheet, place: Place) -> None:
    """The dashed line of best-of-n, from the base's own samples."""
    entries = [Entry(row, {}, "") for row in sheet.best_of]
    style = {"ls": "--", "marker": ".", "color": GREY, "lw": 1.2}
    style["label"] = "best-of-n by the reward"
    for entry, at in _errors(axes, entries, place, style):
        if entry.row["n"] != 1:
            _note(axes, at, f"{entry.row['n']}", GREY)


def _errors(
    axes: Any, entries: Sequence[Entry], place: Place, style: dict[str, Any]
) -> list[tuple[Entry, tuple[float, float]]]:
    """Points with bars of one standard error; what was drawn and where."""
    known = [(e, x, e.number("reward")) for e in entries if (x := place(e)) is not None]
    drawn = [(e, x, y) for e, x, y in known if y is not None]
    if drawn:
        wide = [se for _, (_, se), _ in drawn]
        axes.errorbar(
            [x for _, (x, _), _ in drawn],
            [y for _, _, y in drawn],
            xerr=wide if any(wide) else None,
            yerr=[e.number("reward_se") or 0.0 for e, _, _ in drawn],
            **LINE | style,
        )
    return [(e, (x, y)) for e, (x, _), y in drawn]


def _note(axes: Any, at: tuple[float, float], text: str, colour: str) -> None:
    """Below and to the right: rising curves leave that side free."""
    axes.annotate(text, at, xytext=(5, -10), textcoords="offset points", fontsize=8, color=colour)


def _root(x: Any) -> Any:
    return np.sign(x) * abs(x) ** 0.5


def _square(x: Any) -> Any:
    return x * abs(x)


def _ticks(most: float) -> list[float]:
    """A handful of round numbers, evenly spread on the scale of roots."""
    ticks, apart = [0.0], most**0.5 / 9
    for tick in TICKS[1:]:
        if tick <= most * 1.08 and tick**0.5 - ticks[-1] ** 0.5 >= apart:
            ticks.append(tick)
    return ticks
