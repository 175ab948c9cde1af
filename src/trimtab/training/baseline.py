"""What knows nothing: one number for every text, and whether a guide is better than that."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

MARGIN = 1e-4
"""Share of a constant's error that sums in float32 may be off by."""


def spread(targets: Sequence[float], weights: Sequence[int]) -> float:
    """The variance of targets: the least mean squared error that one number for all can have."""
    mean = fmean(targets, weights)
    return fmean([(target - mean) ** 2 for target in targets], weights)


def knows(error: float, constant: float) -> bool:
    """Whether a validation error is below that of a constant, beyond rounding."""
    return error < (1 - MARGIN) * constant


def no_better(error: float, constant: float) -> str:
    """That it is not, in words; "" where it is."""
    if knows(error, constant):
        return ""
    return (
        f"no better than a constant: validation error {error:.4f}, where saying the same of every "
        f"text has {constant:.4f}"
    )


DO = "train longer, on more data or at other learning rates; decoding by it is decoding by noise"
"""The way out for such a guide."""
