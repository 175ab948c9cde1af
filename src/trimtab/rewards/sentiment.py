"""How positive a response is, by VADER's lexicon and rules.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014; the package vaderSentiment (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.rewards.packages import package
from trimtab.types import Sample


def sentiment(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The compound score, in [-1, 1]; the prompt is not read.

    Raises:
        UsageError: vaderSentiment is not installed.
    """
    analyzer = _analyzer()
    return [float(analyzer.polarity_scores(response)["compound"]) for response in responses]


@cache
def _analyzer() -> Any:
    found = package("vaderSentiment.vaderSentiment", reward="sentiment", extra="demo")
    return found.SentimentIntensityAnalyzer()
