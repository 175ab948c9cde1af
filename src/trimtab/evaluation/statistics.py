"""How sure is a mean? Standard errors with the prompt as the unit.

Several samples of one prompt resemble each other, so they are not independent: counting them as
if they were makes a standard error too small. It is therefore clustered by prompt.

Sums are exact (`math.fsum`) and rounded once, so no figure depends on the order of its rows; and
what differs by rounding alone counts as equal (`ROUNDING`, `levels`).

Legend: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Real

from trimtab.errors import UsageError

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
        mean: the estimate, in the unit of the values.
        se: its standard error; NaN where a single prompt gives none.
        n: independent units behind the SE (prompts, or rows where none were named).
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

    Args:
        values: in any order.
        noise: how far rounding may have moved each; None takes `ROUNDING` of its size, and of the
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

    for N values in G clusters (Liang and Zeger 1986, with the G / (G - 1) correction). With one
    value per cluster it is the usual s / sqrt(N); without `prompts`, every value is a cluster.

    Args:
        values: one per row.
        prompts: the prompt of each row; None if rows are independent.
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
