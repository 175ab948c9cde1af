"""The laws on a real model, in float32: a ragged batch of texts through the chat template."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import trimtab as tt
from trimtab.guides import ScalarHead
from trimtab.testing import check_guide, check_model, models, readers

pytestmark = pytest.mark.assets

TEXTS = ["Trains?", "An opinion on winter, in one sentence.", "Say one thing about tea."]


@functools.cache
def lm() -> tt.TransformersLM:
    return tt.TransformersLM("smollm2", dtype=torch.float32, device="cpu")


@functools.cache
def guide() -> tt.ValueGuide:
    torch.manual_seed(0)
    head = ScalarHead(lm().model.config.hidden_size)
    torch.nn.init.normal_(head.linear.weight, std=0.02)
    return tt.ValueGuide(lm().model.base_model, head, layers=6)


@pytest.mark.parametrize(
    "law",
    [
        models.laws_are_normalised,
        readers.cached_reading_equals_a_longer_prompt,
        readers.a_batch_equals_each_row_alone,
        readers.joined_rows_equal_each_alone,
    ],
    ids=lambda law: law.__name__,
)
def test_the_model(law: Any) -> None:
    prompts = [lm().encode(text) for text in TEXTS]
    check_model(lm(), prompts, steps=3, laws=[law])


@pytest.mark.parametrize(
    "law",
    [
        readers.score_leaves_the_state_as_it_was,
        readers.cached_reading_equals_reading_at_once,
        readers.cached_reading_equals_a_longer_prompt,
        readers.a_batch_equals_each_row_alone,
        readers.forks_are_independent,
        readers.joined_rows_equal_each_alone,
        readers.long_candidates_equal_reading_their_beginning,
    ],
    ids=lambda law: law.__name__,
)
def test_a_six_layer_value_function(law: Any) -> None:
    check_guide(guide(), TEXTS, lm=lm(), steps=3, laws=[law])
