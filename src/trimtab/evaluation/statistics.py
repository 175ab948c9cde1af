"""How sure is a mean, and is a gain real? Standard errors and tests with the prompt as the unit.

Several samples of one prompt resemble each other, so they are not independent: counting them as
if they were makes a standard error too small. It is therefore clustered by prompt.

Sums are exact (`math.fsum`) and rounded once, so no figure depends on the order of its rows; and
what differs by rounding alone counts as equal (`ROUNDING`, `levels`).

Legend: N rows, P prompts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Real

from trimtab.errors import UsageError
from trimtab.plugins import optional

# --- means ---------------------------------------------------------------------------------------

Values: TypeAlias = "Sequence[float] | Real[np.ndarray, 'N']"

ROUNDING = 1e-6
"""Differences of at most this share of the scores' size are rounding, and no difference.

Rewards are often computed in single precision, which holds seven digits, and the same text scored
in another batch differs in the last of them.
"""

Scores: TypeAlias = Mapping[str, Sequence[float]]
"""What one method got: a prompt's id to the scores of its samples."""


@dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        mean: in the unit of the values.
        se: its standard error; NaN where a single prompt gives none.
        n: independent units behind the SE: prompts, or rows where none were named.
        rows: values averaged.
        test: how the SE was found.
    """

    mean: float
    se: float
    n: int
    rows: int
    test: str


def finite(values: Values, what: str = "values") -> Float[np.ndarray, "N"]:
    """The values as float64, at least one and all finite."""
    array = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array))
    if len(array) == 0 or len(bad):
        raise UsageError(
            f"{what} must be one or more finite numbers",
            got="none" if len(array) == 0 else f"{array[bad[0]]} at position {bad[0]}",
            do="drop the rows that failed before measuring",
        )
    return array


def mean(values: Values) -> float:
    """The mean, whatever the order of the values."""
    return math.fsum(values) / len(values)


def levels(values: Float[np.ndarray, "N"], noise: Values | None = None) -> Float[np.ndarray, "N"]:
    """The values, those that differ by rounding alone made equal: to the least of them.

    `noise` says how far rounding may have moved each; None takes `ROUNDING` of its size, and of the
    largest value's what is left of it after a cancellation in double precision.

    >>> levels(np.array([0.3, 0.1, 0.1 + 0.2])).tolist()
    [0.3, 0.1, 0.3]
    """
    if len(values) == 0:
        return values
    if noise is None:
        noise = np.maximum(ROUNDING * np.abs(values), 1e-12 * np.abs(values).max())
    near = np.asarray(noise, dtype=np.float64)
    order = np.lexsort((near, values))
    x, near = values[order], near[order]
    apart = np.diff(x) > np.maximum(near[1:], near[:-1])
    first = np.flatnonzero(np.concatenate([[True], apart]))
    found = np.empty_like(x)
    found[order] = x[first][np.concatenate([[0], np.cumsum(apart)])]
    return found


def by_prompt(prompts: Sequence[str], values: Values) -> dict[str, list[float]]:
    """Flat rows as `Scores`: each prompt's values, in order of first appearance."""
    scores: dict[str, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        scores.setdefault(prompt, []).append(float(value))
    return scores


def estimate(values: Values, prompts: Sequence[Hashable] | None = None) -> Estimate:
    """Mean and standard error, clustered by prompt where prompts are named.

        SE^2 = G / (G - 1) * sum_g (sum_{i in g} (x_i - mean))^2 / N^2

    for N values in G clusters (Liang and Zeger 1986, with the G / (G - 1) correction). `prompts`
    names the prompt of each value; without it every value is a cluster, and the SE is the usual
    s / sqrt(N).
    """
    x = finite(values)
    return ratio(x, np.ones(len(x)), prompts)


def ratio(above: Values, below: Values, prompts: Sequence[Hashable] | None = None) -> Estimate:
    """sum(above) / sum(below) with its delta-method standard error, clustered by prompt.

    The residual of a row is `above - ratio * below`; the SE is as in `estimate`, over the sum of
    `below`. Reward or KL per token are such ratios: both sums are random.
    """
    a, b = finite(above), finite(below)
    whole = math.fsum(b)
    found = math.fsum(a) / whole
    each: Sequence[Hashable] = range(len(a)) if prompts is None else prompts
    groups: dict[Hashable, list[float]] = {}
    for prompt, residual in zip(each, (a - found * b).tolist(), strict=True):
        groups.setdefault(prompt, []).append(residual)
    g, squares = len(groups), math.fsum(math.fsum(group) ** 2 for group in groups.values())
    se = math.sqrt(g / (g - 1) * squares) / abs(whole) if g > 1 else math.nan
    unit = "rows" if prompts is None else "prompts"
    return Estimate(found, se, g, len(a), f"mean; SE over {unit}")


# --- one method against another, prompt by prompt ------------------------------------------------
#
# Both answer the same prompts with the same seeds; what is compared is each prompt's mean.


def paired_differences(a: Scores, b: Scores) -> Float[np.ndarray, "P"]:
    """Each prompt's mean under `a` minus its mean under `b`, in the order of `a`.

    It is 0 where it is rounding: at most `ROUNDING` of the prompt's largest score.

    Raises:
        UsageError: the two do not hold the same prompts, or hold fewer than two.
    """
    return _paired(a, b)[0]


def _paired(a: Scores, b: Scores) -> tuple[Float[np.ndarray, "P"], Float[np.ndarray, "P"]]:
    """The differences, and how far rounding may have moved each."""
    alone = sorted(a.keys() ^ b.keys())
    if alone or len(a) < 2:
        raise UsageError(
            "a paired comparison needs the same two or more prompts on both sides",
            got=f"{len(a)} and {len(b)} prompts" + (f", unpaired: {alone[:3]}" if alone else ""),
            do="decode the same prompts with both methods, or keep those that both have",
        )
    pairs = [(finite(a[p], p), finite(b[p], p)) for p in a]
    noise = np.array([ROUNDING * max(np.abs(x).max(), np.abs(y).max()) for x, y in pairs])
    d = np.array([mean(x) - mean(y) for x, y in pairs])
    return np.where(np.abs(d) <= noise, 0.0, d), noise


@dataclass(frozen=True)
class Interval:
    """A difference of two methods' means with a confidence interval."""

    difference: float  # mean over prompts of a - b
    se: float
    low: float
    high: float
    n: int  # prompts
    test: str = "paired bootstrap over prompts (BCa)"


def bootstrap(
    a: Scores, b: Scores, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Paired bootstrap confidence interval of mean(a) - mean(b): prompts are drawn again.

    Bias-corrected and accelerated (Efron 1987), by `scipy.stats.bootstrap`. The same seed gives
    the same interval, whatever the order of the prompts; `level` is the probability with which
    such intervals cover the truth.
    """
    differences, noise = _paired(a, b)
    d = np.sort(differences)
    whole, n = mean(d), len(d)
    if np.ptp(d) <= noise.max():  # every resample is alike: BCa would divide by zero
        return Interval(whole, 0.0, whole, whole, n)
    scale = float(np.abs(d).max())  # BCa cubes the differences: tiny ones would vanish
    result = optional("scipy.stats", "eval").bootstrap(
        (d / scale,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        batch=max(1, 2**20 // n),
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = (scale * float(end) for end in result.confidence_interval)
    return Interval(whole, scale * float(result.standard_error), low, high, n)


# --- tests ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """A test of "a and b do not differ"."""

    __test__ = False  # a result, not a class of pytest's

    statistic: float  # the smaller of the two signed rank sums
    p: float  # two-sided
    difference: float  # mean over prompts of a - b
    se: float
    n: int  # prompts that entered the test; ties are left out
    ties: int
    test: str  # and how its p-value was computed


def wilcoxon(a: Scores, b: Scores) -> Test:
    """Wilcoxon's signed-rank test over prompts (`scipy.stats.wilcoxon`, two-sided).

    Prompts without a difference are dropped (Wilcoxon's own treatment); differences whose sizes are
    equal but for rounding share a rank. The p-value is exact for up to 50 untied differences, exact
    over all sign flips for up to 13 with ties in their sizes, and by the normal approximation
    otherwise, as scipy chooses.
    """
    d, noise = _paired(a, b)
    whole, differ = estimate(d), d != 0
    used = np.sort(np.sign(d[differ]) * levels(np.abs(d[differ]), noise[differ]))
    n = len(used)
    if n == 0:
        return Test(0.0, 1.0, 0.0, 0.0, 0, len(d), "Wilcoxon signed-rank (no differences)")
    stats = optional("scipy.stats", "eval")
    tied = len(np.unique(np.abs(used))) < n
    if tied and n <= 13:
        method, how = stats.PermutationMethod(), "all sign flips"
    elif tied or n > 50:
        method, how = "asymptotic", "normal approximation"
    else:
        method, how = "exact", "exact"
    result = stats.wilcoxon(used, method=method)
    name = f"Wilcoxon signed-rank ({how})"
    statistic, p = float(result.statistic), float(result.pvalue)
    return Test(statistic, p, whole.mean, whole.se, n, len(d) - n, name)


def sign_flips(differences: Sequence[float]) -> float:
    """Two-sided p-value of "no difference": the share of sign flips at least as far from zero.

    By `scipy.stats.permutation_test` over all 2^P flips where P <= 13, else over 9999 drawn ones.
    It asks for the mean, and so hears a few large differences that ranks do not.

    >>> sign_flips([0.5, 0.4, 0.6])
    0.25
    """
    d = np.sort(finite(differences, "differences"))
    largest = float(np.abs(d).max()) or 1.0

    def total(x: np.ndarray, axis: int) -> np.ndarray:  # rounded: flips that tie must tie
        return np.asarray(np.round(np.sum(x, axis=axis) / largest, 9))

    result = optional("scipy.stats", "eval").permutation_test(
        (d,), total, permutation_type="samples", rng=np.random.default_rng(0)
    )
    return float(result.pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p-values over a family of tests (Holm 1979), in the order given.

        p_(i)' = max_{j <= i} min(1, (m - j + 1) p_(j))

    Comparing several methods with one baseline, reject where the adjusted value is below alpha:
    the odds of any false alarm among them stay below alpha, whatever their dependence.
    """
    adjusted, largest = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = max(largest, min(1.0, (len(p) - i) * p[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p}


@dataclass(frozen=True)
class WinRate:
    """On how many prompts one method beat another."""

    wins: int
    ties: int
    losses: int
    rate: float  # (wins + ties / 2) / n
    se: float
    p: float  # two-sided, of wins against losses; ties are left out
    test: str = "sign test (exact)"

    @property
    def n(self) -> int:
        """Prompts."""
        return self.wins + self.ties + self.losses


def win_tie_lose(a: Scores, b: Scores, margin: float = 0.0) -> WinRate:
    """Wins, ties and losses of a against b over prompts; a tie is a difference within `margin`.

    What is rounding (see `paired_differences`) is a tie in any case.
    """
    d = paired_differences(a, b)
    wins, losses = int((d > margin).sum()), int((d < -margin).sum())
    rate = estimate((np.sign(d) * (np.abs(d) > margin) + 1) / 2)
    decided = wins + losses
    p = optional("scipy.stats", "eval").binomtest(wins, decided).pvalue if decided else 1.0
    return WinRate(wins, len(d) - decided, losses, rate.mean, rate.se, float(p))


# --- how many prompts ----------------------------------------------------------------------------


def paired_power(n: int, difference: float, sd: float, alpha: float = 0.05) -> float:
    """Odds that a two-sided paired t-test on n prompts finds a difference (Cohen 1988).

        power = P(|T| > t_{n-1, 1 - alpha/2}),   T ~ noncentral t_{n-1}(sqrt(n) difference / sd)

    Wilcoxon's test needs about 5% more prompts than this when differences are normal, and fewer
    when their tails are heavy.
    """
    stats = optional("scipy.stats", "eval")
    shift = math.sqrt(n) * abs(difference) / sd
    critical = stats.t.isf(alpha / 2, n - 1)
    return float(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift))


def sample_size(difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """The least number of prompts with which a paired t-test finds a difference.

    Args:
        difference: the smallest mean difference worth finding.
        sd: over prompts, of the paired differences in a pilot run.
        power: odds of finding it.
        alpha: odds of a false alarm; divide by the number of comparisons for Holm's worst case.
    """
    if difference == 0 or sd <= 0 or not alpha < power < 1:
        raise UsageError(
            "a sample size needs a difference, a positive sd, and alpha < power < 1",
            got=f"difference={difference}, sd={sd}, power={power}, alpha={alpha}",
            do="name the smallest difference worth finding, and the sd of a pilot run",
        )

    def power_of(n: int) -> float:
        return paired_power(n, difference, sd, alpha)

    most = 2
    while power_of(most) < power:
        most *= 2
    return bisect_left(range(most + 1), power, lo=2, key=power_of)  # power grows with n
