"""VADER's score and its unsquashed sum."""

from __future__ import annotations

import math

import pytest

from tests.toys import samples
from trimtab.rewards import reward


def test_valence_is_the_sum_that_the_compound_score_squashes():
    texts = ["a good day", "a terrible, horrible day", "a day", "", "great! " * 40]
    asked = samples(*["?"] * len(texts))
    valence, compound = reward("valence")(asked, texts), reward("sentiment")(asked, texts)
    for s, c in zip(valence[:4], compound[:4], strict=True):
        assert s / math.sqrt(s**2 + 15) == pytest.approx(c, abs=2e-4)
    assert valence[0] == pytest.approx(1.9, abs=0.01)  # "good" has 1.9 in the lexicon
    assert valence[4] == 15.0
