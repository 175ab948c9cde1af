"""Reward against KL over beta, with error bars, as a PNG."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from trimtab.demo.results import kl_per_response
from trimtab.demo.running import Outcome, Run
from trimtab.evaluation.best_of import best_of_n_kl_bound
from trimtab.evaluation.statistics import estimate
from trimtab.plugins import optional

COLOURS = {"VAS": "#0072b2", "ARGS stochastic": "#d55e00", "ARGS": "#7f3b08"}
"""Told apart by colour-blind eyes too."""
GREY = "#555555"


def check_matplotlib() -> None:
    """Says what is missing before minutes of work are spent.

    Raises:
        UsageError: matplotlib is not installed.
    """
    optional("matplotlib.figure", "demo", user="the demonstration's picture")


def picture(outcome: Outcome) -> bytes:
    """The PNG's bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.add_subplot()
    _points(axes, outcome)
    for name, runs in outcome.curves.items():
        _curve(axes, name, runs)
    _roots(axes)
    axes.set_xlabel("KL to the base per response, nats, square-root scale (mean ± standard error)")
    axes.set_ylabel("reward: VADER sentiment (mean ± standard error)")
    s = outcome.settings
    axes.set_title(
        f"Steering SmolLM2-135M: a sentiment function (ARGS), a trained value (VAS)\n"
        f"{len(s.prompts)} prompts; "
        f"standard errors over prompts; seed {s.seed}",
        fontsize=10,
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "trimtab"})
    return buffer.getvalue()


def _mean(run: Run) -> tuple[float, float, float, float]:
    """KL with its error, reward with its error; the KL of best-of-n is its bound."""
    reward = estimate(run.rewards, run.prompts)
    kls = kl_per_response(run)
    if kls is None:
        return best_of_n_kl_bound(run.arm.draws), 0.0, reward.mean, reward.se
    kl = estimate(kls, run.prompts)
    return kl.mean, kl.se, reward.mean, reward.se


def _curve(axes: Any, name: str, runs: list[Run]) -> None:
    """Strengths in order. At 0 VAS is the base; ARGS is not, for it drops the tail."""
    points = [_mean(run) for run in runs]
    x, dx, y, dy = zip(*points, strict=True)
    colour = COLOURS[name]
    axes.errorbar(
        x, y, yerr=dy, xerr=dx, color=colour, marker="o", ms=4, lw=1.5, capsize=2, clip_on=False,
        label=f"{name} (n = {len(runs[0].completions)} each)",
    )  # fmt: skip
    aside = (6, -12) if name == "VAS" else (-4, 8)
    for run, at in zip(runs, points, strict=True):
        axes.annotate(
            f"β {run.beta:g}", (at[0], at[2]), xytext=aside, ha="left" if aside[0] > 0 else "right",
            textcoords="offset points", fontsize=7.5, color=colour,
        )  # fmt: skip


def _roots(axes: Any) -> None:
    """A square-root scale: rewards rise early and KL runs far."""
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0.0)), np.square))
    axes.set_xlim(left=0)
    axes.set_xticks([t for t in (0, 0.25, 1, 2, 4, 8, 16, 32, 64) if t <= axes.get_xlim()[1]])
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")


def _points(axes: Any, outcome: Outcome) -> None:
    """Arms that are no curve: the base, best-of-n, and greedy ARGS."""
    for run in outcome.arms:
        if run.arm.name in outcome.curves:
            continue
        x, dx, y, dy = _mean(run)
        bound = run.arm.draws > 1
        n = len(run.completions)
        axes.errorbar(
            x, y, yerr=dy, xerr=dx or None, color=COLOURS.get(run.arm.name, GREY),
            marker="<" if bound else "s", ms=6, ls="none", capsize=2, mfc="white", clip_on=False,
            label=f"{run.arm.name} (n = {n}{'; KL is at most this' if bound else ''})",
        )  # fmt: skip
