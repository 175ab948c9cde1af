"""How positive a response is: by VADER's lexicon and rules, and as people would rate it.

The two share neither words nor rules, so that one judges what was steered by the other.

Source of both: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text", ICWSM 2014; the package vaderSentiment, and its data set (both MIT).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from trimtab.plugins import optional
from trimtab.rewards.shipped import tensors
from trimtab.rewards.similarity import Encoder, encoder
from trimtab.types import Sample


def sentiment(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The compound score, in [-1, 1]; the prompt is not read."""
    analyzer = _analyzer()
    return [float(analyzer.polarity_scores(response)["compound"]) for response in responses]


def valence(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The summed valence s of a response, before VADER squashes it: compound = s / sqrt(s^2 + 15).

    About the number of positive words less the negative ones, each of 1 to 4. It is nearly
    additive, and still tells good from better where the compound score has reached its end. Cut to
    [-15, 15], where that one is .97.
    """
    return [_unsquashed(score) for score in sentiment(samples, responses)]


def _unsquashed(compound: float) -> float:
    rest = max(1.0 - compound**2, 1e-9)  # the score is rounded, and may be 1
    return max(-15.0, min(15.0, compound * math.sqrt(15.0 / rest)))


@cache
def _analyzer() -> Any:
    found = optional("vaderSentiment.vaderSentiment", "demo", user="the reward 'sentiment'")
    return found.SentimentIntensityAnalyzer()


@dataclass(frozen=True)
class RatedSentiment:
    """The rating that people would give a response, about -4 to 4; the prompt is not read.

    A ridge regression from sentence embeddings to human ratings:

        r(response) = w . e(response) + b
        (w, b) = argmin sum_i (w . e_i + b - y_i)^2 + alpha |w|^2

    The ratings y (-4 to 4, means over 20 people) are of 23,700 sentences from film and product
    reviews, editorials and tweets. On held-out documents the rank correlation of prediction and
    rating is .66 (films .66, products .64, editorials .55, tweets .79).

    Attributes:
        encoder: must be MiniLM, whose embeddings the ridge was fitted on; loaded if not given.
    """

    encoder: Encoder | None = field(default=None, repr=False)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Ratings, higher is more positive.

        Raises:
            NotFetchedError: MiniLM is not on this machine.
        """
        if not responses:
            return []
        ridge = tensors("rated")
        embeddings = (self.encoder or encoder())(responses)
        return (embeddings @ ridge["weight"] + ridge["bias"]).tolist()


rated_sentiment = RatedSentiment()
