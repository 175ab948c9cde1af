"""Schemas that are read off annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import pytest

from trimtab.errors import UsageError
from trimtab.schema import above, check, schema_of, whole


class Facts(TypedDict, total=False):
    """Some names; others may be there."""

    rate: Annotated[float, above(0)]
    seeds: list[int]


@dataclass
class Network:
    """No names but these."""

    kind: Literal["tree", "expanded"]
    layers: Annotated[int, whole(1)]
    sizes: Mapping[str, int]
    facts: Facts
    limit: float | Literal["all"] = "all"
    rates: tuple[float, ...] = (1.0,)
    name: str | None = None


GOOD: dict[str, Any] = {
    "kind": "tree", "layers": 2, "sizes": {"hidden": 8}, "facts": {"rate": 0.5, "other": [1]},
}  # fmt: skip


def hold(value: Any) -> None:
    check(value, schema_of(Network), of="a network", error=UsageError, do="mend it")


@pytest.mark.parametrize("more", [{}, {"limit": 3}, {"name": "a", "rates": [1.0, 2.0]}])
def test_values_of_a_dataclass_pass(more: dict[str, Any]) -> None:
    hold({**GOOD, **more})


@pytest.mark.parametrize(
    ("wrong", "must"),
    [
        ({"kind": "forest"}, "kind must be one of tree, expanded; got 'forest'"),
        ({"layers": 0}, "layers must be a whole number, 1 or more; got 0"),
        ({"layers": True}, "layers must be a whole number"),
        ({"sizes": {"hidden": "8"}}, "sizes.hidden must be a whole number"),
        ({"facts": {"rate": 0.0}}, "facts.rate must be a number, above 0; got 0.0"),
        ({"facts": {"seeds": [1, -1]}}, r"facts.seeds\[1\] must be a whole number"),
        ({"limit": "some"}, "limit must be a number, or one of all; got 'some'"),
        ({"rates": []}, "rates must have one at least"),
        ({"depth": 3}, "it must have no names but kind, layers, .*; got 'depth'"),
    ],
)
def test_a_wrong_value_is_named(wrong: dict[str, Any], must: str) -> None:
    with pytest.raises(UsageError, match=f"a network: {must}"):
        hold({**GOOD, **wrong})


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(UsageError, match="layers must be there; got nothing of that name"):
        hold({name: value for name, value in GOOD.items() if name != "layers"})
