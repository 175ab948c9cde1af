"""Asking for many texts: one that fails costs only itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.toys import samples
from trimtab.errors import NotFetchedError, RewardError, UnavailableError, UsageError
from trimtab.rewards import ask
from trimtab.types import Sample

TEXTS = ["a", "bb", "ccc"]


def answers(what: Callable[[str], Any]) -> Any:
    def reward(samples: Sequence[Sample], responses: Sequence[str]) -> Any:
        return [what(text) for text in responses]

    return reward


def on_bb(error: Exception) -> Any:
    def score(text: str) -> float:
        if text == "bb":
            raise error
        return float(len(text))

    return answers(score)


def test_scores_come_all_at_once_where_that_works() -> None:
    calls = []

    def reward(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        calls.append([sample.text for sample in samples])
        return [1, 2.5, True]

    assert ask(reward, samples("x", "y", "z"), TEXTS) == [1.0, 2.5, 1.0]
    assert calls == [["x", "y", "z"]]
    assert ask(reward, [], []) == []


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("no b"), "ValueError: no b"),
        (RewardError("it must hold", got="less", do="more"), "it must hold; got less; more"),
    ],
)
def test_a_text_that_raises_costs_only_itself(error: Exception, why: str) -> None:
    assert ask(on_bb(error), samples(*"xyz"), TEXTS) == [1.0, why, 3.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_failure_and_the_rest_is_kept(bad: float) -> None:
    reward = answers(lambda text: bad if text == "bb" else 0.5)
    assert ask(reward, samples(*"xyz"), TEXTS) == [0.5, str(bad), 0.5]


@pytest.mark.parametrize("said", [[1.0], [1.0] * 5, None, ["x", "y", "z"]])
def test_a_wrong_form_is_a_failure_of_each(said: Any) -> None:
    found = ask(lambda samples, responses: said, samples(*"xyz"), TEXTS)
    if said == [1.0]:  # alone, each text gets its one score
        assert found == [1.0] * 3
    else:
        assert all(isinstance(why, str) for why in found)


@pytest.mark.parametrize("kind", [NotFetchedError, UsageError, UnavailableError])
def test_where_no_text_is_to_blame_the_error_is_the_callers(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ask(on_bb(kind("x", got="y", do="z")), samples(*"xyz"), TEXTS)
