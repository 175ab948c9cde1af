"""Plain data that somebody has tampered with, one place at a time: for hypothesis."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

OTHER: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**30, 2**31, 0.5, -2.5, 1e300, math.nan, math.inf, "", "x",
    "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "base", "full", "clamp", "advantage",
    "int8", "org/repo", [], [[]], [None], ["x"], [{}], {}, {"": None}, {"kind": "clamp"},
    {"x": {"y": []}}, 10**400,
]  # fmt: skip
"""Values of every JSON type, and a few that are nearly right."""


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something is, every depth."""
    inner: Any = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, each in inner:
        yield (*at, key)
        yield from paths(each, (*at, key))


def mutated(whole: dict[str, Any], at: tuple[Any, ...], change: str, other: Any) -> dict[str, Any]:
    """A copy with one place dropped, replaced, or with something beside it."""
    found = copy.deepcopy(whole)
    place: Any = found
    for key in at[:-1]:
        place = place[key]
    if change == "drop":
        del place[at[-1]]
    elif change == "beside" and isinstance(place, dict):
        place["novel"] = other
    else:
        place[at[-1]] = other
    return found


def mutations(whole: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Such copies, with one or two changes; a second one may find its place gone."""
    places = st.sampled_from(list(paths(whole)))
    changes = st.sampled_from(["replace", "replace", "replace", "drop", "beside"])
    return st.builds(mutated, st.just(whole), places, changes, st.sampled_from(OTHER))
