"""Guides on the base's own states: the numbers of the same head read apart, at no token."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.errors import IncompatibleError, UsageError
from trimtab.guides import Center, DuelingHead, EmbeddingHead, StateGuide, WeightedSum
from trimtab.guides.states import token_embeddings
from trimtab.types import Candidates

PROMPTS = ["w5 w6", "w7", "w8 w9 w10 w11"]


def head(lm: tt.TransformersLM, width: int = 16) -> EmbeddingHead:
    """Random weights; scores spread over about one unit."""
    embeddings = token_embeddings(lm.model)
    made = EmbeddingHead(32, embeddings.shape[1], width).through(embeddings)
    torch.manual_seed(7)
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made


def apart(lm: tt.TransformersLM, same: EmbeddingHead, layer: int | None) -> tt.VocabularyGuide:
    """The same head on a second reading of the base."""
    return tt.VocabularyGuide(lm.model.base_model, same, layers=layer, vocab=lm.vocab)


def decoded(lm: tt.TransformersLM, guide: Any, method: Any, **options: Any) -> list[Any]:
    given = {"n": 2, "max_new_tokens": 12, "beta": [1.0, 2.0, 4.0], **options}
    return tt.decode(lm, guide, method, PROMPTS, **given)


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "mistral", "gpt_neox"])
def test_equal_to_the_same_guide_apart_at_no_token(family: str, attention: Any) -> None:
    lm = toys.language_model(family, attention=attention)
    same = head(lm)
    for method in (tt.vas(k=5), tt.args(k=5), tt.vas(k=7, tail="drop"), tt.genarm()):
        free = decoded(lm, StateGuide(lm.model, same, vocab=lm.vocab), method)
        paid = decoded(lm, apart(lm, same, None), method)
        assert [done.tokens for done in free] == [done.tokens for done in paid]
        assert [s.score for done in free for s in done.steps] == pytest.approx(
            [s.score for done in paid for s in done.steps], abs=1e-5
        )
        assert sum(done.guide_tokens for done in free) == 0
        assert sum(done.base_tokens for done in free) == sum(done.base_tokens for done in paid)


def test_states_of_any_layer() -> None:
    """A body that is cut there ends with a norm, which the states have not met: here it is none."""
    net: Any = copy.deepcopy(toys.causal_lm("gpt2"))
    net.transformer.ln_f = torch.nn.Identity()
    lm = tt.TransformersLM(net, toys.tokenizer())
    same = head(lm)
    free = decoded(lm, StateGuide(lm.model, same, layer=2, vocab=lm.vocab), tt.vas(k=5))
    paid = decoded(lm, apart(lm, same, 2), tt.vas(k=5))
    assert [done.tokens for done in free] == [done.tokens for done in paid]


def test_a_batch_is_its_rows_alone() -> None:
    lm = toys.language_model()
    guide = StateGuide(lm.model, head(lm), vocab=lm.vocab)
    together = decoded(lm, guide, tt.vas(k=5))
    for i, prompt in enumerate(PROMPTS):
        alone = tt.decode(
            lm, guide, tt.vas(k=5), [prompt], n=2, max_new_tokens=12, beta=[1.0, 2.0, 4.0][i]
        )
        assert [d.tokens for d in alone] == [d.tokens for d in together[2 * i : 2 * i + 2]]


def test_without_strength_it_is_the_base() -> None:
    lm = toys.language_model()
    guide = StateGuide(lm.model, head(lm), vocab=lm.vocab)
    for done in decoded(lm, guide, tt.vas(k=5), beta=0.0):
        assert done.kl == 0
        assert [s.logprob for s in done.steps] == [s.ref_logprob for s in done.steps]


def test_inside_sums_and_transforms() -> None:
    lm = toys.language_model()
    one, other = head(lm), head(lm, width=4)
    mixed = WeightedSum(
        [
            (1.0, Center(StateGuide(lm.model, one, vocab=lm.vocab))),
            (-0.5, StateGuide(lm.model, other, layer=1, vocab=lm.vocab)),
            ([0.0, 1.0, 0.0], toys.value_guide(vocab=lm.vocab)),
        ]
    )
    assert mixed.state_layers == {4, 1}
    first = decoded(lm, mixed, tt.vas(k=5), n=1)
    again = decoded(lm, mixed, tt.vas(k=5), n=1)
    assert [d.tokens for d in first] == [d.tokens for d in again]
    assert all(d.guide_tokens >= 0 for d in first)


def test_an_embedding_head_is_a_dense_one() -> None:
    """Linear f: Q = V + W' h with W' = E W, so a `DuelingHead` of those weights says the same."""
    lm = toys.language_model()
    factored = head(lm)
    torch.nn.init.zeros_(factored.down.weight)
    torch.nn.init.zeros_(factored.down.bias)
    dense = DuelingHead(32, len(factored.embeddings))
    with torch.no_grad():
        dense.value.linear.load_state_dict(factored.value.state_dict())
        dense.advantage.linear.weight.copy_(factored.embeddings @ factored.query.weight)
        dense.advantage.linear.bias.copy_(factored.embeddings @ factored.query.bias)
    states = torch.randn(4, 7, 32)
    assert torch.allclose(factored(states), dense(factored.norm(states)), atol=1e-5)
    tokens = torch.randint(0, 97, (4, 7, 3))
    some = factored(states).gather(-1, tokens)
    assert torch.allclose(factored.at(states, tokens), some, atol=1e-5)


def test_a_vocabulary_guide_takes_the_head_too() -> None:
    lm = toys.language_model()
    same = head(lm)
    guide = apart(lm, same, None)
    state = guide.prefill([lm.encode(p) for p in PROMPTS])
    tokens = torch.randint(0, 97, (3, 4, 1))
    ones = torch.ones(3, 4, dtype=torch.int64)
    asked = Candidates(tokens, torch.zeros(3, 4), ones, ones == 0)
    with torch.inference_mode():
        want = same(state.last).gather(1, tokens[:, :, 0])
    assert torch.allclose(guide.score(state, asked), want, atol=1e-5)


def test_bases_without_states_are_refused() -> None:
    lm = tt.TableLM(5)
    guide = StateGuide(toys.causal_lm(vocabulary=5), EmbeddingHead(32, 32, 4))
    with pytest.raises(IncompatibleError, match="hidden states of the base"):
        tt.decode(lm, guide, tt.vas(k=3), ["ab"], max_new_tokens=2)


def test_blocks_and_unknown_layers_are_refused() -> None:
    lm = toys.language_model()
    guide = StateGuide(lm.model, head(lm), vocab=lm.vocab)
    with pytest.raises(IncompatibleError, match="scores single tokens"):
        tt.decode(lm, guide, tt.best_of_n(2), PROMPTS, max_new_tokens=3)
    with pytest.raises(UsageError, match="a layer must be from"):
        tt.decode(lm, StateGuide(lm.model, head(lm), layer=9, vocab=lm.vocab), tt.vas(k=3), PROMPTS)
