"""Reward and judge along the strength, one panel each, with the peak of the judge marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab.evaluation.report.canvas import Drawing, draw
from trimtab.evaluation.report.curves import Curve, Peak
from trimtab.evaluation.report.looks import GREY, LINE, in_words, looks
from trimtab.evaluation.report.reading import Sheet


def strength(sheet: Sheet, curves: Sequence[Curve], peaks: Sequence[Peak]) -> Drawing:
    """The picture; without a judge it has one panel."""
    caption = "Mean ± standard error over prompts; the dashed grey line is the baseline."
    caption += " A star marks the judge's highest score." if peaks else ""
    shown = [entry for curve in curves for entry in curve.entries]
    alt = "; ".join(in_words(shown, role=role) for role in sheet.roles)

    def paint(figure: Any) -> None:
        panels = list(figure.subplots(len(sheet.roles), 1, sharex=True, squeeze=False)[:, 0])
        for axes, role in zip(panels, sheet.roles, strict=True):
            _panel(axes, sheet, curves, role)
        panels[0].set_xscale("log", base=2)
        panels[0].xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        betas = sorted({e.beta for e in shown})
        if len(betas) <= 12:
            panels[0].set_xticks(betas)
        panels[0].minorticks_off()
        panels[-1].set_xlabel("strength beta")
        for peak in peaks:
            _star(panels, peak, looks(sheet)[peak.at.family].colour)

    height = 2.2 + 1.9 * len(sheet.roles)
    title = "Reward and judge along the strength" if len(sheet.roles) > 1 else "Reward along beta"
    return draw("strength", title, caption, alt, paint, height)


def _panel(axes: Any, sheet: Sheet, curves: Sequence[Curve], role: str) -> None:
    styles = looks(sheet)
    base = sheet.baseline.number(role)
    if base is not None:
        axes.axhline(base, color=GREY, ls="--", lw=1.2, label=sheet.baseline.name)
    for curve in curves:
        known = [e for e in curve.entries if e.number(role) is not None]
        look = styles[curve.entries[0].family]
        axes.errorbar(
            [e.beta for e in known],
            [e.number(role) for e in known],
            yerr=[e.number(f"{role}_se") or 0.0 for e in known],
            label=curve.name,
            color=look.colour,
            marker=look.marker,
            **LINE,
        )
    axes.set_ylabel(f"{role}: {sheet.about[role]}")


def _star(panels: Sequence[Any], peak: Peak, colour: str) -> None:
    for axes in panels:
        axes.axvline(peak.at.beta, color=colour, ls=":", lw=1)
    top = (peak.at.beta, peak.at.number("judge"))
    panels[-1].plot(*top, marker="*", ms=15, color=colour, ls="none", zorder=5)
