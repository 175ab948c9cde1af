"""The figure: calibration above, and below how good the guide is along the response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trimtab.errors import UsageError
from trimtab.evaluation.report.drawing import COLOURS, GREY, LINE, MARKERS, draw
from trimtab.training.inspection.fits import Bin, Figure
from trimtab.training.inspection.inspect import Inspection
from trimtab.training.inspection.places import FIRST, SHARES

Curve = tuple[str, tuple[Bin, ...]]
HEIGHT = 3.9
"""Of each half, in inches."""


def picture(found: Inspection) -> bytes:
    """A PNG: the same bytes every time.

    Raises:
        UsageError: nothing was measured, or matplotlib is not installed.
    """
    halves = [half for half in (_calibration(found), _along(found)) if half is not None]
    if not halves:
        raise UsageError(
            "a picture needs something measured",
            got="no --data, --validation or --pairs",
            do="add one of them",
        )

    def paint(figure: Any) -> None:
        for i, half in enumerate(halves, start=1):
            axes = figure.add_subplot(len(halves), 1, i)
            half(axes)
            if i > 1:  # the first one's legend stands below them all
                axes.legend(frameon=False, fontsize=9)

    return draw("inspect", found.name, "", "", paint, height=HEIGHT * len(halves)).png


def _calibration(found: Inspection) -> Any:
    """Mean label against prediction, with the line of a guide that is right on average."""
    curves: list[Curve] = [("labelled prefixes", fit.bins) for fit in found.labels[:1]]
    curves += [(f"at {f.where}", f.bins) for f in found.values if f.where in ("25%", "50%", "100%")]
    if not curves:
        return None
    exact = any(fit.mse is not None for fit in (*found.labels, *found.values))

    def paint(axes: Any) -> None:
        for i, (name, bins) in enumerate(curves):
            xs, labels = [b.predicted for b in bins], [b.label for b in bins]
            _points(axes, xs, labels, name, i)
        if exact:
            seen = [x for _, bins in curves for b in bins for x in (b.predicted, b.label.value)]
            ends = (min(seen), max(seen))
            axes.plot(ends, ends, ls="--", lw=1.2, color=GREY, label="calibrated")
        axes.set_xlabel("predicted" if exact else "score")
        axes.set_ylabel(f"mean {found.reward or 'label'}")

    return paint


def _along(found: Inspection) -> Any:
    """Accuracy on pairs and rank correlation, by the share of the response that was read."""
    shares = {FIRST: 0.0, **SHARES}
    ranks = [(shares[f.where], f.spearman) for f in found.values if f.spearman is not None]
    pairs = [(shares[a.where], a.accuracy) for a in found.pairs]
    if not ranks and not pairs:
        return None

    def paint(axes: Any) -> None:
        curves = (("accuracy on pairs", pairs), ("Spearman with the reward", ranks))
        for i, (name, places) in enumerate(curves):
            if places:
                _points(axes, [x for x, _ in places], [y for _, y in places], name, i)
        if pairs:
            axes.axhline(0.5, ls="--", lw=1.2, color=GREY, label="chance (accuracy)")
        axes.set_xlabel("share of the response that was read")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        axes.set_ylabel("accuracy" if not ranks else "accuracy, Spearman" if pairs else "Spearman")

    return paint


def _points(axes: Any, xs: Sequence[float], ys: Sequence[Figure], name: str, i: int) -> None:
    """A curve with bars of one standard error."""
    look = {"color": COLOURS[i], "marker": MARKERS[i], "label": name}
    axes.errorbar(xs, [y.value for y in ys], yerr=[y.se or 0.0 for y in ys], **LINE | look)
