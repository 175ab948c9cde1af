"""Samplers: argmax, temperature, top-k and nucleus, after the rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trimtab.decoding.methods import Greedy, Stochastic, nucleus
from trimtab.errors import UsageError
from trimtab.rng import Rng

P = torch.tensor([[0.1, 0.4, 0.3, 0.2]], dtype=torch.float64)


def law(sampler: Any, p: torch.Tensor = P) -> list[float]:
    return sampler.logprobs(p.log()).exp()[0].tolist()


def choose(sampler: Any, logits: torch.Tensor, rng: Rng) -> list[int]:
    return sampler.choose(sampler.logprobs(logits), rng).tolist()


def addresses(n: int) -> Rng:
    keys = torch.arange(n)
    return Rng(0, keys, torch.zeros_like(keys))


def test_plain_sampling_leaves_the_law() -> None:
    assert law(Stochastic()) == pytest.approx(P[0].tolist())
    assert Stochastic().plain
    assert not Stochastic(top_p=0.9).plain
    assert not Greedy().plain


def test_logits_need_not_be_normalised() -> None:
    assert torch.allclose(Stochastic().logprobs(P.log() + 7.0), P.log())


def test_temperature_sharpens_and_flattens() -> None:
    squared = [p * p / 0.30 for p in P[0].tolist()]
    assert law(Stochastic(temperature=0.5)) == pytest.approx(squared)
    assert law(Stochastic(temperature=1e9)) == pytest.approx([0.25] * 4)


def test_top_k_keeps_the_likeliest() -> None:
    assert law(Stochastic(top_k=2)) == pytest.approx([0, 4 / 7, 3 / 7, 0])
    assert law(Stochastic(top_k=9)) == pytest.approx(P[0].tolist())


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(1e-9, {1}), (0.39, {1}), (0.41, {1, 2}), (0.71, {1, 2, 3}), (0.95, {0, 1, 2, 3})],
)
def test_nucleus_is_the_smallest_set_that_reaches_the_mass(top_p: float, kept: set[int]) -> None:
    assert {i for i, q in enumerate(law(Stochastic(top_p=top_p))) if q > 0} == kept


def test_nucleus_acts_on_what_temperature_and_top_k_left() -> None:
    # Of the top 2, at T = 0.5, the first holds 16/25; of all four, at T = 1, only 0.4.
    assert law(Stochastic(0.5, top_k=2, top_p=0.6)) == pytest.approx([0, 1, 0, 0])


def test_nucleus_passes_kept_values_through() -> None:
    cut = nucleus(P.log(), 0.6)
    assert cut[0, 1:3].tolist() == P.log()[0, 1:3].tolist()
    assert torch.isneginf(cut[0, [0, 3]]).all()


def test_impossible_outcomes_stay_impossible() -> None:
    p = torch.tensor([[0.0, 0.5, 0.5]])
    for sampler in (Stochastic(), Stochastic(2.0), Stochastic(top_k=3), Stochastic(top_p=0.999)):
        assert law(sampler, p)[0] == 0.0
    assert set(choose(Stochastic(), p.log().repeat(500, 1), addresses(500))) == {1, 2}


def test_greedy_takes_the_first_of_equals() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0], [-math.inf, -math.inf, -3.0]])
    assert choose(Greedy(), logits, addresses(2)) == [1, 2]
    assert Greedy().logprobs(logits).exp().tolist() == [[0, 1, 0], [0, 0, 1]]


def test_rows_draw_for_themselves() -> None:
    logits = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    alone = [
        choose(Stochastic(), logits[[i]], addresses(50).select(torch.tensor([i])))[0]
        for i in range(50)
    ]
    assert choose(Stochastic(), logits, addresses(50)) == alone


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": math.nan},
        {"top_k": 0},
    ],
)
def test_settings_that_mean_nothing(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Stochastic(**settings)
