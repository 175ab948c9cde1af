"""Preferences made by a reward: of two responses to a prompt, the one that scored higher."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

from trimtab.errors import DataError, UsageError, check_word
from trimtab.training.preferences.dropped import Dropped
from trimtab.training.preferences.encoding import REWARD
from trimtab.types import Group, Response

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
) -> tuple[tuple[Group, ...], Dropped]:
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
        many groups gave none.

    Raises:
        DataError: no group gives a pair; the message says what the rewards were.
        UsageError: `margin`, `per_group` or `strategy` makes no sense.
    """
    check_word("strategy", strategy, Strategy)
    _check(margin, per_group)
    made: list[Group] = []
    kept = single = tied = unscored = 0
    for group in groups:
        scores = _scores(group, reward)
        found = _above(scores, margin)
        kept += bool(found)
        single += len(scores) < 2
        tied += not found and len(scores) > 1
        unscored += len(group.responses) - len(scores)
        if per_group is not None:
            order = _widest if strategy == "extremes" else _drawn(group, seed)
            found = sorted(found, key=order)[:per_group]
        made += [_preference(group, pair) for pair in sorted(found)]
    if not made:
        raise _nothing(groups, reward, margin)
    counts = {"single": single, "tied": tied, "unscored": unscored}
    return tuple(made), Dropped(kept, pairs=len(made), **counts)


def _check(margin: float, per_group: int | None) -> None:
    if not 0 <= margin < math.inf or (per_group is not None and per_group < 1):
        raise UsageError(
            "margin must be 0 or more, per_group 1 or more or None",
            got=f"{margin}, {per_group}",
            do="pass such values",
        )


def _scores(group: Group, reward: str) -> dict[int, float]:
    """The responses that have the reward, and it: a number, which NaN is not."""
    found = {i: r.rewards.get(reward, math.nan) for i, r in enumerate(group.responses)}
    return {i: float(score) for i, score in found.items() if math.isfinite(score)}


def _above(scores: dict[int, float], margin: float) -> list[_Pair]:
    return [
        _Pair(i, j, a - b) for i, a in scores.items() for j, b in scores.items() if a - b > margin
    ]


def _widest(pair: _Pair) -> tuple[float, int, int]:
    return -pair.by, pair.better, pair.worse


def _drawn(group: Group, seed: int) -> Callable[[_Pair], bytes]:
    """The order of an even draw without replacement: by a hash of the seed, group and pair."""
    said = [list(r.tokens) for r in group.responses]
    text = f"{seed} {list(group.prompt.ids)} {list(group.prefix)} {said}"
    key = blake2b(text.encode(), digest_size=16).digest()
    return lambda pair: blake2b(f"{pair.better} {pair.worse}".encode(), key=key).digest()


def _preference(group: Group, pair: _Pair) -> Group:
    chosen, rejected = group.responses[pair.better], group.responses[pair.worse]
    return replace(group, responses=(_labelled(chosen, 1.0), _labelled(rejected, 0.0)))


def _labelled(response: Response, label: float) -> Response:
    return replace(response, rewards={REWARD: label})


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
