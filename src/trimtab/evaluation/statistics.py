"""How sure is a mean? Standard errors with the prompt as the unit.

Several samples of one prompt resemble each other, so they are not independent: counting them as
if they were makes a standard error too small. It is therefore clustered by prompt.

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
    mean = float(a.sum() / b.sum())
    each: Sequence[Hashable] = range(len(a)) if prompts is None else prompts
    order: dict[Hashable, int] = {}
    groups = [order.setdefault(p, len(order)) for p in each]
    sums = np.bincount(groups, weights=a - mean * b)
    g = len(sums)
    se = math.sqrt(g / (g - 1) * (sums**2).sum()) / abs(b.sum()) if g > 1 else math.nan
    unit = "rows" if prompts is None else "prompts"
    return Estimate(mean, float(se), g, len(a), f"mean; SE over {unit}")
