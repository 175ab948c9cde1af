"""How positive a response is, by VADER's lexicon and rules.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014; the package vaderSentiment (MIT).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.plugins import optional
from trimtab.types import Sample


def sentiment(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The compound score, in [-1, 1]; the prompt is not read.

    Raises:
        UsageError: vaderSentiment is not installed.
    """
    analyzer = _analyzer()
    return [float(analyzer.polarity_scores(response)["compound"]) for response in responses]


def valence(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The summed valence s of a response, before VADER squashes it: compound = s / sqrt(s^2 + 15).

    About the number of positive words less the negative ones, each of 1 to 4. It is nearly
    additive, and still tells good from better where the compound score has reached its end. Cut to
    [-15, 15], where that one is .97.

    Raises:
        UsageError: vaderSentiment is not installed.
    """
    scores = sentiment(samples, responses)
    return [_unsquashed(score) for score in scores]


ALPHA, LONGEST = 15.0, 15.0


def _unsquashed(compound: float) -> float:
    rest = max(1.0 - compound**2, 1e-9)  # the score is rounded, and may be 1
    return max(-LONGEST, min(LONGEST, compound * math.sqrt(ALPHA / rest)))


@cache
def _analyzer() -> Any:
    found = optional("vaderSentiment.vaderSentiment", "demo", user="the reward 'sentiment'")
    return found.SentimentIntensityAnalyzer()
