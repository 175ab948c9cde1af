"""The laws on a real model with sliding windows and another tokenizer, past its window.

Its terms have to be accepted by a person, so no command fetches it unasked: where it is not on the
machine these tests say so.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import trimtab as tt
from tests.needs import needs_asset
from trimtab.guides import ScalarHead
from trimtab.testing import check_guide, check_model, readers
from trimtab.types import Prompt


@functools.cache
def lm() -> tt.TransformersLM:
    return tt.TransformersLM("gemma3-270m", dtype=torch.float32, device="cpu")


@functools.cache
def prompts() -> list[Prompt]:
    """Three lengths; one is longer than the window of 512 tokens."""
    long = " ".join(f"On day {i} the ship sailed {i % 7} miles." for i in range(60))
    return [lm().encode(text) for text in ("The sea", "A ship is", long)]


@needs_asset("gemma3-270m")
def test_the_prompts_are_what_they_are_meant_to_be() -> None:
    window = lm().model.config.sliding_window
    assert max(len(p.ids) for p in prompts()) > window > min(len(p.ids) for p in prompts())
    bos = lm().tokenizer.bos_token_id
    assert all(p.ids.count(bos) == 1 and p.ids[0] == bos for p in prompts()), "one BOS, in front"


@needs_asset("gemma3-270m")
@pytest.mark.parametrize(
    "law",
    [readers.cached_reading_equals_a_longer_prompt, readers.a_batch_equals_each_row_alone],
    ids=lambda law: law.__name__,
)
def test_the_model(law: Any) -> None:
    check_model(lm(), prompts(), steps=2, laws=[law])


@needs_asset("gemma3-270m")
@pytest.mark.parametrize(
    "law",
    [readers.cached_reading_equals_a_longer_prompt, readers.a_batch_equals_each_row_alone],
    ids=lambda law: law.__name__,
)
def test_a_value_guide_of_seven_layers(law: Any) -> None:
    # Seven: the sixth layer is the first of full attention, so both kinds are there.
    torch.manual_seed(0)
    head = ScalarHead(lm().model.config.hidden_size)
    torch.nn.init.normal_(head.linear.weight, std=0.02)
    guide = tt.ValueGuide(lm().model.base_model, head, layers=7)
    check_guide(guide, prompts(), steps=2, laws=[law])
