"""Published decoders, token for token: written here anew from what their code does."""

from __future__ import annotations

import copy

import pytest
import torch

import trimtab as tt
from tests import toys
from trimtab.guides import RereadingValueGuide


@torch.no_grad()
def published_vas(
    lm: tt.TransformersLM, guide: tt.ValueGuide, prompt: list[int], beta: float, k: int, n: int
) -> tuple[int, ...]:
    """VAS' decoder, batch of one: the whole prefix is fed again on top of its own cache."""
    net, ids, cache = guide.backbone, list(prompt), None
    for _ in range(n):
        cache = net(torch.tensor([ids]), past_key_values=cache, use_cache=True).past_key_values
        logits = lm.model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[0, -1]
        top = logits.topk(k).indices
        values = []
        for token in top.tolist():
            again = net(
                torch.tensor([[*ids, token]]), past_key_values=copy.deepcopy(cache), use_cache=True
            )
            values.append(guide.head(again.last_hidden_state[0, -1]))
        logits[top] += beta * (torch.stack(values) - torch.stack(values).mean())
        ids.append(int(logits.argmax()))
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize(("k", "beta"), [(6, 1.0), (20, 30.0), (10, 4.0)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_rereading_gives_the_tokens_of_vas_published_decoder(
    family: str, k: int, beta: float
) -> None:
    lm, guide = toys.language_model(family), toys.value_guide(family)
    (prompt,) = toys.prompts(4)
    steps = 8  # the doubled contexts still fit the toy's 128 positions
    method = tt.vas(beta, k, temperature=0.0)
    options = {"max_new_tokens": steps, "stop_at_eos": False}
    (ours,) = tt.decode(lm, RereadingValueGuide(guide), method, [prompt], **options)
    (paper,) = tt.decode(lm, guide, method, [prompt], **options)
    assert ours.tokens == published_vas(lm, guide, list(prompt.ids), beta, k, steps)
    assert ours.tokens != paper.tokens, "the doubling must matter, or nothing was tested"


@torch.no_grad()
def published_args(
    lm: tt.TransformersLM, guide: tt.ValueGuide, prompt: list[int], weight: float, k: int, n: int
) -> tuple[int, ...]:
    """ARGS' greedy decoder: w r + raw logits over the top k, every prefix read from the start."""
    ids = list(prompt)
    for _ in range(n):
        logits = lm.model(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits[0, -1]
        top = logits.topk(k)
        rows = torch.tensor([[*ids, token] for token in top.indices.tolist()])
        rewards = guide.head(guide.backbone(rows).last_hidden_state[:, -1])
        ids.append(int(top.indices[(weight * rewards + top.values).argmax()]))
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize(("k", "weight"), [(6, 1.0), (10, 1.5), (20, 30.0)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_args_gives_the_tokens_of_its_published_decoder(family: str, k: int, weight: float) -> None:
    lm, guide = toys.language_model(family), toys.value_guide(family)
    (prompt,) = toys.prompts(9)
    (ours,) = tt.decode(
        lm, guide, tt.args(weight, k), [prompt], max_new_tokens=24, stop_at_eos=False
    )
    assert ours.tokens == published_args(lm, guide, list(prompt.ids), weight, k, 24)
