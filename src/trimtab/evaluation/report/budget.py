"""What would best-of-n have reached for the same operations?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trimtab.evaluation.measured import Row
from trimtab.evaluation.report.reading import Entry, Sheet
from trimtab.evaluation.statistics import ROUNDING


@dataclass(frozen=True)
class Rival:
    """Best-of-n beside a method.

    Attributes:
        cost: of the method, in multiples of the base alone; None where unknown.
        within: the best-of-n row of most n that costs no more; None where none does.
        reaches: the least n of the curve whose mean reward is as high; None where none is.
        most: the largest n of the curve.
    """

    cost: float | None
    within: Row | None
    reaches: int | None
    most: int


def counted(sheet: Sheet) -> bool:
    """Whether operations are known: the base's shape is."""
    return any(e.number("flops") is not None for e in sheet.entries)


def cost(entry: Entry, sheet: Sheet) -> float | None:
    """Operations in multiples of the base alone; without a shape, tokens that the base reads.

    Those are in multiples of the baseline's: a response's last token is chosen and never read.
    """
    if counted(sheet):
        return entry.number("flops")
    own, theirs = entry.number("base_tokens"), sheet.baseline.number("base_tokens")
    return own / theirs if own is not None and theirs else None


def rival(entry: Entry, sheet: Sheet) -> Rival | None:
    """Best-of-n for the price of a method; None where the base has no samples to take it from."""
    if not sheet.best_of:
        return None
    paid, reward = cost(entry, sheet), entry.number("reward")
    # A hair's tolerance: a budget of 2 pays for n = 2 whatever its last bit.
    payable = [row for row in sheet.best_of if paid is not None and _n(row) <= paid * (1 + 1e-9)]
    enough = math.inf if reward is None else reward - ROUNDING * abs(reward)
    as_good = [_n(row) for row in sheet.best_of if _reward(row) >= enough]
    most = max(_n(row) for row in sheet.best_of)
    return Rival(paid, payable[-1] if payable else None, min(as_good, default=None), most)


def _n(row: Row) -> int:
    return int(row["n"] or 0)


def _reward(row: Row) -> float:
    value = row["reward"]
    return float(value) if isinstance(value, int | float) else -float("inf")
