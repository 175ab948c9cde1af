"""Best-of-n from samples, against brute force over subsets and enumerated worlds."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trimtab as tt
from tests import toys
from trimtab.errors import UsageError
from trimtab.evaluation.best_of import (
    best_of_n_kl,
    best_of_n_kl_bound,
    best_of_n_reward,
    best_of_n_scores,
    best_of_n_weights,
    best_of_steered_kl,
    kl_of_best,
)

LENGTH = 3


# --- reward --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_weights_are_all_subsets(rewards: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(rewards)))
    judge = data.draw(st.lists(st.floats(-5, 5), min_size=len(rewards), max_size=len(rewards)))
    gold_of, judge_of = [], []
    for subset in combinations(range(len(rewards)), n):
        top = max(rewards[i] for i in subset)
        tied = [i for i in subset if rewards[i] == top]
        gold_of.append(top)
        judge_of.append(np.mean([judge[i] for i in tied]))
    weights = best_of_n_weights(rewards, n)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ rewards == pytest.approx(np.mean(gold_of))
    assert weights @ judge == pytest.approx(np.mean(judge_of))


def test_large_n_is_stable() -> None:
    weights = best_of_n_weights(np.arange(1000), 128)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[-1] == pytest.approx(0.128)
    assert (np.diff(weights) >= 0).all()


def test_the_mean_over_prompts_and_its_error() -> None:
    gold = {"a": [1.0, 2.0, 3.0], "b": [0.0, 0.0, 6.0]}
    got = best_of_n_reward(gold, 2)
    assert got.mean == pytest.approx(((2 + 3 + 3) / 3 + (0 + 6 + 6) / 3) / 2)
    assert (got.n, got.se) == (2, pytest.approx((4 - 8 / 3) / 2))
    length = {"a": [9.0, 1.0, 5.0], "b": [2.0, 4.0, 3.0]}
    assert best_of_n_scores(gold, 3, length) == {"a": [5.0], "b": [3.0]}


def test_more_than_the_samples_is_refused() -> None:
    with pytest.raises(UsageError, match="n = 4 with 3 samples"):
        best_of_n_reward({"a": [1.0, 2.0, 3.0]}, 4)
    with pytest.raises(UsageError, match="n = 3 with 3 samples"):
        best_of_n_kl({"a": [1.0, 2.0, 3.0]}, 3)


# --- KL ------------------------------------------------------------------------------------------


def world(lm: tt.TableLM, prefix: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    """Every response of up to LENGTH tokens and its chance under the base."""
    law: dict[tuple[int, ...], float] = {}
    open_ends = {(): 1.0}
    for _ in range(LENGTH):
        grown: dict[Any, Any] = {}
        for response, chance in open_ends.items():
            for token, p in enumerate(lm.next_logprobs(prefix + response).exp().tolist()):
                (law if token == 0 else grown)[(*response, token)] = chance * p
        open_ends = grown
    return law | open_ends


def graded(response: tuple[int, ...], levels: float) -> float:
    """A reward in steps, so that responses tie."""
    return round(toys.TableGuide(seed=2).value(response) * levels) / levels


def enumerated_kl(law: dict[tuple[int, ...], float], levels: float, n: int) -> float:
    """KL(best-of-n || base) over texts, by running every n-tuple of draws."""
    chosen = dict.fromkeys(law, 0.0)
    for draws in product(law, repeat=n):
        chosen[max(draws, key=lambda y: graded(y, levels))] += float(
            np.prod([law[y] for y in draws])
        )
    return sum(q * np.log(q / law[y]) for y, q in chosen.items() if q > 0)


@pytest.mark.parametrize("levels", [1.0, 4.0, 1e6])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_formula_equals_every_tuple_of_draws(levels: float, n: int) -> None:
    law = world(tt.TableLM(size=3, seed=4), (1,))
    rewards = sorted({graded(y, levels) for y in law})
    of_reward = [sum(p for y, p in law.items() if graded(y, levels) == r) for r in rewards]
    got = kl_of_best(np.array(of_reward), n)
    assert got == pytest.approx(enumerated_kl(law, levels, n), abs=1e-9)
    assert got <= best_of_n_kl_bound(n) + 1e-12


@pytest.mark.parametrize("levels", [1.0, 1e6])
@pytest.mark.parametrize("n", [2, 3])
def test_the_estimate_from_decoded_samples(levels: float, n: int) -> None:
    lm = tt.TableLM(size=3, seed=4)
    truth = enumerated_kl(world(lm, (1,)), levels, n)
    done = tt.decode(lm, None, tt.sampling(), ["a"], n=200 * 16, max_new_tokens=LENGTH, seed=9)
    rewards = np.array([graded(c.tokens, levels) for c in done]).reshape(200, 16)
    # 200 "prompts" are 200 independent estimates from 16 samples each: their mean shows the bias.
    got = best_of_n_kl({str(i): row.tolist() for i, row in enumerate(rewards)}, n)
    assert abs(got.mean - truth) < 3 * got.se + 0.01 * best_of_n_kl_bound(n)
    assert got.mean < 0.9 * best_of_n_kl_bound(n), "in a small world the bound is not the KL"
    assert got.n == 200


@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_a_steered_policy(n: int) -> None:
    """Against the best of n draws from pi, enumerated, and its divergence from pi_ref."""
    lm, guide, method = tt.TableLM(size=3, seed=4), toys.TableGuide(seed=5), tt.vas(2.0, k=3)
    done = tt.decode(lm, guide, method, ["a"], n=200 * 16, max_new_tokens=LENGTH, seed=9)
    base = world(lm, (1,))
    pi = {c.tokens: np.exp(c.logprob) for c in done}
    assert sum(pi.values()) == pytest.approx(1.0, abs=1e-3), "all that matters was drawn"
    kept = dict.fromkeys(pi, 0.0)
    for draws in product(pi, repeat=n):
        kept[max(draws, key=lambda y: graded(y, 1e6))] += float(np.prod([pi[y] for y in draws]))
    truth = sum(q * np.log(q / base[y]) for y, q in kept.items() if q > 0)
    gold = np.array([graded(c.tokens, 1e6) for c in done]).reshape(200, 16)
    ratios = np.array([c.logprob - c.ref_logprob for c in done]).reshape(200, 16)
    by_row = [{str(i): row.tolist() for i, row in enumerate(x)} for x in (gold, ratios)]
    got = best_of_steered_kl(*by_row, n)
    assert abs(got.mean - truth) < 4 * got.se + 0.01 * best_of_n_kl_bound(n)
    most = best_of_steered_kl({"a": [1.0, 2.0]}, {"a": [0.5, 0.7]}, 2)
    assert most.mean == pytest.approx(0.7 + best_of_n_kl_bound(2))


def test_distinct_rewards_reach_the_bound() -> None:
    rng = np.random.default_rng(0)
    got = best_of_n_kl({str(i): rng.normal(size=64).tolist() for i in range(4)}, 16)
    assert got.mean == pytest.approx(best_of_n_kl_bound(16), abs=1e-3)


@pytest.mark.parametrize("atoms", [2, 5, 16, 100])
@pytest.mark.parametrize("top", [None, 0.02])
def test_the_bias_is_small_at_four_n(atoms: int, top: float | None) -> None:
    n, m = 16, 64
    law = np.full(atoms, 1 / atoms)
    if top is not None:  # a rare best response, which many sets of samples do not hold
        law[-1] = top
        law[:-1] = (1 - top) / (atoms - 1)
    rng = np.random.default_rng(atoms)
    sets = {
        str(i): rng.choice(float(atoms) * np.arange(atoms), p=law, size=m).tolist()
        for i in range(400)
    }
    got = best_of_n_kl(sets, n)
    assert abs(got.mean - kl_of_best(law, n)) < 3 * got.se + 0.02


def test_the_jackknife_leaves_out_every_sample() -> None:
    rewards, n = np.random.default_rng(3).integers(0, 6, size=20), 3

    def plug_in(samples: np.ndarray) -> float:
        _, counts = np.unique(samples, return_counts=True)
        return kl_of_best(counts / len(samples), n)

    without = np.mean([plug_in(np.delete(rewards, i)) for i in range(20)])
    got = best_of_n_kl({"a": rewards.astype(float).tolist()}, n)
    assert got.mean == pytest.approx(20 * plug_in(rewards) - 19 * without)


def test_one_draw_is_the_base() -> None:
    assert best_of_n_kl({"a": [1.0, 2.0, 2.0]}, 1).mean == 0.0
