"""Limits of the strength, and the ledger: KL and log-probabilities against enumeration."""

from __future__ import annotations

import math
from functools import cache

import pytest

import trimtab as tt
from tests.exact import world as w
from trimtab.types import Completion, Prompt

TOKENWISE = [*w.TOKENWISE, w.GENARM]


@cache
def small_transformer() -> w.World:
    return w.transformer_world("value", "llama", size=5, horizon=3)


def plain_world(kind: str) -> w.World:
    return w.one_table_world() if kind == "table" else small_transformer()


def decoded(world: w.World, method: tt.Method, **options: object) -> list[Completion]:
    return tt.decode(
        world.lm,
        world.guide,
        method,
        [Prompt(world.prompt)],
        max_new_tokens=world.horizon,
        **options,
    )


def multiplied_out(world: w.World, method: tt.Method) -> w.Law:
    steps = w.decoder_steps(world, method)
    return w.sequence_law(world, lambda _, prefix: steps[prefix])


# --- the strength --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["table", "transformer"])
@pytest.mark.parametrize(
    ("method", "law"),
    [
        (tt.vas(beta=0.0, k=2), w.base()),
        (tt.genarm(beta=0.0), w.base()),
        (tt.vas(beta=0.0, k=2, tail="drop"), w.base(top_k=2)),
        (tt.cd(beta=0.0, k=3), w.base(top_k=3)),
        (tt.pargs(beta=0.0, k=3), w.base(top_k=3)),
        (tt.args_stochastic(beta=0.0, k=3), w.base(0.7, top_k=3)),
        (tt.args(beta=0.0, k=3), w.base_argmax),
        (tt.vas(beta=0.0, k=2, temperature=0), w.base_argmax),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
def test_no_strength_is_the_base(kind: str, method: tt.Method, law: w.StepLaw) -> None:
    world = plain_world(kind)
    distance = w.total_variation(multiplied_out(world, method), w.sequence_law(world, law))
    assert distance <= 1e-6


@pytest.mark.parametrize(
    "method",
    [
        tt.args(beta=1e6, k=3),
        tt.args_stochastic(beta=1e6, k=3),
        tt.pargs(beta=1e6, k=3),
        tt.vas(beta=1e6, k=3, tail="drop"),
        tt.vas(beta=1e6, k=3),  # the mean of three different scores is below their largest
    ],
    ids=lambda method: method.name,
)
def test_great_strength_takes_the_best_score_among_the_candidates(method: tt.Method) -> None:
    world = w.one_table_world()

    def best_score(world: w.World, prefix: w.Ids) -> dict[int, float]:
        top = w.likeliest(world.p(prefix), 3)
        return {max(top, key=lambda v: world.score((*prefix, v))): 1.0}

    law = w.sequence_law(world, best_score)
    assert w.total_variation(multiplied_out(world, method), law) <= 1e-6


def test_beta_may_be_given_per_call() -> None:
    world = w.one_table_world()
    given = decoded(world, tt.cd(beta=0.0, k=3), beta=2.0, n=30)
    own = decoded(world, tt.cd(beta=2.0, k=3), n=30)
    assert [r.tokens for r in given] == [r.tokens for r in own]


# --- the ledger ----------------------------------------------------------------------------------


def log_of(law: w.Law, ids: w.Ids) -> float:
    return math.log(law[ids])


@pytest.mark.parametrize("kind", ["table", "transformer"])
@pytest.mark.parametrize("case", TOKENWISE, ids=lambda case: case.id)
def test_log_probabilities_of_responses(kind: str, case: w.Case) -> None:
    world = plain_world(kind)
    law, base = case.law(world), w.sequence_law(world, w.base())
    for response in decoded(case.world(world), case.method, n=20):
        assert response.logprob == pytest.approx(log_of(law, response.tokens), abs=1e-5)
        assert response.ref_logprob == pytest.approx(log_of(base, response.tokens), abs=1e-5)


def step_kl(world: w.World, step: w.StepLaw, prefix: w.Ids) -> float:
    p = world.p(prefix)
    return math.fsum(q * math.log(q / p[v]) for v, q in step(world, prefix).items() if q > 0)


@pytest.mark.parametrize("kind", ["table", "transformer"])
@pytest.mark.parametrize("case", TOKENWISE, ids=lambda case: case.id)
def test_step_kl_is_the_enumerated_one(kind: str, case: w.Case) -> None:
    world = case.world(plain_world(kind))
    assert case.step is not None
    for response in decoded(world, case.method, n=12):
        prefix = world.prompt
        for step in response.steps:
            assert step.kl == pytest.approx(step_kl(world, case.step, prefix), abs=2e-6)
            prefix = (*prefix, *step.tokens)


@pytest.mark.parametrize("case", TOKENWISE, ids=lambda case: case.id)
def test_ledgers_sum_to_the_divergence_of_responses(case: w.Case) -> None:
    # The chain rule: E_pi[sum_t KL_t] = KL(law of responses || law of the base's responses).
    plain = w.one_table_world()
    world = case.world(plain)
    law, base = case.law(plain), w.sequence_law(plain, w.base())
    ledger = ledgers(world, case.method)
    mean = math.fsum(
        mass * math.fsum(ledger[world.prompt + ids[:t]] for t in range(len(ids)))
        for ids, mass in law.items()
        if mass > 0
    )
    whole = math.fsum(q * math.log(q / base[ids]) for ids, q in law.items() if q > 0)
    assert mean == pytest.approx(whole, abs=1e-9)


def ledgers(world: w.World, method: tt.Method) -> dict[w.Ids, float]:
    """The decoder's step KL after every open prefix."""
    prefixes = [world.prompt + ids for ids in world.open_prefixes()]
    prompts = [Prompt(ids) for ids in prefixes]
    steps = tt.decode_steps(world.lm, world.guide, method, prompts, max_new_tokens=1)
    return {prefixes[step.row]: step.kl for step in steps if step.kl is not None}


@pytest.mark.parametrize("case", w.BLOCKWISE, ids=lambda case: case.id)
def test_sampled_blocks_claim_no_divergence(case: w.Case) -> None:
    world = case.world(w.one_table_world())
    base = w.sequence_law(world, w.base())
    for response in decoded(world, case.method, n=20):
        assert response.kl is None
        assert response.ref_logprob == pytest.approx(log_of(base, response.tokens), abs=1e-5)


def test_scores_are_those_of_the_prefix_that_was_chosen() -> None:
    world = w.one_table_world()
    for response in decoded(world, tt.cd(beta=1.0, k=5), n=20):
        prefix = world.prompt
        for step in response.steps:
            prefix = (*prefix, *step.tokens)
            assert step.score == pytest.approx(world.score(prefix), abs=1e-12)
