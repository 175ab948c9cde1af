"""The tail is what lies outside the candidates: no more where little is, nothing where none is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.decoding.step import mean_score, outcomes
from trimtab.models.proposals import top_k
from trimtab.types import Candidates, Tail

STRONG = (1.0, 20.0, 50.0, 500.0)


class Prefer(toys.TableGuide):
    """Likes what pi_ref gives no chance, so a tail that has a spurious mass is chosen."""

    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        rank = torch.arange(candidates.logprobs.shape[1]).expand_as(candidates.logprobs)
        return torch.where(candidates.possible, -0.05 * rank, 1.0)


@pytest.fixture(scope="module")
def narrow() -> tt.TransformersLM:
    """A base whose nucleus holds fewer tokens than there are candidates."""
    return toys.language_model(base_top_p=0.9, base_temperature=0.2)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
@pytest.mark.parametrize("beta", STRONG)
def test_an_empty_tail_is_never_chosen(
    narrow: tt.TransformersLM, beta: float, temperature: float
) -> None:
    prompts = toys.prompts(*range(2, 18))
    state = narrow.prefill(prompts)
    support = torch.isfinite(state.last).sum(-1)
    assert 1 < int(support.max()) < 40, "the nucleus is what this test is about"
    tail = top_k(state.last, tt.TopK(40, "mean"), narrow.eos_ids).tail
    assert tail is not None
    assert torch.isneginf(tail.logprob).all()
    method = tt.vas(beta=beta, k=40, temperature=temperature)
    for done in tt.decode(narrow, Prefer(), method, prompts, max_new_tokens=1, n=4):
        assert done.logprob <= 0
        assert done.ref_logprob > -torch.inf


@pytest.mark.parametrize("exact", [torch.float32, torch.float64])
def test_however_little_lies_outside_it_is_what_the_tail_holds(exact: torch.dtype) -> None:
    logits = torch.tensor([[0.0, -1.0, -b, -b - 1, -b - 2] for b in (1.0, 20.0, 40.0, 300.0)])
    law = logits.to(exact).log_softmax(-1)
    tail = top_k(law, tt.TopK(2, "mean"), frozenset()).tail
    assert tail is not None
    assert tail.logprob.dtype == exact
    want = law[:, 2:].double().logsumexp(-1)
    torch.testing.assert_close(tail.logprob.double(), want, rtol=1e-6, atol=0.0)
    assert (tail.logprob >= tail.best_logprob).all()


def test_nothing_is_outside_the_whole_vocabulary() -> None:
    law = torch.randn(3, 6).log_softmax(-1)
    tail = top_k(law, tt.TopK(6, "mean"), frozenset()).tail
    assert tail is not None
    assert torch.isneginf(tail.logprob).all()


def test_the_mean_is_over_candidates_that_have_a_chance() -> None:
    logprobs = torch.tensor([[0.6, 0.3, 0.0], [0.5, 0.0, 0.0], [0.5, 0.2, 0.1]]).log()
    scores = torch.tensor([[1.0, 3.0, 50.0], [2.0, -9.0, 9.0], [1.0, 2.0, 6.0]])
    tokens = torch.arange(9).view(3, 3, 1)
    rest = torch.tensor([0.1, 0.5, 0.2]).log()
    candidates = Candidates(
        tokens,
        logprobs,
        torch.ones(3, 3, dtype=torch.int64),
        torch.zeros(3, 3, dtype=torch.bool),
        Tail(rest, torch.zeros(3, dtype=torch.int64), rest),
    )
    assert mean_score(candidates, scores)[:, 0].tolist() == pytest.approx([2.0, 2.0, 3.0])
    reference, values = outcomes(candidates, scores, greedy=False)
    assert values[:, -1].tolist() == pytest.approx([2.0, 2.0, 3.0])
    assert reference[:, -1].tolist() == rest.tolist()
