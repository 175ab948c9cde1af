"""Sentence embeddings, and the two rewards that read them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from tests.needs import needs_asset
from tests.toys import samples
from trimtab.errors import NotFetchedError
from trimtab.rewards.encoder import minilm
from trimtab.rewards.rated import RatedSentiment
from trimtab.rewards.similarity import Similarity

HELD_OUT = Path(__file__).with_name("data") / "held_out_ratings.tsv"


@needs_asset("minilm")
def test_an_embedding_is_a_unit_vector_that_company_does_not_change() -> None:
    texts = ["Fog.", "", "The sea was calm.", "Fog.", "word " * 500]
    together = minilm()(texts)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(5))
    assert torch.equal(together[0], together[3])
    alone = torch.cat([minilm()([text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert minilm()([]).shape == (0, 384)


@needs_asset("minilm")
def test_what_answers_is_nearer_than_what_does_not() -> None:
    prompt = "Write about the following topic: fog."
    near, far = Similarity()(
        samples(prompt, prompt), ["Mist over the hills hides the road.", "I sold my car."]
    )
    assert near > far
    assert Similarity()(samples(prompt), [prompt]) == pytest.approx([1.0], abs=1e-5)
    assert Similarity()([], []) == RatedSentiment()([], []) == []


@needs_asset("minilm")
def test_the_judge_of_sentiment_agrees_with_people() -> None:
    """On sentences that the ridge was not fitted on, of documents that it was not fitted on."""
    rows = [line.split("\t") for line in HELD_OUT.read_text(encoding="utf-8").split("\n") if line]
    ratings, texts = [float(rating) for rating, _ in rows], [text for _, text in rows]
    judged = RatedSentiment()(samples(*texts), texts)
    assert spearmanr(judged, ratings)[0] > 0.6


@needs_asset("minilm")
def test_the_judge_of_sentiment_tells_praise_from_blame() -> None:
    good, plain, bad = RatedSentiment()(
        samples(*"123"), ["I love it, a wonderful film.", "It has two parts.", "A dull, ugly mess."]
    )
    assert good > plain > bad


def test_without_the_encoder_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    minilm.cache_clear()
    with pytest.raises(NotFetchedError, match="run `trimtab assets fetch minilm`"):
        RatedSentiment()(samples("x"), ["Fine."])
    minilm.cache_clear()
