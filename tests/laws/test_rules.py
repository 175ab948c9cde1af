"""What every rule must do, on any numbers (hypothesis), and what each sampler makes of logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trimtab.decoding.methods import Greedy, Stochastic, nucleus, score_only, tilt
from trimtab.rng import Rng

RULES = {"tilt": tilt, "score_only": score_only}
SAMPLERS = {
    "greedy": Greedy(),
    "sample": Stochastic(),
    "warm": Stochastic(1.7),
    "top-k": Stochastic(0.7, top_k=2),
    "nucleus": Stochastic(1.0, top_p=0.6),
    "all": Stochastic(0.5, top_k=3, top_p=0.8),
}

number = st.floats(-20, 20, width=32)


@st.composite
def outcomes(draw: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities with some -inf (never all), scores, and a permutation of the outcomes."""
    n = draw(st.integers(1, 7))
    weights = draw(st.lists(number, min_size=n, max_size=n))
    dead = draw(st.sets(st.integers(1, 6), max_size=n - 1))
    scores = draw(st.lists(number, min_size=n, max_size=n))
    order = draw(st.permutations(range(n)))
    logits = torch.tensor([weights], dtype=torch.float64)
    logits[0, [i for i in dead if i < n]] = -torch.inf
    return (
        logits.log_softmax(-1),
        torch.tensor([scores], dtype=torch.float64),
        torch.tensor(order, dtype=torch.int64),
    )


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(outcomes(), st.floats(0, 50))
def test_what_the_base_excludes_stays_excluded(rule: Any, world: Any, beta: float) -> None:
    logprobs, scores, _ = world
    assert torch.equal(torch.isneginf(rule(logprobs, scores, beta)), torch.isneginf(logprobs))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(outcomes(), st.floats(0, 50))
def test_the_order_of_outcomes_decides_nothing(rule: Any, world: Any, beta: float) -> None:
    logprobs, scores, order = world
    moved = rule(logprobs[:, order], scores[:, order], beta)
    assert torch.equal(moved, rule(logprobs, scores, beta)[:, order])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(outcomes(), st.floats(0, 20), number)
def test_a_constant_score_changes_no_law(rule: Any, world: Any, beta: float, c: float) -> None:
    logprobs, scores, _ = world
    law = rule(logprobs, scores, beta).softmax(-1)
    torch.testing.assert_close(rule(logprobs, scores + c, beta).softmax(-1), law)


@given(outcomes())
def test_strength_zero_is_the_base(world: Any) -> None:
    logprobs, scores, _ = world
    assert tilt(logprobs, scores, 0.0) is logprobs
    assert torch.equal(tilt(logprobs, scores, torch.zeros(1, 1)), logprobs)


@given(outcomes(), st.floats(0, 5), st.floats(0, 5))
def test_strengths_add(world: Any, a: float, b: float) -> None:
    logprobs, scores, _ = world
    twice = tilt(tilt(logprobs, scores, a), scores, b)
    torch.testing.assert_close(twice, tilt(logprobs, scores, a + b), atol=1e-9, rtol=1e-9)


@given(outcomes(), st.lists(st.floats(0, 5), min_size=2, max_size=4))
def test_a_column_of_strengths_is_each_alone(world: Any, betas: list[float]) -> None:
    logprobs, scores, _ = world
    column = torch.tensor(betas, dtype=torch.float64)[:, None]
    rows = tilt(logprobs.expand(len(betas), -1), scores.expand(len(betas), -1), column)
    for row, beta in zip(rows, betas, strict=True):
        assert torch.equal(row[None], tilt(logprobs, scores, beta))


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@given(outcomes(), st.integers(0, 2**31))
def test_a_choice_has_chance_under_its_law(sampler: Any, world: Any, seed: int) -> None:
    logprobs, _, _ = world
    law = sampler.logprobs(logprobs)
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(1, dtype=torch.float64))
    zero = torch.zeros(1, dtype=torch.int64)
    choice = sampler.choose(law, Rng(seed, zero, zero))
    assert law[0, choice] > -torch.inf


@given(outcomes(), st.floats(0.05, 1))
def test_the_nucleus_is_the_smallest_set_with_its_mass(world: Any, top_p: float) -> None:
    logprobs, _, _ = world
    kept = ~torch.isneginf(nucleus(logprobs, top_p))
    mass = logprobs.exp()[kept].sum()
    least = logprobs.exp()[kept].min()
    assert mass >= top_p - 1e-9
    assert mass - least < top_p + 1e-9
