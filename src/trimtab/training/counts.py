"""Figures of a folder of groups: how many responses, how long, how they are rewarded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from trimtab.evaluation.statistics import variance
from trimtab.training.shards import Row, Said


def count(rows: Iterable[Row]) -> dict[str, Any]:
    """How many groups, responses and tokens there are, and why responses ended.

    Human text, for which no reason is known, counts as "given".
    """
    groups = responses = tokens = 0
    finish: Counter[str] = Counter()
    for row in rows:
        groups += 1
        for response in row.group.responses:
            responses += 1
            tokens += len(response.tokens)
            finish[response.finish or "given"] += 1
    return {"groups": groups, "responses": responses, "tokens": tokens, "finish": dict(finish)}


def describe(said: Sequence[Sequence[Said]]) -> dict[str, Any]:
    """Statistics of a reward.

    Args:
        said: for each group what the reward said of each response.

    Returns:
        n: responses with a score.
        failed: responses that it could not score.
        mean, std, min, max: of all scores; std with n - 1 in the denominator.
        within_std: the standard deviation among responses to one prompt: the square root of the
            mean variance within groups. What a guide can win is bounded by it.
        None stands for a figure that too few scores leave open.

    >>> found = describe([[1.0, 3.0], [5.0, "timed out"]])
    >>> found["n"], found["failed"], found["mean"], round(found["within_std"], 3)
    (3, 1, 3.0, 1.414)
    """
    groups = [[x for x in group if isinstance(x, float)] for group in said]
    scores = [x for group in groups for x in group]
    within = [v for group in groups if (v := variance(group)) is not None]
    spread = variance(scores)
    return {
        "n": len(scores),
        "failed": sum(isinstance(x, str) for group in said for x in group),
        "mean": math.fsum(scores) / len(scores) if scores else None,
        "std": None if spread is None else math.sqrt(spread),
        "within_std": math.sqrt(math.fsum(within) / len(within)) if within else None,
        "min": min(scores, default=None),
        "max": max(scores, default=None),
    }
