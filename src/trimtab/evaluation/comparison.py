"""Is the gain real? One method against another, prompt by prompt, and how many prompts it takes.

Both methods answer the same prompts with the same seeds; what is compared is each prompt's mean.
Differences that are rounding are none, and nothing depends on the order of prompts or samples.

Legend: P prompts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from trimtab.errors import UsageError
from trimtab.evaluation.statistics import ROUNDING, Scores, estimate, finite, levels, mean
from trimtab.plugins import optional


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
    """A difference of two methods' means with a confidence interval.

    Attributes:
        difference: mean over prompts of a - b.
        se: bootstrap standard error.
        low: lower end.
        high: upper end.
        n: prompts.
        test: the method's name.
    """

    difference: float
    se: float
    low: float
    high: float
    n: int
    test: str = "paired bootstrap over prompts (BCa)"


def bootstrap(
    a: Scores, b: Scores, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> Interval:
    """Paired bootstrap confidence interval of mean(a) - mean(b): prompts are drawn again.

    Bias-corrected and accelerated (Efron 1987), by `scipy.stats.bootstrap`. The same seed gives
    the same interval, whatever the order of the prompts.

    Args:
        a: each prompt's scores under one method.
        b: the same under another.
        level: probability with which such intervals cover the truth.
        resamples: bootstrap draws.
        seed: of the draws.
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
    """A test of "a and b do not differ".

    Attributes:
        statistic: the smaller of the two signed rank sums.
        p: two-sided p-value.
        difference: mean over prompts of a - b.
        se: its standard error.
        n: prompts that entered the test; ties are left out.
        ties: prompts on which a and b are equal.
        test: the test and how its p-value was computed.
    """

    __test__ = False  # a result, not a class of pytest's

    statistic: float
    p: float
    difference: float
    se: float
    n: int
    ties: int
    test: str


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
    """On how many prompts one method beat another.

    Attributes:
        wins: prompts on which a is ahead.
        ties: prompts on which neither is.
        losses: prompts on which b is ahead.
        rate: (wins + ties / 2) / n.
        se: standard error of the rate.
        p: two-sided p-value of wins against losses; ties are left out.
        test: the test's name.
    """

    wins: int
    ties: int
    losses: int
    rate: float
    se: float
    p: float
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
        sd: standard deviation over prompts of the paired differences, from a pilot.
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
