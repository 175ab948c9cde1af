"""Sentiment as people rated it: a ridge regression from sentence embeddings to human ratings.

    r(response) = w . e(response) + b,   (w, b) = argmin sum_i (w . e_i + b - y_i)^2 + alpha |w|^2

The ratings y (-4 to 4, means over 20 people) are of 23,700 sentences from film and product reviews,
editorials and tweets. On held-out documents the rank correlation of prediction and rating is .66
(films .66, products .64, editorials .55, tweets .79).

It shares neither words nor rules with VADER's lexicon, so it judges what was steered by that one.

Source: C.J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014 (its data set, MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trimtab.rewards.encoder import Encoder, minilm
from trimtab.rewards.vendored import tensors
from trimtab.types import Sample


@dataclass(frozen=True)
class RatedSentiment:
    """The rating that people would give a response, about -4 to 4; the prompt is not read.

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
        embeddings = (self.encoder or minilm())(responses)
        return (embeddings @ ridge["weight"] + ridge["bias"]).tolist()


rated_sentiment = RatedSentiment()
"""The reward by name, with MiniLM."""
