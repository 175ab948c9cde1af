"""The pictures: who has how much reward at which cost; reward against KL, cost and strength.

Each is drawn twice: as a PNG on white, and as an SVG for the page, whose text and axes take the
page's own colour so that light and dark both read well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from trimtab.evaluation.presentation import COLOURS, GREY, LINE, MARKERS, Drawing, draw
from trimtab.evaluation.results import Entry, Sheet
from trimtab.evaluation.words import Curve, Peak

TICKS = (0, 0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280)

Point: TypeAlias = tuple[float, float]
Axis: TypeAlias = "Callable[[Entry], Point | None]"
"""Where an entry stands on the horizontal axis, and the standard error of that."""


def styles(sheet: Sheet) -> dict[str, dict[str, str]]:
    """Colour and marker of every method in all pictures, by its name without strength."""
    families = list(dict.fromkeys(e.family for e in sheet.entries))
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(families)
    }


def drawings(sheet: Sheet, curves: Sequence[Curve], peaks: Sequence[Peak]) -> list[Drawing]:
    """All pictures along strengths that the table has figures for."""
    pictures = [
        _frontier(sheet, curves),
        _strength(sheet, curves, peaks) if curves else None,
        _reward_at_cost(sheet, curves),
    ]
    return [drawing for drawing in pictures if drawing is not None]


def in_words(
    entries: Sequence[Entry], what: str = "", axis: Axis | None = None, role: str = "reward"
) -> str:
    """The picture in words: every point."""
    parts = []
    for entry in entries:
        value, x = entry.number(role), axis(entry) if axis else None
        if value is not None:
            place = f" at {what} {x[0]:.3g}" if x else ""
            parts.append(f"{entry.name} {role} {value:.3g}{place}")
    return "; ".join(parts)


# --- the gain, without words ---------------------------------------------------------------------


def gain(sheet: Sheet) -> Drawing:
    """A bar per method, the baseline grey: its reward, what the judge says, and what it costs."""
    entries = sheet.strongest[::-1]
    panels: list[tuple[str, list[float | None], list[float | None]]] = [
        (role, [e.number(role) for e in entries], [e.number(f"{role}_se") for e in entries])
        for role in sheet.roles
    ]
    panels.append(("cost", [sheet.cost(e) for e in entries], [None] * len(entries)))
    panels = [panel for panel in panels if any(value is not None for value in panel[1])]

    def paint(figure: Any) -> None:
        rows = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, values, errors) in zip(rows, panels, strict=True):
            for i, (entry, value, se) in enumerate(zip(entries, values, errors, strict=True)):
                colour = GREY if entry is sheet.baseline else COLOURS[0]
                bars = {"ecolor": axes.xaxis.label.get_color(), "capsize": 2}
                axes.barh(i, value or 0.0, xerr=se, color=colour, height=0.6, error_kw=bars)
            axes.set_title(title, fontsize=10)
            axes.locator_params(axis="x", nbins=3)
            base = values[-1]
            if base is not None:
                axes.axvline(base, color=GREY, ls="--", lw=1)
        rows[0].set_yticks(range(len(entries)), [_short(e.name) for e in entries])

    caption = (
        "Each method at the strength of its most reward, the baseline grey and dashed; bars of "
        "error are one standard error over prompts. Cost in multiples of the base alone."
    )
    words = "; ".join(in_words(entries[::-1], role=role) for role in sheet.roles)
    words = f"{words}; cost " + ", ".join(
        f"{e.name} {c:.2g}" for e in entries[::-1] if (c := sheet.cost(e)) is not None
    )
    height = 1.1 + 0.38 * len(entries)
    return draw("gain", "Reward, judge and cost of each method", caption, words, paint, height)


def _short(name: str) -> str:
    return name if len(name) <= 24 else name.replace(" by ", "\nby ").replace(" (", "\n(")


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

    return draw("frontier", "Reward against KL", caption, in_words(shown, "KL", _kl), paint)


def _reward_at_cost(sheet: Sheet, curves: Sequence[Curve]) -> Drawing | None:
    def cost(entry: Entry) -> Point | None:
        paid = sheet.cost(entry)
        return None if paid is None else (paid, 0.0)

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        _best_of(axes, sheet, lambda e: (float(e.number("n") or 1), 0.0))
        _points(axes, sheet, curves, cost)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        unit = "operations" if sheet.counted else "tokens that the base reads"
        axes.set_xlabel(f"{unit}, in multiples of the base alone")

    shown = [e for e in sheet.entries if cost(e) is not None]
    if not shown:
        return None
    caption = (
        "Mean ± standard error over prompts. Best-of-n by the reward costs n: what lies above it "
        "is cheaper."
    )
    uncounted = {e.guide for e in sheet.entries if e.guide and not e.condition.guide_shape}
    if uncounted:
        names = ", ".join(sorted(uncounted))
        caption += f" Not counted: what {names} costs, which is a function."
    return draw("cost", "Reward against cost", caption, in_words(shown, "cost", cost), paint)


def _kl(entry: Entry) -> Point | None:
    """Rounding may leave a KL of zero a hair below it."""
    kl = entry.number("kl")
    return None if kl is None else (max(0.0, kl), entry.number("kl_se") or 0.0)


def _points(axes: Any, sheet: Sheet, curves: Sequence[Curve], axis: Axis) -> None:
    """Curves along the strength, and methods that have none."""
    axes.set_ylabel(f"reward: {sheet.about['reward']}")
    on_curve = {e.name for curve in curves for e in curve.entries}
    groups = [(c.name, c.entries) for c in curves]
    groups += [(e.name, (e,)) for e in sheet.entries if e.name not in on_curve]
    for name, entries in groups:
        style = styles(sheet)[entries[0].family]
        for entry, point in _errors(axes, entries, axis, {"label": name, **style}):
            if len(entries) > 1:
                _note(axes, point, f"{entry.beta:g}", style["color"])


def _best_of(axes: Any, sheet: Sheet, axis: Axis) -> None:
    """The dashed line of best-of-n, from the base's own samples."""
    look = {"ls": "--", "marker": ".", "color": GREY, "lw": 1.2, "label": "best-of-n by the reward"}
    for entry, point in _errors(axes, sheet.best_of, axis, look):
        if entry.row["n"] != 1:
            _note(axes, point, f"{entry.row['n']}", GREY)


