"""Sentence embeddings, and how near texts are by them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.needs import needs_asset
from tests.toys import samples
from trimtab.errors import NotFetchedError
from trimtab.rewards.sentiment import RatedSentiment
from trimtab.rewards.similarity import Similarity, encoder


@needs_asset("minilm")
def test_an_embedding_is_a_unit_vector_that_company_does_not_change() -> None:
    texts = ["Fog.", "", "The sea was calm.", "Fog.", "word " * 500]
    together = encoder()(texts)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))
    assert torch.equal(together[0], together[3])
    alone = torch.cat([encoder()([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert encoder()([]).shape == (0, 384)


@needs_asset("minilm")
def test_what_answers_is_nearer_than_what_does_not() -> None:
    prompt = "Write about the following topic: fog."
    near, far = Similarity()(
        samples(prompt, prompt), ["Mist over the hills hides the road.", "I sold my car."]
    )
    assert near > far
    assert Similarity()(samples(prompt), [prompt]) == pytest.approx([1.0], abs=1e-5)
    assert Similarity()([], []) == RatedSentiment()([], []) == []


def test_without_the_encoder_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    encoder.cache_clear()
    with pytest.raises(NotFetchedError, match="run `trimtab assets fetch minilm`"):
        RatedSentiment()(samples("x"), ["Fine."])
    encoder.cache_clear()
