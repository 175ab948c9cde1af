"""How well scores predict labels: squared error, R2, ranks, and what a perfect guide would reach.

Legend: N prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from trimtab.errors import DataError
from trimtab.evaluation.statistics import estimate
from trimtab.inspection.audit import Finding
from trimtab.inspection.scores import POINTS, Scoring, prefix_points
from trimtab.plugins import optional
from trimtab.types import Group, Prompt

RESAMPLES = 500
"""Of the bootstrap: enough for a standard error that is right to about 3 %."""

FEW = 10
"""Prompts: of fewer the bootstrap's standard error, short by sqrt((n - 1) / n), misleads."""

Array: TypeAlias = Float[np.ndarray, "N"]


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
        prompts: a number for each prompt: prefixes of one prompt are drawn together.
        lengths: tokens of each.
    """

    predicted: Array
    labels: Array
    noise: Array
    prompts: Int[np.ndarray, "N"]
    lengths: Array

    def __getitem__(self, index: np.ndarray) -> Points:
        """Some of them, in that order."""
        columns = (self.predicted, self.labels, self.noise, self.prompts, self.lengths)
        return Points(*(column[index] for column in columns))


@dataclass(frozen=True)
class Bin:
    """A tenth of the prefixes, by what is predicted: calibrated where `label` is `predicted`."""

    n: int
    predicted: float
    label: Figure


@dataclass(frozen=True)
class Fit:
    """Scores against labels at one point of responses.

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


# --- statistics ----------------------------------------------------------------------------------


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
    statistics = (spearman, mse, r2, ceiling) if exact else (spearman,)
    ranks, *others = bootstrapped(points, statistics, seed)
    error, explained, most = others or (None, None, None)
    n, prompts = len(points.labels), len(np.unique(points.prompts))
    return Fit(where, n, prompts, error, explained, most, ranks, bins(points))


def bootstrapped(
    points: Points, statistics: Sequence[Callable[[Points], float]], seed: int = 0
) -> list[Figure | None]:
    """Statistics with standard errors: prompts are drawn again, each with all its prefixes.

    None where a statistic does not exist; draws in which it does not are left out.
    """
    members = [np.flatnonzero(points.prompts == prompt) for prompt in np.unique(points.prompts)]
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(members), size=(RESAMPLES if len(members) > 1 else 0, len(members)))
    again: list[list[float]] = []
    for draw in draws:
        sample = points[np.concatenate([members[i] for i in draw])]
        again.append([statistic(sample) for statistic in statistics])
    figures: list[Figure | None] = []
    for i, statistic in enumerate(statistics):
        value = statistic(points)
        values = [row[i] for row in again if math.isfinite(row[i])]
        se = float(np.std(values, ddof=1)) if len(values) > 1 else None
        figures.append(Figure(value, se) if math.isfinite(value) else None)
    return figures


def bins(points: Points) -> tuple[Bin, ...]:
    """Tenths by prediction with their mean label, whose error is clustered by prompt."""
    tenths = []
    for index in _parts(points.predicted, 10):
        part = points[index]
        label = estimate(part.labels, part.prompts.tolist())
        se = label.se if math.isfinite(label.se) else None
        tenths.append(Bin(len(index), float(part.predicted.mean()), Figure(label.mean, se)))
    return tuple(tenths)


def _parts(values: Array, n: int) -> list[np.ndarray]:
    """Indices of n parts of one size, by value; equal values are never parted."""
    cuts = np.quantile(values, np.arange(1, n) / n)
    part = np.searchsorted(cuts, values, side="left")
    return [np.flatnonzero(part == number) for number in np.unique(part)]


# --- responses and labels ------------------------------------------------------------------------


class _Row(NamedTuple):
    """A response or a labelled prefix."""

    prompt: Prompt
    tokens: tuple[int, ...]
    label: float
    noise: float


