"""Which prefixes of which pairs partial Bradley-Terry is trained on."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

from trimtab.errors import UsageError, check_word


def prefix_subset(
    lengths: Sequence[tuple[int, int]],
    multiple: float | Literal["all"],
    *,
    seed: int,
    by_row: bool = False,
) -> list[tuple[int, ...]]:
    """A random subset of all prefixes of all pairs.

    The set is {(pair, i) : 1 <= i <= max(|y_w|, |y_l|)}: past its end the shorter response stands
    for its own prefix. `multiple` times the number of pairs are drawn from it, evenly and without
    replacement, or all where there are no more. So long pairs give more prefixes than short ones,
    some pairs give none, and a whole response is one prefix among the others.

    Source: PARGS, appendix I ("we randomly sample a subset of the set of all partial sequences"):
    2x on TL;DR, 1.5x elsewhere, where x is the number of pairs. `by_row` draws pairs instead, and
    takes all prefixes of one before the next, until as many are drawn; of the last pair an even
    draw. The same budget then shows few prompts, in neighbouring prefixes: it is there to be
    compared with.

    Args:
        lengths: tokens of the chosen and the rejected response of each pair.
        multiple: how many prefixes to draw, in numbers of pairs; "all" takes every one.
        seed: of the draw.
        by_row: draw pairs with all of their prefixes.

    Returns:
        For each pair the numbers of tokens to train on, ascending.

    Raises:
        UsageError: a response has no tokens, or nothing would be drawn.

    >>> prefix_subset([(2, 3), (1, 1)], "all", seed=0)
    [(1, 2, 3), (1,)]
    >>> sum(map(len, prefix_subset([(20, 30), (9, 4)], 1.5, seed=0)))
    3
    """
    if isinstance(multiple, str):
        check_word("multiple", multiple, ("all",))
    for i, (chosen, rejected) in enumerate(lengths):
        if min(chosen, rejected) < 1:
            raise UsageError(
                "both responses of a pair must have tokens",
                got=f"{chosen} and {rejected} in pair {i}",
                do="clean the preferences first",
            )
    sizes = [max(pair) for pair in lengths]
    if isinstance(multiple, str):
        return [tuple(range(1, size + 1)) for size in sizes]
    budget = round(multiple * len(sizes)) if 0 < multiple < float("inf") else 0
    if budget < 1:
        raise UsageError(
            "multiple must draw at least one prefix",
            got=f"{multiple} of {len(sizes)} pairs",
            do='pass 1, 1.5, 2, 3 or "all"',
        )
    draw = _pairs if by_row else _members
    return draw(sizes, min(budget, sum(sizes)), random.Random(seed))


def _members(sizes: Sequence[int], budget: int, rng: random.Random) -> list[tuple[int, ...]]:
    """An even draw from all (pair, i), which are numbered through without being listed."""
    ends = list(accumulate(sizes))
    chosen: list[list[int]] = [[] for _ in sizes]
    for member in sorted(rng.sample(range(ends[-1]), budget)):
        pair = bisect_right(ends, member)
        chosen[pair].append(member - (ends[pair] - sizes[pair]) + 1)
    return [tuple(prefixes) for prefixes in chosen]


def _pairs(sizes: Sequence[int], budget: int, rng: random.Random) -> list[tuple[int, ...]]:
    """Pairs in a random order, each with all its prefixes, until the budget is spent."""
    chosen: list[tuple[int, ...]] = [()] * len(sizes)
    for pair in rng.sample(range(len(sizes)), len(sizes)):
        prefixes = rng.sample(range(1, sizes[pair] + 1), min(sizes[pair], budget))
        chosen[pair] = tuple(sorted(prefixes))
        budget -= len(prefixes)
    return chosen
