"""The loop: forks, batches, seeds, streams. What a row says depends on its prompt alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.types import Completion, PromptLike, Step

METHODS = [
    tt.sampling(1.3),
    tt.args(beta=2.0, k=4),
    tt.pargs(beta=2.0, k=4),
    tt.vas(beta=2.0, k=3),
    tt.vas(beta=2.0, k=3, temperature=0),
    tt.cd_blockwise(n=3, length=4),
    tt.best_of_n(n=3),
]


def by_name(method: tt.Method) -> str:
    return f"{method.name}-{type(method.sampler).__name__}"


class World:
    """A base, a guide and prompts of different lengths."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.lm: Any
        self.guide: Any
        if kind == "table":
            self.lm, self.guide = tt.TableLM(5, seed=2), toys.TableGuide()
            self.prompts: list[PromptLike] = ["ab", "c", "dabc"]
        else:
            self.lm, self.guide = toys.language_model(), toys.value_guide()
            self.prompts = list(toys.prompts(4, 13, 9))

    def decode(
        self, method: tt.Method, prompts: Iterable[PromptLike] | None = None, **options: Any
    ) -> list[Completion]:
        options = {"max_new_tokens": 8, "seed": 1, **options}
        prompts = self.prompts if prompts is None else prompts
        return tt.decode(self.lm, self.guide, method, prompts, **options)