def _errors(
    axes: Any,
    entries: Sequence[Entry],
    axis: Axis,
    look: dict[str, Any],
    role: str = "reward",
) -> list[tuple[Entry, Point]]:
    """Points with bars of one standard error; what was drawn and where."""
    placed = [(e, x, e.number(role)) for e in entries if (x := axis(e)) is not None]
    drawn = [(e, x, y) for e, x, y in placed if y is not None]
    if drawn:
        wide = [se for _, (_, se), _ in drawn]
        axes.errorbar(
            [x for _, (x, _), _ in drawn],
            [y for _, _, y in drawn],
            xerr=wide if any(wide) else None,
            yerr=[e.number(f"{role}_se") or 0.0 for e, _, _ in drawn],
            **LINE | look,
        )
    return [(e, (x, y)) for e, (x, _), y in drawn]


def _note(axes: Any, point: Point, text: str, colour: str) -> None:
    """Below and to the right: rising curves leave that side free."""
    offset = {"xytext": (5, -10), "textcoords": "offset points"}
    axes.annotate(text, point, fontsize=8, color=colour, **offset)


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


# --- along the strength --------------------------------------------------------------------------


def _strength(sheet: Sheet, curves: Sequence[Curve], peaks: Sequence[Peak]) -> Drawing:
    """Reward and judge along the strength, one panel each, with the peak of the judge marked."""
    caption = "Mean ± standard error over prompts; the dashed grey line is the baseline."
    caption += " A star marks the judge's highest score." if peaks else ""
    shown = [entry for curve in curves for entry in curve.entries]

    def paint(figure: Any) -> None:
        panels = list(figure.subplots(len(sheet.roles), 1, sharex=True, squeeze=False)[:, 0])
        for axes, role in zip(panels, sheet.roles, strict=True):
            base = sheet.baseline.number(role)
            if base is not None:
                axes.axhline(base, color=GREY, ls="--", lw=1.2, label=sheet.baseline.name)
            for curve in curves:
                look = {"label": curve.name, **styles(sheet)[curve.entries[0].family]}
                _errors(axes, curve.entries, lambda e: (e.beta, 0.0), look, role)
            axes.set_ylabel(f"{role}: {sheet.about[role]}")
        panels[0].set_xscale("log", base=2)
        panels[0].xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        betas = sorted({e.beta for e in shown})
        if len(betas) <= 12:
            panels[0].set_xticks(betas)
        panels[0].minorticks_off()
        panels[-1].set_xlabel("strength beta")
        for peak in peaks:
            colour = styles(sheet)[peak.at.family]["color"]
            for axes in panels:
                axes.axvline(peak.at.beta, color=colour, ls=":", lw=1)
            top = (peak.at.beta, peak.at.number("judge"))
            panels[-1].plot(*top, marker="*", ms=15, color=colour, ls="none", zorder=5)

    alt = "; ".join(in_words(shown, role=role) for role in sheet.roles)
    title = "Reward and judge along the strength" if len(sheet.roles) > 1 else "Reward along beta"
    return draw("strength", title, caption, alt, paint, 2.2 + 1.9 * len(sheet.roles))
