"""Sampled responses against the enumerated law: one chi-squared test for each stochastic method.

The seeds are fixed, so each test always says the same. A sampler that is right would fail for
less than one seed in 1e9: that is what the threshold on the p-value means, up to the chi-squared
approximation, which is good because every cell expects at least ten draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from scipy.stats import chi2

import trimtab as tt
from tests.exact import world as w
from trimtab.rng import Rng
from trimtab.types import Prompt, Samples

FALSE_ALARM = 1e-9
DRAWS = 2000


@cache
def small_world() -> w.World:
    return w.table_world(size=5, horizon=3, seed=11)


@cache
def tiny_transformer(kind: str) -> w.World:
    return w.transformer_world(kind, "llama", size=5, horizon=3)


def responses(case: w.Case, plain: w.World, n: int = DRAWS, seed: int = 7) -> list[w.Ids]:
    world = case.world(plain)
    prompt = Prompt(world.prompt)
    done = tt.decode(
        world.lm,
        world.guide,
        case.method,
        [prompt],
        n=n,
        max_new_tokens=world.horizon,
        seed=seed,
    )
    return [response.tokens for response in done]


def p_value(drawn: list[w.Ids], law: w.Law) -> float:
    statistic, freedom = w.pooled_chi_squared(drawn, law)
    assert freedom >= 3, "too few cells to see a wrong law"
    return float(chi2.sf(statistic, freedom))


@pytest.mark.parametrize("case", w.STOCHASTIC, ids=lambda case: case.id)
def test_table(case: w.Case) -> None:
    assert p_value(responses(case, small_world()), case.law(small_world())) > FALSE_ALARM


@pytest.mark.parametrize("name", ["vas", "best-of-n", "cd-blockwise"])
def test_transformer(name: str) -> None:
    case = next(case for case in w.STOCHASTIC if case.id == name)
    world = tiny_transformer("value")
    assert p_value(responses(case, world, n=1000), case.law(world)) > FALSE_ALARM


def test_the_test_sees_a_wrong_law() -> None:
    # The same draws against a strength that is a third larger: the power that the others have.
    wrong = w.Case("cd", tt.cd(beta=2.5, k=4), w.tilted(4, 3.3))
    assert p_value(responses(wrong, small_world()), wrong.law(small_world())) < FALSE_ALARM


def ties(ids: w.Ids) -> float:
    """A score that many responses share: the number of tokens modulo 2."""
    return float(len(ids) % 2)


class TieGuide(w.MemoTableGuide):
    def value(self, ids: Sequence[int]) -> float:
        return ties(ids)


def test_among_equal_scores_the_first_draw_is_kept() -> None:
    plain = w.replace(small_world(), guide=TieGuide(), score=ties)
    case = w.Case("best-of-n", tt.best_of_n(n=3), whole=lambda world: w.best_response(world, 3))
    assert p_value(responses(case, plain), case.law(plain)) > FALSE_ALARM


# --- sampled blocks: what best-of-n and blockwise CD choose among --------------------------------


def blocks(
    plain: w.World, rows: int, n: int, length: int
) -> tuple[list[list[w.Ids]], list[list[float]]]:
    """n blocks for each of many rows of one prompt, and their log-probabilities."""
    keys = torch.arange(rows) * 7919
    state = plain.lm.prefill([Prompt(plain.prompt)] * rows)
    rng = Rng(3, keys, torch.zeros_like(keys))
    drawn = plain.lm.propose(state, Samples(n, length), rng)
    tokens, lengths = drawn.tokens.tolist(), drawn.lengths.tolist()
    return [
        [tuple(block[:m]) for block, m in zip(row, sizes, strict=True)]
        for row, sizes in zip(tokens, lengths, strict=True)
    ], drawn.logprobs.tolist()


@pytest.mark.parametrize("kind", ["table", "transformer"])
def test_blocks_are_draws_from_the_base(kind: str) -> None:
    plain = small_world() if kind == "table" else tiny_transformer("value")
    law = w.sequence_law(plain, w.base())
    drawn, logprobs = blocks(plain, rows=400, n=5, length=plain.horizon)
    for row, numbers in zip(drawn, logprobs, strict=True):
        for block, logprob in zip(row, numbers, strict=True):
            assert logprob == pytest.approx(w.math.log(law[block]), abs=2e-5)
    assert p_value([block for row in drawn for block in row], law) > FALSE_ALARM


def test_blocks_of_one_row_are_independent() -> None:
    plain = w.replace(small_world(), horizon=2)
    law = w.sequence_law(plain, w.base())
    pairs = {(*a, -1, *b): p * q for a, p in law.items() for b, q in law.items()}
    drawn, _ = blocks(plain, rows=4000, n=2, length=2)
    assert p_value([(*a, -1, *b) for a, b in drawn], pairs) > FALSE_ALARM
