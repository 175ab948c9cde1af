"""What every method must do, whatever its parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.decoding.methods import METHODS, Greedy, Method

TILTED: dict[str, Method] = {
    "args": tt.args(beta=2.0, k=5),
    "args-stochastic": tt.args_stochastic(beta=2.0, k=5),
    "pargs": tt.pargs(beta=2.0, k=5),
    "pargs-greedy": tt.pargs_greedy(beta=2.0, k=5),
    "vas": tt.vas(beta=2.0, k=5),
    "vas-drop": tt.vas(beta=2.0, k=5, tail="drop"),
    "vas-greedy": tt.vas(beta=2.0, k=5, temperature=0),
    "cd": tt.cd(beta=2.0, k=5),
    "fudge": tt.fudge(beta=2.0, k=20),
    "rad": tt.rad(beta=10.0, k=5),
    "genarm": tt.genarm(),
}
OTHERS: dict[str, Method] = {
    "greedy": tt.greedy(),
    "sampling": tt.sampling(),
    "cd-blockwise": tt.cd_blockwise(n=3, length=2),
    "best-of-n": tt.best_of_n(n=3),
}
EVERY = TILTED | OTHERS


def run(method: Method, prompts: Sequence[tt.Prompt], **options: Any) -> list[tt.Completion]:
    guide = None if not method.guided else toys.value_guide("gpt2")
    options = {"max_new_tokens": 6, "seed": 3} | options
    return tt.decode(toys.language_model(), guide, method, prompts, **options)


def texts(done: Sequence[tt.Completion]) -> list[tuple[int, ...]]:
    return [c.tokens for c in done]


def test_every_named_method_is_here() -> None:
    assert set(METHODS) <= set(EVERY)


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_batch_mates_decide_nothing(method: Method) -> None:
    prompts = toys.prompts(4, 11, 7)
    together = texts(run(method, prompts))
    assert together == [t for p in prompts for t in texts(run(method, [p]))]


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_streaming_and_lookahead_decide_nothing(method: Method) -> None:
    prompts = toys.prompts(4, 9)
    want = run(method, prompts, lookahead=0)
    assert texts(run(method, prompts, lookahead=1)) == texts(want)
    streamed: dict[int, list[int]] = {0: [], 1: []}
    guide = toys.value_guide("gpt2") if method.guided else None
    lm = toys.language_model()
    for step in tt.decode_steps(lm, guide, method, prompts, max_new_tokens=6, seed=3):
        streamed[step.row].extend(step.tokens)
    assert [tuple(streamed[0]), tuple(streamed[1])] == texts(want)


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_samples_are_those_of_a_fork(method: Method) -> None:
    prompts = toys.prompts(5, 8)
    both = run(method, prompts, n=2)
    assert [c.sample for c in both] == [0, 1, 0, 1]
    assert texts(both[:2]) == texts(run(method, prompts[:1], n=2))
    assert texts(both[::2]) == texts(run(method, prompts))


@pytest.mark.parametrize("method", TILTED.values(), ids=TILTED)
def test_strength_zero_is_the_base_on_the_candidates(method: Method) -> None:
    done = run(method, toys.prompts(6, 12), beta=0.0, alternatives=3)
    for step in (step for c in done for step in c.steps):
        if method.sampler.greedy:
            best = max(step.alternatives, key=lambda a: a.ref_logprob)
            assert step.tokens == (best.token,)
        elif isinstance(method.proposal, tt.TopK) and method.proposal.tail == "mean":
            assert step.logprob == pytest.approx(step.ref_logprob, abs=1e-5)
            assert step.kl == pytest.approx(0, abs=1e-5)
        else:  # renormalised over the candidates, and by the method's own temperature
            t = getattr(method.sampler, "temperature", 1.0)
            shift = {a.logprob - a.ref_logprob / t for a in step.alternatives if a.logprob > -50}
            assert max(shift) - min(shift) < 1e-4


@pytest.mark.parametrize("method", TILTED.values(), ids=TILTED)
def test_great_strength_takes_the_best_score(method: Method) -> None:
    k = 5
    proposal = tt.TopK(k) if isinstance(method.proposal, tt.TopK) else method.proposal
    method = replace(method, proposal=proposal)
    done = run(method, toys.prompts(6, 12), beta=1e6, alternatives=toys.VOCABULARY)
    for step in (step for c in done for step in c.steps):
        assert step.score == pytest.approx(max(a.score for a in step.alternatives), abs=1e-5)


@pytest.mark.parametrize("method", TILTED.values(), ids=TILTED)
def test_rows_of_different_strength_are_each_alone(method: Method) -> None:
    prompts, betas = toys.prompts(4, 9, 6), [0.0, 1.0, 30.0]
    together = texts(run(method, prompts, beta=betas))
    alone = [
        t for p, b in zip(prompts, betas, strict=True) for t in texts(run(method, [p], beta=b))
    ]
    assert together == alone
    assert texts(run(method, prompts, beta=torch.tensor(betas))) == together


@pytest.mark.parametrize("family", toys.SHAPES)
def test_eos_as_pad_ends_rows_and_is_a_candidate_like_any_other(family: str) -> None:
    """The toys' pad is their EOS: a guide that pools "the last token that is no pad" fails here."""
    lm, guide = toys.language_model(family), toys.value_guide(family)
    prompts = [tt.Prompt((toys.EOS, *p.ids)) for p in toys.prompts(5, 9)]
    every = Method("every", tt.Vocabulary(), tt.args().rule, Greedy(), beta=3.0)
    done = tt.decode(lm, guide, every, prompts, max_new_tokens=3, alternatives=toys.VOCABULARY)
    for completion in done:
        first = {a.token: a.score for a in completion.steps[0].alternatives}
        ids = torch.tensor([[*completion.prompt.ids, toys.EOS]])
        with torch.inference_mode():
            want = guide.head(guide.backbone(ids).last_hidden_state[:, -1])
        assert first[toys.EOS] == pytest.approx(float(want), abs=1e-4)


def test_a_row_that_ends_leaves_the_others_as_they_are() -> None:
    lm = tt.TableLM()
    prompts = [lm.encode(p) for p in ("ab", "c", "ba", "dd")]
    method = tt.vas(beta=1.0, k=2)
    done = tt.decode(lm, toys.TableGuide(), method, prompts, max_new_tokens=12, n=4)
    assert len({len(c.tokens) for c in done}) > 2
    for i, prompt in enumerate(prompts):
        alone = tt.decode(lm, toys.TableGuide(), method, [prompt], max_new_tokens=12, n=4)
        assert texts(alone) == texts(done[4 * i : 4 * i + 4])