@pytest.fixture(params=["table", "transformer"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def tokens(done: Sequence[Completion]) -> list[tuple[int, ...]]:
    return [response.tokens for response in done]


# --- rows and their prompts ----------------------------------------------------------------------


def test_nothing_in_nothing_out(world: World) -> None:
    assert world.decode(tt.sampling(), []) == []
    assert list(tt.decode_steps(world.lm, world.guide, tt.vas(), [])) == []


def test_prompts_may_come_from_a_generator(world: World) -> None:
    method = tt.sampling()
    want = world.decode(method)
    for one in (
        iter(world.prompts),
        (p for p in world.prompts),
        dict.fromkeys(world.prompts).keys(),
    ):
        assert tokens(world.decode(method, one)) == tokens(want)
    streamed = tt.decode_steps(world.lm, None, method, iter(world.prompts), max_new_tokens=2)
    assert {step.row for step in streamed} == {0, 1, 2}


def test_completions_come_prompt_by_prompt(world: World) -> None:
    done = world.decode(tt.vas(k=3), n=2)
    assert [r.sample for r in done] == [0, 1] * 3
    expected = [world.lm.encode(p).ids for p in world.prompts for _ in range(2)]
    assert [r.prompt.ids for r in done] == expected


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_a_prompt_says_the_same_alone_and_among_others(world: World, method: tt.Method) -> None:
    together = tokens(world.decode(method, n=2))
    alone = [t for prompt in world.prompts for t in tokens(world.decode(method, [prompt], n=2))]
    assert together == alone


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_the_order_of_prompts_does_not_matter(world: World, method: tt.Method) -> None:
    forwards = tokens(world.decode(method))
    backwards = tokens(world.decode(method, world.prompts[::-1]))
    assert backwards == forwards[::-1]


def test_samples_of_a_prompt_differ_and_do_not_depend_on_how_many_there_are(world: World) -> None:
    many = tokens(world.decode(tt.sampling(1.3), n=6))
    few = tokens(world.decode(tt.sampling(1.3), n=2))
    assert len(set(many[:6])) > 1
    assert few[:2] == many[:2]


def test_a_prompt_given_twice_gets_two_samples(world: World) -> None:
    prompt = world.prompts[1]
    twice = tokens(world.decode(tt.sampling(1.3), [prompt, world.prompts[0], prompt]))
    assert [twice[0], twice[2]] == tokens(world.decode(tt.sampling(1.3), [prompt], n=2))
    assert twice[0] != twice[2]


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_forked_samples_are_those_of_prompts_given_twice(world: World, method: tt.Method) -> None:
    prompt = world.prompts[1]
    forked = tokens(world.decode(method, [prompt], n=3))
    assert forked == tokens(world.decode(method, [prompt] * 3))


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_samples_that_were_drawn_are_gone_on_from(world: World, method: tt.Method) -> None:
    prompt, other = world.prompts[:2]
    whole = tokens(world.decode(method, [prompt, prompt], n=3))
    first = tokens(world.decode(method, [prompt], n=2))
    rest = tokens(world.decode(method, [other, prompt], n=2, drawn=[0, 2]))
    last = tokens(world.decode(method, [prompt], n=2, drawn=[4]))
    assert first + rest[2:] + last == whole


@pytest.mark.parametrize("drawn", [[1], [0, -1]])
def test_drawn_is_a_count_for_each_prompt(world: World, drawn: list[int]) -> None:
    with pytest.raises(tt.TrimtabError, match="one count for each of 2 prompts"):
        world.decode(tt.sampling(), world.prompts[:2], drawn=drawn)


def test_n_samples_are_forks_of_one_reading(world: World) -> None:
    before = world.lm.cost.prefill, world.guide.cost.prefill
    world.decode(tt.vas(k=3), n=5)
    read = sum(len(world.lm.encode(prompt).ids) for prompt in world.prompts)
    assert (world.lm.cost.prefill - before[0], world.guide.cost.prefill - before[1]) == (read, read)


def test_finished_rows_leave_the_batch() -> None:
    lm = tt.TableLM(5, seed=2)
    done = tt.decode(lm, None, tt.sampling(), ["a"], n=50, max_new_tokens=40)
    lengths = [len(r.tokens) for r in done]
    assert min(lengths) < max(lengths)
    # The last token of a response is never read, and nothing is read for who has finished.
    assert lm.cost.extended == sum(lengths) - len(lengths)


# --- seeds and strengths -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_a_seed_says_the_same_again(world: World, method: tt.Method) -> None:
    assert world.decode(method, n=2, seed=5) == world.decode(method, n=2, seed=5)


def test_another_seed_says_something_else(world: World) -> None:
    one, other = (tokens(world.decode(tt.sampling(1.3), n=4, seed=s)) for s in (1, 2))
    assert one != other


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_each_prompt_may_have_its_own_strength(world: World, method: tt.Method) -> None:
    strengths = [0.0, 4.0, 1.0]
    together = tokens(world.decode(method, n=2, beta=strengths))
    assert together == tokens(world.decode(method, n=2, beta=torch.tensor(strengths)))
    alone = [
        t
        for prompt, beta in zip(world.prompts, strengths, strict=True)
        for t in tokens(world.decode(method, [prompt], n=2, beta=beta))
    ]
    assert together == alone


# --- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_streamed_steps_join_to_completions(world: World, method: tt.Method) -> None:
    done = world.decode(method, n=2)
    rows: dict[int, list[Step]] = {}
    for step in tt.decode_steps(
        world.lm, world.guide, method, world.prompts, n=2, max_new_tokens=8, seed=1
    ):
        rows.setdefault(step.row, []).append(step)
    assert [tuple(rows[row]) for row in sorted(rows)] == [r.steps for r in done]


def test_a_stream_that_is_left_early_leaves_nothing_behind(world: World) -> None:
    before = tokens(world.decode(tt.vas(k=3)))
    stream: Any = tt.decode_steps(world.lm, world.guide, tt.vas(k=3), world.prompts)
    next(stream)
    stream.close()
    assert tokens(world.decode(tt.vas(k=3))) == before


def test_on_step_sees_every_step_as_it_comes(world: World) -> None:
    seen: list[Step] = []
    done = world.decode(tt.vas(k=3), on_step=seen.append)
    assert sorted(seen, key=lambda step: step.row) == [s for r in done for s in r.steps]


@pytest.mark.parametrize("method", METHODS, ids=by_name)
@pytest.mark.parametrize("lookahead", [1, 3])
def test_lookahead_changes_no_text(world: World, method: tt.Method, lookahead: int) -> None:
    def kept(response: Completion) -> tuple[object, ...]:
        return response.tokens, response.text, response.finish, response.kl, response.logprob

    plain = world.decode(method, n=3, lookahead=0, stop=["ab", "w7"])
    ahead = world.decode(method, n=3, lookahead=lookahead, stop=["ab", "w7"])
    # Rows leave the batch later, so sums run over other shapes: equal up to rounding.
    for one, other in zip(plain, ahead, strict=True):
        assert kept(one)[:3] == kept(other)[:3]
        assert other.kl == (one.kl if one.kl is None else pytest.approx(one.kl, abs=1e-3))
        assert other.logprob == pytest.approx(one.logprob, abs=1e-3)


# --- what steps carry ----------------------------------------------------------------------------


def test_alternatives_are_the_likeliest_candidates_in_order(world: World) -> None:
    done = world.decode(tt.vas(beta=2.0, k=4), alternatives=3)
    for step in (s for r in done for s in r.steps):
        shown = step.alternatives
        assert len(shown) == 3
        assert [a.logprob for a in shown] == sorted((a.logprob for a in shown), reverse=True)
        for a in shown:
            if a.token == step.tokens[0]:
                assert (a.logprob, a.ref_logprob) == (step.logprob, step.ref_logprob)
                assert a.score == pytest.approx(step.score)


def test_there_are_no_more_alternatives_than_candidates(world: World) -> None:
    done = world.decode(tt.cd(k=2), alternatives=9)
    assert {len(s.alternatives) for r in done for s in r.steps} == {2}
    assert {len(s.alternatives) for r in world.decode(tt.cd(k=2)) for s in r.steps} == {0}


def test_greedy_alternatives_show_the_choice_first(world: World) -> None:
    done = world.decode(tt.args(beta=2.0, k=4), alternatives=2)
    assert all(s.alternatives[0].token == s.tokens[0] for r in done for s in r.steps)


@pytest.mark.parametrize("method", [tt.sampling(), tt.vas(k=3)], ids=by_name)
def test_the_base_itself_is_at_no_distance_from_itself(world: World, method: tt.Method) -> None:
    for step in (s for r in world.decode(method, beta=0.0) for s in r.steps):
        assert step.kl == 0.0
        assert step.logprob == step.ref_logprob


def test_a_dropped_tail_is_a_distance_at_strength_zero(world: World) -> None:
    done = world.decode(tt.cd(k=3), beta=0.0)
    assert any(step.kl > 1e-3 for r in done for step in r.steps)


def test_a_completion_as_plain_types(world: World) -> None:
    (done, *_) = world.decode(tt.vas(k=3), alternatives=2)
    plain = json.loads(json.dumps(done.as_dict()))
    assert plain["tokens"] == list(done.tokens)
    assert plain["kl"] == pytest.approx(done.kl)
    assert len(plain["steps"]) == len(done.steps)
    assert plain["steps"][0]["alternatives"][0]["token"] == done.steps[0].alternatives[0].token


def test_blocks_come_as_steps_of_several_tokens(world: World) -> None:
    done = world.decode(tt.cd_blockwise(n=3, length=4), stop=())
    for response in done:
        sizes = [len(step.tokens) for step in response.steps]
        assert all(size == 4 for size in sizes[:-1])
        assert len(response.tokens) <= 8
    best = world.decode(tt.best_of_n(n=3))
    assert all(len(response.steps) == 1 for response in best)
