"""Whether there are prompts enough for what is stated, and whether it is better than nothing."""

from __future__ import annotations

from collections.abc import Sequence

from trimtab.training.inspection.findings import Finding
from trimtab.training.inspection.fits import Fit

FEW = 10
"""Prompts: of fewer the bootstrap's standard error, short by sqrt((n - 1) / n), misleads."""


def prompts_enough(about: str, n: int) -> list[Finding]:
    """A warning where figures of so few prompts say little of others."""
    if n >= FEW:
        return []
    if n == 1:
        said = "one prompt: nothing can be said of others, and there are no standard errors"
    else:
        said = f"{n} prompts: too few to speak of others, and their standard errors are too small"
    return [Finding("warning", about, said, f"measure at least {FEW} prompts")]


def better_than_constant(about: str, fits: Sequence[Fit]) -> list[Finding]:
    """A warning where no place has an R2 above 0: a constant, the labels' mean, is as near."""
    known = [fit.r2.value for fit in fits if fit.r2 is not None]
    if not known or max(known) > 0:
        return []
    said = f"no better than a constant: R2 is {max(known):.3g} at most, where the mean has 0"
    do = "retrain it, or check reward, template and base: it does not know what it is asked"
    return [Finding("warning", about, said, do)]
