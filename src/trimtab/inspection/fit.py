"""How well a guide's scores of prefixes predict rewards, labels and preferences.

Legend: N prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from trimtab.errors import DataError
from trimtab.evaluation.statistics import by_prompt, estimate, holm
from trimtab.inspection.audit import Finding
from trimtab.inspection.scores import POINTS, SHARES, WHOLE, Scoring, prefix_points
from trimtab.plugins import optional
from trimtab.types import Group, Prompt

RESAMPLES = 500
"""Of the bootstrap: enough for a standard error that is right to about 3 %."""

FEW = 10
"""Prompts: of fewer the bootstrap's standard error, short by sqrt((n - 1) / n), misleads."""

ALPHA = 0.05
EARLY = ("25%", "50%")
"""Where a guide that is fit for decoding token by token must beat chance."""

ENOUGH = 6
"""Prompts, of fewer no sign test is below 5 % / 2, as Holm asks of the better of two points."""

TEST = "exact one-sided sign test over prompts"

Array: TypeAlias = Float[np.ndarray, "N"]


# --- statistics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """A number and its standard error; `se` is None where a single prompt gives none."""

    value: float
    se: float | None


@dataclass(frozen=True)
class Points:
    """Prefixes, and what is known of each."""

    predicted: Array  # by the guide, in the label's unit
    labels: Array  # what came, or the mean of what came
    noise: Array  # variance of the label around the prefix' true value; NaN where it is not known
    prompts: Int[np.ndarray, "N"]  # a number for each: prefixes of one prompt are drawn together

    def __getitem__(self, index: np.ndarray) -> Points:
        """Some of them, in that order."""
        columns = (self.predicted, self.labels, self.noise, self.prompts)
        return Points(*(column[index] for column in columns))


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


# --- values --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """A tenth of the prefixes, by what is predicted: calibrated where `label` is `predicted`."""

    n: int
    predicted: float
    label: Figure


@dataclass(frozen=True)
class Fit:
    """Scores against labels at one point of responses."""

    where: str
    n: int
    prompts: int
    mse: Figure | None
    r2: (
        Figure | None
    )  # 1 - MSE / variance of the labels; of class labels this is Brier's skill score
    ceiling: Figure | None  # the R2 that a perfect value reaches
    spearman: Figure | None
    bins: tuple[Bin, ...]


def fit(where: str, points: Points, *, exact: bool, seed: int = 0) -> Fit:
    """All figures of some prefixes; unless labels are `exact`ly of one unit, ranks alone."""
    statistics = (spearman, mse, r2, ceiling) if exact else (spearman,)
    ranks, *others = bootstrapped(points, statistics, seed)
    error, explained, most = others or (None, None, None)
    n, prompts = len(points.labels), len(np.unique(points.prompts))
    return Fit(where, n, prompts, error, explained, most, ranks, bins(points))


def bins(points: Points) -> tuple[Bin, ...]:
    """Tenths by prediction with their mean label, whose error is clustered by prompt."""
    tenths = []
    for index in _parts(points.predicted, 10):
        part = points[index]
        label = _mean(part.labels, part.prompts.tolist())
        tenths.append(Bin(len(index), float(part.predicted.mean()), label))
    return tuple(tenths)


def _mean(values: Sequence[float] | Array, prompts: Sequence[Hashable]) -> Figure:
    found = estimate(values, prompts)
    return Figure(found.mean, found.se if math.isfinite(found.se) else None)


def _parts(values: Array, n: int) -> list[np.ndarray]:
    """Indices of n parts of one size, by value; equal values are never parted."""
    cuts = np.quantile(values, np.arange(1, n) / n)
    part = np.searchsorted(cuts, values, side="left")
    return [np.flatnonzero(part == number) for number in np.unique(part)]


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
    every = _scored(rows, [prefix_points(len(row.tokens)) for row in rows], groups, scoring)
    exact, seed = scoring.units.exact, scoring.seed
    # How far a single response lies from its prefix' value is known of the prompt alone.
    unknown = np.full(len(rows), np.nan)
    fits = tuple(
        fit(where, replace(points, noise=unknown), exact=exact, seed=seed)
        for where, points in zip(POINTS, every, strict=True)
    )
    several = every[-1][np.flatnonzero(np.isfinite(every[-1].noise))]
    known = exact and len(several.labels) > 0
    return fits, bootstrapped(several, (ceiling,), seed)[0] if known else None


def fit_labels(groups: Sequence[Group], scoring: Scoring) -> tuple[Fit, ...]:
    """The fit on labelled prefixes: all of them, and quarters by their length."""
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
    lengths = np.array([float(len(row.tokens)) for row in rows])
    (points,) = _scored(rows, [(len(row.tokens),) for row in rows], groups, scoring)
    parts = [("all", points)]
    quarters = _parts(lengths, 4)
    for index in quarters if len(quarters) > 1 else ():
        least, most = int(lengths[index].min()), int(lengths[index].max())
        span = f"{least} to {most}" if least < most else f"{least}"
        parts.append((f"{span} token{'s' * (most > 1)}", points[index]))
    exact, seed = scoring.units.exact, scoring.seed
    return tuple(fit(where, part, exact=exact, seed=seed) for where, part in parts)


