"""Pairs by a reward: of two responses to a prompt, the one that scored higher; and pairs cleaned.

A pair is a group of two, the chosen response first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

from trimtab.errors import DataError, UsageError, check_word
from trimtab.training.examples import KeptCounts
from trimtab.types import Group

PREFERENCE = "preference"
"""The reward of a pair: 1 for the chosen response, 0 for the rejected one."""

Strategy: TypeAlias = Literal["random", "extremes"]


class _Pair(NamedTuple):
    """Which response scored higher, which lower, and by how much."""

    better: int
    worse: int
    by: float


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
        pairs = [
            _Pair(i, j, a - b)
            for i, a in scores.items()
            for j, b in scores.items()
            if a - b > margin
        ]
        reasons["" if pairs else "tied" if len(scores) > 1 else "with fewer than two rewards"] += 1
        if per_group is not None:
            order = _widest if strategy == "extremes" else _drawn(group, seed)
            pairs = sorted(pairs, key=order)[:per_group]
        made += [_preference(group, pair) for pair in sorted(pairs)]
    if not made:
        raise _nothing(groups, reward, margin)
    return tuple(made), KeptCounts("groups", reasons.pop("", 0), reasons)


def _scores(group: Group, reward: str) -> dict[int, float]:
    """The responses that have the reward, and it: a number, which NaN is not."""
    scores = {i: r.rewards.get(reward, math.nan) for i, r in enumerate(group.responses)}
    return {i: float(score) for i, score in scores.items() if math.isfinite(score)}


def _widest(pair: _Pair) -> tuple[float, int, int]:
    return -pair.by, pair.better, pair.worse


def _drawn(group: Group, seed: int) -> Callable[[_Pair], bytes]:
    """The order of an even draw without replacement: by a hash of the seed, group and pair."""
    tokens = [list(r.tokens) for r in group.responses]
    text = f"{seed} {list(group.prompt.ids)} {list(group.prefix)} {tokens}"
    key = blake2b(text.encode(), digest_size=16).digest()
    return lambda pair: blake2b(f"{pair.better} {pair.worse}".encode(), key=key).digest()


def _preference(group: Group, pair: _Pair) -> Group:
    chosen = replace(group.responses[pair.better], rewards={PREFERENCE: 1.0})
    rejected = replace(group.responses[pair.worse], rewards={PREFERENCE: 0.0})
    return replace(group, responses=(chosen, rejected))


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


# --- what is fit for training --------------------------------------------------------------------

_Key: TypeAlias = tuple[tuple[int, ...], ...]


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
    every = {_key(pair) for pair in pairs}
    reasons: Counter[str] = Counter()
    seen: set[_Key] = set()
    kept: list[Group] = []
    for pair in pairs:
        key = _key(pair)
        *prompt, chosen, rejected = key
        reason = _unfit(pair, min_tokens, max_tokens)
        if not reason and (*prompt, rejected, chosen) in every:
            reason = "contradictory"
        elif not reason and key in seen:
            reason = "repeated"
        reasons[reason] += 1
        if not reason:
            kept.append(pair)
            seen.add(key)
    counts = KeptCounts("pairs", reasons.pop("", 0), reasons)
    return some_left(kept, counts), counts


def some_left(pairs: Sequence[Group], counts: KeptCounts) -> tuple[Group, ...]:
    """The pairs, if there are any.

    Raises:
        DataError: there are none; the message says why.
    """
    if not pairs:
        raise DataError(
            "some preferences must be left to train on",
            got=str(counts) if counts.read else "none to begin with",
            do="check the data, or loosen the limits",
        )
    return tuple(pairs)


def _key(pair: Group) -> _Key:
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
