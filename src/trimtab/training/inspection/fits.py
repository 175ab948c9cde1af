"""How well scores predict labels: squared error, R2, ranks, and what a perfect guide would reach.

Legend: N prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from trimtab.evaluation.statistics import estimate
from trimtab.plugins import optional

RESAMPLES = 500
"""Of the bootstrap: enough for a standard error that is right to about 3 %."""

BINS = 10
Array = Float[np.ndarray, "N"]


@dataclass(frozen=True)
class Figure:
    """A number and its standard error; `se` is None where a single prompt gives none."""

    value: float
    se: float | None


@dataclass(frozen=True)
class Points:
    """Prefixes, and what is known of each.

    Attributes:
        predicted: by the guide, in the label's unit.
        labels: what came, or the mean of what came.
        noise: variance of the label around the prefix' true value; NaN where it is not known.
        prompts: of each prefix: prefixes of one prompt are drawn together.
        lengths: tokens of each.
    """

    predicted: Array
    labels: Array
    noise: Array
    prompts: tuple[Hashable, ...]
    lengths: Array

    def only(self, index: Sequence[int] | np.ndarray) -> Points:
        """Some of them, in that order."""
        at = np.asarray(index, dtype=np.int64)
        prompts = tuple(self.prompts[i] for i in at.tolist())
        return replace(self.drawn(at), prompts=prompts)

    def drawn(self, at: np.ndarray) -> Points:
        """The same without their prompts: enough for a statistic, and quick."""
        return Points(self.predicted[at], self.labels[at], self.noise[at], (), self.lengths[at])


@dataclass(frozen=True)
class Bin:
    """A tenth of the prefixes, by what is predicted: calibrated where `label` is `predicted`."""

    n: int
    predicted: float
    label: Figure


@dataclass(frozen=True)
class Fit:
    """Scores against labels at one place.

    Attributes:
        where: which prefixes.
        n: how many.
        prompts: of how many prompts.
        mse: mean squared error.
        r2: 1 - MSE / variance of the labels; of class labels this is Brier's skill score.
        ceiling: the R2 that a perfect value reaches; None where the labels' noise is not known.
        spearman: rank correlation.
        bins: tenths by what is predicted.
    """

    where: str
    n: int
    prompts: int
    mse: Figure | None
    r2: Figure | None
    ceiling: Figure | None
    spearman: Figure | None
    bins: tuple[Bin, ...]


Statistic = Callable[[Points], float]


def mse(points: Points) -> float:
    """mean (prediction - label)^2."""
    return float(((points.predicted - points.labels) ** 2).mean())


def r2(points: Points) -> float:
    """1 - sum (label - prediction)^2 / sum (label - mean)^2; NaN where all labels are alike."""
    spread = float(points.labels.var())
    return 1 - mse(points) / spread if spread > 0 else math.nan


def ceiling(points: Points) -> float:
    """1 - mean noise / variance of the labels: the R2 of the true value itself.

    A label y = V + e that is the mean of m completions has Var(e) = within / m, within the variance
    among completions; E (V - y)^2 = Var(e) is then left over by a perfect prediction.
    """
    spread = float(points.labels.var())
    return 1 - float(points.noise.mean()) / spread if spread > 0 else math.nan


def spearman(points: Points) -> float:
    """Pearson's correlation of the ranks, ties at their mean rank (scipy's); NaN for constants."""
    ranks = [optional("scipy.stats", "eval").rankdata(x) for x in (points.predicted, points.labels)]
    if any(np.ptp(x) == 0 for x in ranks):
        return math.nan
    return float(np.corrcoef(*ranks)[0, 1])


def fit(where: str, points: Points, *, exact: bool, seed: int = 0) -> Fit:
    """All figures of some prefixes, with standard errors by the bootstrap over prompts.

    Args:
        where: which prefixes they are.
        points: one or more.
        exact: whether prediction and label are of one unit; else ranks alone are compared.
        seed: of the bootstrap.
    """
    wanted = (mse, r2, ceiling, spearman) if exact else (spearman,)
    found = dict(zip(wanted, bootstrapped(points, wanted, seed), strict=True))
    return Fit(
        where,
        len(points.labels),
        len(set(points.prompts)),
        found.get(mse),
        found.get(r2),
        found.get(ceiling),
        found[spearman],
        bins(points),
    )


def bootstrapped(
    points: Points, statistics: Sequence[Statistic], seed: int = 0
) -> list[Figure | None]:
    """Statistics with standard errors: prompts are drawn again, each with all its prefixes.

    None where a statistic does not exist; draws in which it does not are left out.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, prompt in enumerate(points.prompts):
        groups.setdefault(prompt, []).append(i)
    members = [np.array(at) for at in groups.values()]
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(members), size=(RESAMPLES if len(members) > 1 else 0, len(members)))
    again: list[list[float]] = [[] for _ in statistics]
    for row in draws:
        drawn = points.drawn(np.concatenate([members[g] for g in row]))
        for found, statistic in zip(again, statistics, strict=True):
            found.append(statistic(drawn))
    return [_figure(s(points), each) for s, each in zip(statistics, again, strict=True)]


def _figure(value: float, again: Sequence[float]) -> Figure | None:
    if not math.isfinite(value):
        return None
    finite = [x for x in again if math.isfinite(x)]
    return Figure(value, float(np.std(finite, ddof=1)) if len(finite) > 1 else None)


def bins(points: Points, most: int = BINS) -> tuple[Bin, ...]:
    """Tenths by prediction with their mean label; equal predictions are never parted.

    The error of the mean label is clustered by prompt (`trimtab.evaluation.statistics.estimate`).
    """
    cuts = np.quantile(points.predicted, np.arange(1, most) / most)
    which = np.searchsorted(cuts, points.predicted, side="left")
    found = []
    for number in np.unique(which):
        mine = points.only(np.flatnonzero(which == number))
        label = estimate(mine.labels, mine.prompts)
        se = label.se if math.isfinite(label.se) else None
        predicted = float(mine.predicted.mean())
        found.append(Bin(len(mine.labels), predicted, Figure(label.mean, se)))
    return tuple(found)
