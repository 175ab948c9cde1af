"""Rows end where a network changes how it reads: a law depends on its row alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import shapes, toys
from tests.cache.nets import apart, longrope, net, plain, text
from trimtab.cache.networks import context_of
from trimtab.errors import PromptError
from trimtab.guides import ScalarHead

WAYS = ["tree", "expanded"]


def language_model(model: Any, attention: Any = "tree") -> tt.TransformersLM:
    return tt.TransformersLM(model, toys.tokenizer(), template="none", attention=attention)


def dynamic(**changes: Any) -> Any:
    return net("llama", **shapes.dynamic(32), **changes)


def places(**changes: Any) -> Any:
    """Llama 4 scales queries by their place in the cache, from the floor on."""
    return net("llama4", floor_scale=33, attn_temperature_tuning=True, **changes)


NETS = {"longrope": longrope, "dynamic": dynamic, "llama4": places}


@pytest.mark.parametrize("attention", WAYS)
@pytest.mark.parametrize("kind", NETS)
def test_a_rows_law_depends_on_nothing_else_up_to_the_limit(kind: str, attention: Any) -> None:
    model = NETS[kind]()
    lm = language_model(model, attention)
    assert lm.context == 32
    rows = [text(n, seed=n) for n in (5, 20, 30, 32)]
    for row, law in zip(rows, lm.prefill(rows).last, strict=True):
        assert apart(law, plain(model, row.ids)) < 1e-5
    state = lm.prefill(rows[1:3])
    new = torch.tensor([[9, 10], [11, 12]])
    state = lm.extend(state, new, torch.tensor([1, 2]))
    for row, n, law in zip(rows[1:3], (1, 2), state.last, strict=True):
        ids = [*row.ids, *new[0 if n == 1 else 1, :n].tolist()]
        assert apart(law, plain(model, ids)) < 1e-5


@pytest.mark.parametrize("attention", WAYS)
def test_decoding_ends_at_the_switch_and_is_as_recomputed(attention: Any) -> None:
    model = longrope()
    lm = language_model(model, attention)
    short, edge = text(20), text(27)
    alone = tt.decode(lm, None, tt.greedy(), [short], max_new_tokens=8)
    both = tt.decode(lm, None, tt.greedy(), [short, edge], max_new_tokens=8)
    assert both[0].tokens == alone[0].tokens
    ids = list(edge.ids)
    while len(ids) < 32:
        ids.append(int(plain(model, ids).argmax()))
    assert list(both[1].tokens) == ids[27:]


@pytest.mark.parametrize("attention", WAYS)
def test_a_row_beyond_the_switch_is_refused_with_the_largest_context(attention: Any) -> None:
    lm = language_model(longrope(), attention)
    with pytest.raises(PromptError, match="the context of 32 tokens .its longrope changes"):
        lm.prefill([text(20), text(33)])


def test_the_limit_is_said_when_a_model_is_opened(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="trimtab"):
        language_model(longrope())
    assert "rows of phi3 may have 32 tokens: its longrope changes" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="trimtab"):
        language_model(net("llama"))
    assert not caplog.text


def test_a_guide_ends_where_its_backbone_does() -> None:
    guide = tt.ValueGuide(longrope().base_model, ScalarHead(32))
    with pytest.raises(PromptError, match="the context of 32 tokens"):
        guide.prefill([text(33)])


def test_a_switch_of_one_layer_type_counts() -> None:
    config = net("gemma3_text").config
    config.rope_parameters = {
        "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 48},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert context_of(config).tokens == 48


@pytest.mark.parametrize("kind", ["yarn", "llama3", "linear"])
def test_other_rotary_scalings_depend_on_no_length(kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0}
    if kind != "linear":
        rope["original_max_position_embeddings"] = 32
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = net("llama", rope_parameters=rope)
    lm = language_model(model)
    assert lm.context == 256
    rows = [text(20), text(60)]
    for row, law in zip(rows, lm.prefill(rows).last, strict=True):
        assert apart(law, plain(model, row.ids)) < 1e-5
