"""Which reward a name means. Nothing is imported, and no model read, before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from trimtab.errors import UnknownNameError, public
from trimtab.plugins import load_object
from trimtab.protocols import Reward
from trimtab.rewards.texts import as_reward

REWARDS: dict[str, str] = {
    "brevity": "length:brevity",
    "chrf": "chrf:chrf",
    "conciseness": "length:conciseness",
    "exact": "exact:exact",
    "formality": "formality:formality",
    "length": "length:length",
    "profanity": "profanity:cleanliness",
    "rated-sentiment": "rated:rated_sentiment",
    "readability": "readability:readability",
    "rouge": "rouge:rouge",
    "sentiment": "sentiment:sentiment",
    "similarity": "similarity:similarity",
    "similarity-to-reference": "similarity:similarity_to_reference",
    "valence": "sentiment:valence",
    "toxicity": "toxicity:nontoxicity",
    "words": "length:words",
}
"""`module:attribute` by name."""

OTHERS = "python:FILE.py:FUNCTION, hf:MODEL, http://HOST/PATH, or a sum: 'sentiment - 0.1*words'"
"""What else a reward may be called."""


def named(name: str) -> Reward:
    """The reward of one name, which is no sum.

    Raises:
        UnknownNameError: there is none; near names are offered.
        UsageError: `python:`, `hf:` or `http:` with something that cannot be meant.
    """
    kind, _, rest = name.partition(":")
    if kind == "python":
        return as_reward(load_object(name, "a reward"))
    if kind == "hf":
        from trimtab.rewards.classifier import Classifier

        return Classifier.named(rest)
    if kind in ("http", "https"):
        from trimtab.rewards.server import Server

        return Server.named(name)
    if name not in REWARDS:
        raise UnknownNameError("a reward", public(name), REWARDS, do=f"or {OTHERS}")
    module, _, attribute = REWARDS[name].partition(":")
    return cast("Reward", getattr(import_module(f"trimtab.rewards.{module}"), attribute))
