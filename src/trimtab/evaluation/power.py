"""How many prompts does it take to see a difference?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trimtab.errors import UsageError
from trimtab.plugins import optional


@dataclass(frozen=True)
class SampleSize:
    """The prompts that a paired comparison needs.

    Attributes:
        n: prompts.
        power: odds of seeing the difference with this n.
        difference: its size, in the unit of the scores.
        sd: standard deviation over prompts of the paired differences; sqrt(n) times their SE.
        alpha: odds of a false alarm.
        test: the test that is planned for.
    """

    n: int
    power: float
    difference: float
    sd: float
    alpha: float
    test: str = "paired t-test, two-sided"

    @property
    def se(self) -> float:
        """Standard error of the mean difference with this n."""
        return self.sd / math.sqrt(self.n)


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


def sample_size(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05
) -> SampleSize:
    """The least number of prompts with which a difference is found with the given odds.

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
    high = 2
    while paired_power(high, difference, sd, alpha) < power:
        high *= 2
    low = high // 2
    while high - low > 1:  # power grows with n: bisect
        middle = (low + high) // 2
        enough = paired_power(middle, difference, sd, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return SampleSize(high, paired_power(high, difference, sd, alpha), difference, sd, alpha)
