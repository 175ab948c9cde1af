"""Rewards by name: each judges finished texts, `(samples, responses) -> one score each`.

>>> from trimtab import rewards
>>> from trimtab.types import Sample
>>> samples = [Sample("Hi!", "greeting"), Sample("Bye!", "greeting")]
>>> rewards.find("words")(samples, ["Good morning.", "Farewell."])
[3.0, 2.0]

A function of texts is one too, and a reward is a function of texts:

>>> shout = rewards.as_reward(lambda prompts, responses: [float(r.isupper()) for r in responses])
>>> rewards.on_texts(shout)(["Hi!"], ["GOOD MORNING!"])
[1.0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.rewards.classifier import Classifier
    from trimtab.rewards.names import (
        REWARDS,
        OfTexts,
        Sum,
        as_reward,
        ask,
        find,
        on_texts,
        parse,
        spelled,
    )
    from trimtab.rewards.sentiment import RatedSentiment
    from trimtab.rewards.server import Server
    from trimtab.rewards.shipped import Toxicity
    from trimtab.rewards.similarity import Chrf, Rouge, SentenceEncoder, Similarity, encoder

__all__ = [
    "REWARDS",
    "Chrf",
    "Classifier",
    "OfTexts",
    "RatedSentiment",
    "Rouge",
    "SentenceEncoder",
    "Server",
    "Similarity",
    "Sum",
    "Toxicity",
    "as_reward",
    "ask",
    "encoder",
    "find",
    "on_texts",
    "parse",
    "spelled",
]

__getattr__, __dir__ = door(__name__)
