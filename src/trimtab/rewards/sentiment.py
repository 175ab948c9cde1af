"""How positive a response is, by VADER's lexicon and rules.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014; the package vaderSentiment (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.errors import UsageError


def sentiment(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """The compound score, in [-1, 1]; the prompt is not read.

    Raises:
        UsageError: vaderSentiment is not installed.
    """
    analyzer = _analyzer()
    return [float(analyzer.polarity_scores(response)["compound"]) for response in responses]


@cache
def _analyzer() -> Any:
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ModuleNotFoundError as missing:
        raise UsageError(
            "the reward 'sentiment' needs the package vaderSentiment",
            got="none installed",
            do="run: pip install 'trimtab[demo]'",
        ) from missing
    return SentimentIntensityAnalyzer()
