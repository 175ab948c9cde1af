"""VADER's score and its unsquashed sum; the rating that people would give."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from tests.needs import needs_asset
from tests.toys import samples
from trimtab import rewards
from trimtab.rewards.sentiment import RatedSentiment

HELD_OUT = Path(__file__).with_name("data") / "held_out_ratings.tsv"


def test_valence_is_the_sum_that_the_compound_score_squashes():
    texts = ["a good day", "a terrible, horrible day", "a day", "", "great! " * 40]
    asked = samples(*["?"] * len(texts))
    valence, compound = (
        rewards.find("valence")(asked, texts),
        rewards.find("sentiment")(asked, texts),
    )
    for s, c in zip(valence[:4], compound[:4], strict=True):
        assert s / math.sqrt(s**2 + 15) == pytest.approx(c, abs=2e-4)
    assert valence[0] == pytest.approx(1.9, abs=0.01)  # "good" has 1.9 in the lexicon
    assert valence[4] == 15.0


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
