"""Where responses are scored: after the first token, then after shares of all tokens."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from trimtab.decoding.forced import ROWS, OnRows, prefix_scores
from trimtab.protocols import Guide, LanguageModel
from trimtab.training.inspection.comparison import Comparison
from trimtab.types import Prompt

FIRST = "first token"
SHARES = {"10%": 0.10, "25%": 0.25, "50%": 0.50, "75%": 0.75, "100%": 1.0}
PLACES = (FIRST, *SHARES)
"""Where a response is scored. Of the prompt alone a guide says nothing: it scores candidates."""

WHOLE = "100%"


def stops(length: int) -> tuple[int, ...]:
    """How many of so many tokens each of `PLACES` is: shares rounded up, one at least.

    >>> stops(30)
    (1, 3, 8, 15, 23, 30)
    >>> stops(2)
    (1, 1, 1, 1, 2, 2)
    """
    return (1, *(math.ceil(round(share * length, 6)) for share in SHARES.values()))


def scored(
    guide: Guide[Any],
    lm: LanguageModel[Any],
    compared: Comparison,
    rows: list[tuple[Prompt, tuple[int, ...]]],
    at: list[tuple[int, ...]],
    *,
    batch: int = ROWS,
    on: OnRows | None = None,
) -> list[list[float]]:
    """What a guide says of each response's prefixes; sums of token scores where those are meant."""
    prompts, responses = [p for p, _ in rows], [y for _, y in rows]
    wanted = [tuple(range(1, max(s) + 1)) for s in at] if compared.summed else at
    found = prefix_scores(guide, lm, prompts, responses, wanted, rows=batch, on=on)
    if not compared.summed:
        return found
    sums = [list(accumulate(each)) for each in found]
    return [[total[stop - 1] for stop in s] for total, s in zip(sums, at, strict=True)]
