"""Every method's law, in closed form, against the decoder's own step laws multiplied out."""

from __future__ import annotations

from functools import cache

import pytest

import trimtab as tt
from tests.exact import world as w

TOLERANCE = 1e-6
"""Total variation over all responses."""


@cache
def transformer(kind: str, family: str) -> w.World:
    return w.transformer_world(kind, family)


def assert_exact(case: w.Case, plain: w.World) -> None:
    """The decoder's step laws multiply to the closed form.

    A greedy method visits one response only, so every step law is held to its formula as well.
    """
    world = case.world(plain)
    steps = w.decoder_steps(world, case.method)
    whole = w.sequence_law(world, lambda _, prefix: steps[prefix])
    assert w.total_variation(whole, case.law(plain)) <= TOLERANCE
    assert case.step is not None
    for prefix, step in steps.items():
        assert w.total_variation(step, case.step(world, prefix)) <= TOLERANCE, prefix


def test_every_method_has_a_case() -> None:
    assert {case.method.name for case in w.ALL} == set(tt.METHODS)


@pytest.mark.parametrize("case", w.ALL, ids=lambda case: case.id)
def test_closed_forms_are_laws(case: w.Case) -> None:
    law = case.law(w.one_table_world())
    assert min(law.values()) >= 0
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("case", [*w.TOKENWISE, w.GENARM], ids=lambda case: case.id)
@pytest.mark.parametrize(("size", "horizon", "seed"), [(5, 5, 0), (6, 4, 3)])
def test_table(case: w.Case, size: int, horizon: int, seed: int) -> None:
    assert_exact(case, w.table_world(size, horizon, seed))


@pytest.mark.parametrize("case", w.TOKENWISE, ids=lambda case: case.id)
@pytest.mark.parametrize("kind", ["value", "vocabulary"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_transformer(case: w.Case, kind: str, family: str) -> None:
    assert_exact(case, transformer(kind, family))


@pytest.mark.parametrize("kind", ["causal", "vocabulary", "value"])
def test_transformer_over_the_whole_vocabulary(kind: str) -> None:
    assert_exact(w.GENARM, transformer(kind, "gpt2"))


@pytest.mark.parametrize("case", [*w.TOKENWISE, w.GENARM], ids=lambda case: case.id)
@pytest.mark.parametrize("kind", ["table", "value"])
def test_steps_along_a_cached_walk_are_the_same_law(case: w.Case, kind: str) -> None:
    # The laws above come from fresh readings of every prefix; here the decoder walks by itself,
    # on its caches, with forks and rows that leave, and each step shows the law it drew from.
    plain = w.one_table_world() if kind == "table" else transformer("value", "llama")
    world = case.world(plain)
    done = tt.decode(
        world.lm,
        world.guide,
        case.method,
        [w.Prompt(world.prompt)],
        n=20,
        max_new_tokens=world.horizon,
        alternatives=world.size,
    )
    assert case.step is not None
    for response in done:
        prefix = world.prompt
        for step in response.steps:
            law = case.step(world, prefix)
            for shown in step.alternatives:
                chance = law.get(shown.token, 0.0)
                assert pytest.approx(chance, abs=TOLERANCE) == w.math.exp(shown.logprob)
            prefix = (*prefix, *step.tokens)