def _scored(
    rows: Sequence[_Row], at: Sequence[Sequence[int]], groups: Sequence[Group], scoring: Scoring
) -> list[Points]:
    """Prefixes of all rows, for each number of tokens that `at` says of them."""
    if not rows:
        names = sorted({name for group in groups for r in group.responses for name in r.rewards})
        raise DataError(
            f"there must be responses with the reward {scoring.reward!r}, of at most "
            f"{scoring.max_length} tokens with their prompt",
            got=f"none in {len(groups)} groups with rewards {', '.join(names) or 'of no name'}",
            do="name another --learn, or raise --max-length",
        )
    scores = scoring.scores([row[:2] for row in rows], at)
    labels = np.array([row.label for row in rows])
    noise = np.array([row.noise for row in rows])
    numbers: dict[tuple[int, ...], int] = {}
    prompts = np.array([numbers.setdefault(row.prompt.ids, len(numbers)) for row in rows])
    return [
        Points(np.array(list(map(scoring.units.predicted, column))), labels, noise, prompts)
        for column in zip(*scores, strict=True)
    ]


def _variance(values: Sequence[float]) -> float:
    """Among completions, with n - 1 in the denominator; NaN of a single one."""
    return float(np.var(values, ddof=1)) if len(values) > 1 else math.nan


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
        few = f"{n} prompts: too few to speak of others, and their standard errors are too small"
        one = "one prompt: nothing can be said of others, and there are no standard errors"
        do = f"measure at least {FEW} prompts"
        findings.append(Finding("warning", about, one if n == 1 else few, do))
    return findings


# --- pairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accuracy:
    """How often the better of two responses scores higher, having read a share of both."""

    where: str
    n: int
    prompts: int
    accuracy: Figure  # ties count half; clustered by prompt
    ties: int
    p: float  # of "no better than chance", by `TEST`

    def __str__(self) -> str:
        """In words."""
        return f"{self.accuracy.value:.3f} at {self.where} (n {self.n}, p {self.p:.2g})"


def pair_accuracy(pairs: Sequence[Group], scoring: Scoring) -> tuple[Accuracy, ...]:
    """Accuracy at each of `SHARES` of both lengths, on groups of two, the better response first."""
    kept = [
        group
        for group in pairs
        if all(group.prefix + r.tokens and scoring.fits(group, r.tokens) for r in group.responses)
    ]
    if not kept:
        raise DataError(
            f"there must be pairs of at most {scoring.max_length} tokens with their prompt",
            got=f"none of {len(pairs)}",
            do="raise --max-length, or name other pairs",
        )
    rows = [(group.prompt, group.prefix + r.tokens) for group in kept for r in group.responses]
    scores = np.array(scoring.scores(rows, [prefix_points(len(ids))[1:] for _, ids in rows]))
    prompts = [group.prompt.ids for group in kept]
    accuracies = []
    for where, better, worse in zip(SHARES, scores[0::2].T, scores[1::2].T, strict=True):
        ahead = ((np.sign(better - worse) + 1) / 2).tolist()
        n, ties, p = len(ahead), ahead.count(0.5), sign_test(ahead, prompts)
        figure = _mean(ahead, prompts)
        accuracies.append(Accuracy(where, n, len(set(prompts)), figure, ties, p))
    return tuple(accuracies)


def sign_test(ahead: Sequence[float], prompts: Sequence[Hashable]) -> float:
    """P of so many prompts, or more, being above one half by chance; those at one half are out.

    The prompt is the unit: pairs of one prompt are not independent. With one pair per prompt this
    is the exact binomial test of the accuracy.
    """
    means = [sum(x) / len(x) for x in by_prompt([str(p) for p in prompts], ahead).values()]
    wins, losses = sum(m > 0.5 for m in means), sum(m < 0.5 for m in means)
    if wins + losses == 0:
        return 1.0
    test = optional("scipy.stats", "eval").binomtest(wins, wins + losses, alternative="greater")
    return float(test.pvalue)


def check_pairs(accuracies: Sequence[Accuracy], name: str) -> Finding:
    """Whether prefixes are told apart as finished responses are.

    A reward model that is trained on finished responses alone may say anything of prefixes: its
    loss pins down r(x, y) and not r(x, y_1 .. y_i) (PARGS, Theorem 1; its own models agreed with
    people on 50, 43, 50 and 80 % of pairs at 25, 50, 75 and 100 % of the length). So a warning says
    where the accuracy on finished responses is above chance and that at a quarter and at a half is
    not: at neither of the two is p below 5 % (`TEST`, Holm over the two).
    """
    at = {accuracy.where: accuracy for accuracy in accuracies}
    whole = at[WHOLE]
    shown = ", ".join(str(at[where]) for where in (*EARLY, WHOLE))
    if whole.prompts < ENOUGH:
        message = (
            f"{whole.prompts} prompt{'s' * (whole.prompts > 1)}: too few to say anything; were "
            f"all right, p would still be {2.0**-whole.prompts:.2g} ({TEST}): {whole}"
        )
        do = f"name pairs of at least {ENOUGH} prompts"
    elif whole.p >= ALPHA:
        message = f"not above chance on finished responses: {whole}"
        do = "name more pairs; else the guide was trained on another reward, template or label"
    elif min(holm({where: at[where].p for where in EARLY}).values()) < ALPHA:
        return Finding("ok", "pairs", f"prefixes are told apart: {shown}")
    else:
        message = (
            f"{name} ranks finished responses and is near chance on prefixes: {shown} ({TEST}, "
            f"Holm over {' and '.join(EARLY)}, level {ALPHA:g}). A reward model of finished "
            "responses may score prefixes arbitrarily (PARGS, Theorem 1)"
        )
        do = (
            "train it on prefixes (`trimtab train partial-bradley-terry`), or use it on finished "
            "responses only (best-of-n)"
        )
    return Finding("warning", "pairs", message, do)
