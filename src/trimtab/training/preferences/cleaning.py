"""Preferences that teach nothing, or the wrong thing, are left out and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from trimtab.errors import UsageError
from trimtab.training.preferences.dropped import Dropped, some
from trimtab.types import Group

_Key: TypeAlias = tuple[tuple[int, ...], ...]


def clean(
    groups: Sequence[Group], *, max_tokens: int | None = 512, min_tokens: int = 1
) -> tuple[tuple[Group, ...], Dropped]:
    """The preferences that are fit for training, in their order.

    Responses are compared by their ids: what the base can't tell apart is the same.

    Args:
        groups: preferences, the chosen response first.
        max_tokens: the longest prompt with its longer response; None for no limit.
        min_tokens: the shortest response, EOS counted.

    Returns:
        The groups that are left, and how many went for which reason.

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
    for group in groups:
        _check_pair(group)
    every = {_key(group) for group in groups}
    why: Counter[str] = Counter()
    seen: set[_Key] = set()
    kept: list[Group] = []
    for group in groups:
        reason = _unfit(group, min_tokens, max_tokens) or _repeated(_key(group), every, seen)
        why[reason] += 1
        if not reason:
            kept.append(group)
            seen.add(_key(group))
    del why[""]
    dropped = Dropped(len(kept), **why, min_tokens=min_tokens, max_tokens=max_tokens)
    return some(kept, dropped), dropped


def _check_pair(group: Group) -> None:
    if len(group.responses) != 2:
        raise UsageError(
            "a preference must be a group of two responses",
            got=f"{len(group.responses)} to {group.prompt.text!r:.60}",
            do="make pairs of larger groups with pairs_of",
        )


def _key(group: Group) -> _Key:
    chosen, rejected = group.responses
    return group.prompt.ids, group.prefix, chosen.tokens, rejected.tokens


def _unfit(group: Group, least: int, most: int | None) -> str:
    """Why a preference by itself is not fit; "" if it is."""
    chosen, rejected = group.responses
    lengths = [len(group.prefix) + len(r.tokens) for r in group.responses]
    if chosen.tokens == rejected.tokens:
        return "identical"
    if not (chosen.text.strip() and rejected.text.strip()):
        return "empty"
    if min(lengths) < least:
        return "short"
    return "long" if most is not None and len(group.prompt.ids) + max(lengths) > most else ""


def _repeated(key: _Key, every: set[_Key], seen: set[_Key]) -> str:
    """Whether another preference says the opposite, or an earlier one the same."""
    *asked, chosen, rejected = key
    if (*asked, rejected, chosen) in every:
        return "contradictory"
    return "duplicates" if key in seen else ""
