"""Pairs: groups of two, the chosen response first. Made by a reward, cleaned, and cut to prefixes.

A pair's only reward is "preference".
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import accumulate, permutations
from typing import Literal, TypeAlias

from trimtab.errors import DataError, UsageError, check_word
from trimtab.training.examples import KeptCounts
from trimtab.types import Group

PREFERENCE = "preference"
"""The reward of a pair: 1 for the chosen response, 0 for the rejected one."""

Strategy: TypeAlias = Literal["random", "extremes"]

# --- by a reward ---------------------------------------------------------------------------------


def pairs_of(
    groups: Sequence[Group],
    reward: str,
    *,
    margin: float = 0.0,
    per_group: int | None = 1,
    strategy: Strategy = "random",
    seed: int = 0,
) -> tuple[tuple[Group, ...], KeptCounts]:
    """Pairs (i, j) of responses to one prompt with r_i - r_j > margin.

    What is drawn from a group depends on the seed and on that group alone, so it stays when other
    groups come or go.

    Args:
        groups: with any number of responses.
        reward: the name of the reward that decides.
        margin: how much higher the chosen response must have scored.
        per_group: most pairs of a group; None takes all.
        strategy: "random" draws them evenly; "extremes" takes the widest margins first, so one pair
            is the best response against the worst.
        seed: of the draw.

    Returns:
        The pairs, in the order of their groups, with "preference" as their only reward; and how
        many groups gave some.

    Raises:
        DataError: no group gives a pair; the message says what the rewards were.
        UsageError: `margin`, `per_group` or `strategy` makes no sense.
    """
    check_word("strategy", strategy, Strategy)
    if not 0 <= margin < math.inf or (per_group is not None and per_group < 1):
        raise UsageError(
            "margin must be 0 or more, per_group 1 or more or None",
            got=f"{margin}, {per_group}",
            do="pass such values",
        )
    made: list[Group] = []
    reasons: Counter[str] = Counter()
    for group in groups:
        scores = _scores(group, reward)
        pairs = [(i, j) for i, j in permutations(scores, 2) if scores[i] - scores[j] > margin]
        reasons["" if pairs else "tied" if len(scores) > 1 else "with fewer than two rewards"] += 1
        if per_group is not None:
            if strategy == "extremes":
                pairs.sort(key=lambda pair: scores[pair[1]] - scores[pair[0]])
            else:
                pairs = _shuffled(pairs, group, seed)
            pairs = sorted(pairs[:per_group])
        for better, worse in pairs:
            chosen = replace(group.responses[better], rewards={PREFERENCE: 1.0})
            rejected = replace(group.responses[worse], rewards={PREFERENCE: 0.0})
            made.append(replace(group, responses=(chosen, rejected)))
    if not made:
        raise _nothing(groups, reward, margin)
    return tuple(made), KeptCounts("groups", reasons.pop("", 0), reasons)


def _scores(group: Group, reward: str) -> dict[int, float]:
    """The responses that have the reward, and it: a number, which NaN is not."""
    scores = {i: r.rewards.get(reward, math.nan) for i, r in enumerate(group.responses)}
    return {i: float(score) for i, score in scores.items() if math.isfinite(score)}


def _shuffled(pairs: list[tuple[int, int]], group: Group, seed: int) -> list[tuple[int, int]]:
    """The order of an even draw without replacement: by a hash of the seed, group and pair."""
    tokens = [list(r.tokens) for r in group.responses]
    text = f"{seed} {list(group.prompt.ids)} {list(group.prefix)} {tokens}"
    key = blake2b(text.encode(), digest_size=16).digest()
    return sorted(pairs, key=lambda p: blake2b(f"{p[0]} {p[1]}".encode(), key=key).digest())


def _nothing(groups: Sequence[Group], reward: str, margin: float) -> DataError:
    """No pair: what the rewards were, and the way out."""
    must = f"two responses to one prompt must differ in {reward!r} by more than {margin:g}"
    scores = [score for group in groups for score in _scores(group, reward).values()]
    if not scores:
        names = sorted({name for group in groups for r in group.responses for name in r.rewards})
        got = f"no response with it; there are: {', '.join(names) or 'no rewards'}"
        return DataError(must, got=got, do="name another reward, or score the responses")
    low, high = min(scores), max(scores)
    got = f"{low:g} everywhere" if low == high else f"{low:g} to {high:g}, alike for each prompt"
    return DataError(
        must,
        got=f"{len(scores)} responses with {got}",
        do="draw more responses to each prompt, at a higher temperature, lower the margin, or take "
        "a reward that tells them apart",
    )


# --- cleaned -------------------------------------------------------------------------------------


def clean(
    pairs: Sequence[Group], *, max_tokens: int | None = 512, min_tokens: int = 1
) -> tuple[tuple[Group, ...], KeptCounts]:
    """The preferences that are fit for training, in their order.

    Left out, by their first reason: identical (both responses have the same ids: what the base
    can't tell apart is the same), empty (a response without text), too short, too long,
    contradictory (the same two responses were preferred one way and the other; all go), repeated
    (the first is kept).

    Args:
        pairs: preferences, the chosen response first.
        max_tokens: the longest prompt with its longer response; None for no limit.
        min_tokens: the shortest response, EOS counted.

    Returns:
        The pairs that are left, and how many went for which reason.

    Raises:
        DataError: none is left.
        UsageError: a group is no pair, or a limit makes no sense.
    """
    if min_tokens < 1 or (max_tokens is not None and max_tokens < min_tokens):
        raise UsageError(
            "min_tokens must be at least 1 and max_tokens no less",
            got=f"{min_tokens} and {max_tokens}",
            do="pass such limits",
        )
    for group in pairs:
        if len(group.responses) != 2:
            raise UsageError(
                "a preference must be a group of two responses",
                got=f"{len(group.responses)} to {group.prompt.text!r:.60}",
                do="make pairs of larger groups with pairs_of",
            )
    every = {_ids(pair) for pair in pairs}
    reasons: Counter[str] = Counter()
    kept: dict[tuple[tuple[int, ...], ...], Group] = {}
    for pair in pairs:
        *prompt, chosen, rejected = ids = _ids(pair)
        reason = _unfit(pair, min_tokens, max_tokens)
        if not reason and (*prompt, rejected, chosen) in every:
            reason = "contradictory"
        elif not reason and ids in kept:
            reason = "repeated"
        reasons[reason] += 1
        if not reason:
            kept[ids] = pair
    counts = KeptCounts("pairs", reasons.pop("", 0), reasons)
    return some_left(kept.values(), counts), counts


def some_left(pairs: Iterable[Group], counts: KeptCounts) -> tuple[Group, ...]:
    """The pairs; a `DataError` that says why there are none."""
    left = tuple(pairs)
    if not left:
        raise DataError(
            "some preferences must be left to train on",
            got=str(counts) if counts.read else "none to begin with",
            do="check the data, or loosen the limits",
        )
    return left


def _ids(pair: Group) -> tuple[tuple[int, ...], ...]:
    chosen, rejected = pair.responses
    return pair.prompt.ids, pair.prefix, chosen.tokens, rejected.tokens


def _unfit(pair: Group, least: int, most: int | None) -> str:
    """Why a preference by itself is not fit; "" if it is."""
    chosen, rejected = pair.responses
    lengths = [len(pair.prefix) + len(r.tokens) for r in pair.responses]
    if chosen.tokens == rejected.tokens:
        return "identical"
    if not (chosen.text.strip() and rejected.text.strip()):
        return "empty"
    if min(lengths) < least:
        return f"shorter than {least} tokens"
    too_long = most is not None and len(pair.prompt.ids) + max(lengths) > most
    return f"longer than {most} tokens" if too_long else ""


# --- which prefixes partial Bradley-Terry is trained on ------------------------------------------


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
    budget = round(multiple * len(sizes)) if 0 < multiple < math.inf else 0
    if budget < 1:
        raise UsageError(
            "multiple must draw at least one prefix",
            got=f"{multiple} of {len(sizes)} pairs",
            do='pass 1, 1.5, 2, 3 or "all"',
        )
    rng, left = random.Random(seed), min(budget, sum(sizes))
    drawn: list[list[int]] = [[] for _ in sizes]
    if by_row:
        for pair in rng.sample(range(len(sizes)), len(sizes)):
            drawn[pair] = rng.sample(range(1, sizes[pair] + 1), min(sizes[pair], left))
            left -= len(drawn[pair])
    else:  # all (pair, i) are numbered through without being listed
        ends = list(accumulate(sizes))
        for member in rng.sample(range(ends[-1]), left):
            pair = bisect_right(ends, member)
            drawn[pair].append(member - (ends[pair] - sizes[pair]) + 1)
    return [tuple(sorted(prefixes)) for prefixes in drawn]
