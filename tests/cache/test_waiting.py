"""Rows that gain no tokens while others do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from tests import toys
from trimtab.cache.reader import TreeReader
from trimtab.errors import PromptError
from trimtab.testing import check_guide, check_model, readers


@pytest.mark.parametrize("attention", ["tree", "expanded"])
def test_extending_by_no_tokens_reads_nothing(attention: Any) -> None:
    lm = toys.language_model(attention=attention, base_temperature=0.7, base_top_p=0.9)
    state = lm.prefill(toys.prompts(4, 9))
    before, cost = state.last.clone(), dataclasses.astuple(lm.cost)
    for width in (0, 3):
        tokens, none = torch.full((2, width), 7), torch.zeros(2, dtype=torch.int64)
        state = lm.extend(state, tokens, none)
        assert torch.equal(state.last, before)
    assert dataclasses.astuple(lm.cost) == cost


def test_rows_that_wait_for_others_keep_their_room() -> None:
    """A row's context is what it has read, not what the longest row gained meanwhile."""
    lm = toys.language_model()
    state = lm.prefill(toys.prompts(100, 4))
    for _ in range(8):
        lengths = torch.tensor([0, 10])
        state = lm.extend(state, torch.full((2, 10), 7), lengths)
    with pytest.raises(PromptError, match="must fit the context of 128 tokens.*got 130"):
        lm.extend(state, torch.full((2, 30), 7), torch.tensor([30, 0]))


def test_rows_that_gain_nothing_where_the_device_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on an accelerator, whose lengths the host does not know."""
    monkeypatch.setattr(TreeReader, "_gains", lambda self, lengths: None)
    eos = frozenset({toys.EOS})
    waiting = readers.rows_that_gain_nothing_stay_as_they_were
    for guide in (toys.value_guide(), toys.causal_guide()):
        check_guide(guide, vocab_size=toys.VOCABULARY, eos_ids=eos, laws=[waiting])
    lm = toys.language_model(base_temperature=0.7, base_top_p=0.9)
    check_model(lm, laws=[readers.rows_that_gain_nothing_stay_as_they_were])