def fit_responses(
    groups: Sequence[Group], scoring: Scoring
) -> tuple[tuple[Fit, ...], Figure | None]:
    """The fit at each of `POINTS`, and the R2 that knowing the prompt alone would give.

    The latter is 1 - within / variance, over prompts of two or more responses: what a perfect value
    of the prompt leaves over is the variance among its responses.

    Raises:
        DataError: no response has the reward.
    """
    rows: list[_Row] = []
    for group in groups:
        if group.prefix:
            raise DataError(
                "responses must begin at the prompt",
                got="groups with a prefix: labels",
                do="name their folder by --validation",
            )
        fitting = [(y, x) for y, x in scoring.labels(group) if y and scoring.fits(group, y)]
        within = _variance([x for _, x in fitting])
        rows += [_Row(group.prompt, y, x, within) for y, x in fitting]
    _check_some(rows, groups, scoring)
    at = [prefix_points(len(row.tokens)) for row in rows]
    scores = np.array(scoring.scores([row[:2] for row in rows], at))
    exact, seed, fits = scoring.units.exact, scoring.seed, []
    for i, where in enumerate(POINTS):
        points = _points(scoring, rows, scores[:, i], [lengths[i] for lengths in at])
        # How far a single response lies from its prefix' value is known of the prompt alone.
        unknown = replace(points, noise=np.full(len(rows), np.nan))
        fits.append(fit(where, unknown, exact=exact, seed=seed))
    several = points[np.flatnonzero(np.isfinite(points.noise))]
    known = exact and len(several.labels) > 0
    return tuple(fits), bootstrapped(several, (ceiling,), seed)[0] if known else None


def fit_labels(groups: Sequence[Group], scoring: Scoring) -> tuple[Fit, ...]:
    """The fit on labelled prefixes: all of them, and quarters by their length.

    Raises:
        DataError: the groups are no labels, or none has the reward.
    """
    if not any(group.prefix for group in groups):
        raise DataError(
            "labels must be groups with a prefix, completed several times",
            got=f"{len(groups)} groups of whole responses",
            do="make labels with `trimtab collect --validation`, or name the folder by --data",
        )
    rows = []
    for group in groups:
        values = [x for _, x in scoring.labels(group)]
        if group.prefix and values and scoring.fits(group, ()):
            noise = _variance(values) / len(values)
            rows.append(_Row(group.prompt, group.prefix, float(np.mean(values)), noise))
    _check_some(rows, groups, scoring)
    lengths = [len(row.tokens) for row in rows]
    scores = scoring.scores([row[:2] for row in rows], [(length,) for length in lengths])
    points = _points(scoring, rows, [score for (score,) in scores], lengths)
    parts = [("all", points), *_quarters(points)]
    exact, seed = scoring.units.exact, scoring.seed
    return tuple(fit(where, part, exact=exact, seed=seed) for where, part in parts)


def _points(
    scoring: Scoring, rows: Sequence[_Row], scores: Sequence[float] | Array, lengths: Sequence[int]
) -> Points:
    numbers: dict[tuple[int, ...], int] = {}
    return Points(
        np.array([scoring.units.predicted(float(score)) for score in scores]),
        np.array([row.label for row in rows], dtype=np.float64),
        np.array([row.noise for row in rows]),
        np.array([numbers.setdefault(row.prompt.ids, len(numbers)) for row in rows]),
        np.array(lengths, dtype=np.float64),
    )


def _variance(values: Sequence[float]) -> float:
    """Among completions, with n - 1 in the denominator; NaN of a single one."""
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan


def _quarters(points: Points) -> list[tuple[str, Points]]:
    """Quarters of the prefixes by length, named by it."""
    quarters = []
    for index in _parts(points.lengths, 4):
        part = points[index]
        least, most = int(part.lengths.min()), int(part.lengths.max())
        span = f"{least} to {most}" if least < most else f"{least}"
        quarters.append((f"{span} token{'s' * (most > 1)}", part))
    return quarters if len(quarters) > 1 else []


def _check_some(rows: Sequence[object], groups: Sequence[Group], scoring: Scoring) -> None:
    if rows:
        return
    names = sorted({name for group in groups for r in group.responses for name in r.rewards})
    raise DataError(
        f"there must be responses with the reward {scoring.reward!r}, of at most "
        f"{scoring.max_length} tokens with their prompt",
        got=f"none in {len(groups)} groups with rewards {', '.join(names) or 'of no name'}",
        do="name another --learn, or raise --max-length",
    )


# --- findings ------------------------------------------------------------------------------------


def check_fits(about: str, fits: Sequence[Fit]) -> list[Finding]:
    """Warnings: figures of few prompts; no point at which the labels' mean is not as near."""
    findings = []
    best = max((fit.r2.value for fit in fits if fit.r2 is not None), default=1.0)
    if best <= 0:
        message = f"no better than a constant: R2 is {best:.3g} at most, where the mean has 0"
        do = "retrain it, or check reward, template and base: it does not know what it is asked"
        findings.append(Finding("warning", about, message, do))
    n = fits[0].prompts
    if n < FEW:
        message = (
            "one prompt: nothing can be said of others, and there are no standard errors"
            if n == 1
            else f"{n} prompts: too few to speak of others, and their standard errors are too small"
        )
        do = f"measure at least {FEW} prompts"
        findings.append(Finding("warning", about, message, do))
    return findings
