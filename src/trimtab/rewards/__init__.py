"""Rewards by name: each judges finished texts, `(prompts, responses) -> one score each`.

A reward is one small file; the list below is all that else knows it. Nothing is imported, and no
classifier read, before the reward is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from trimtab.errors import UnknownNameError
from trimtab.protocols import Reward
from trimtab.rewards.python import from_python

__all__ = ["REWARDS", "reward"]

REWARDS: dict[str, str] = {
    "brevity": "length:brevity",
    "conciseness": "length:conciseness",
    "profanity": "profanity:cleanliness",
    "rated-sentiment": "rated:rated_sentiment",
    "sentiment": "sentiment:sentiment",
    "similarity": "similarity:similarity",
    "toxicity": "toxicity:nontoxicity",
}
"""`module:attribute` by name."""


def reward(name: str) -> Reward:
    """Returns the reward of that name.

    Args:
        name: one of `REWARDS`, or a function of yours: `python:package.module:function` or
            `python:path/to/file.py:function`.

    Raises:
        UnknownNameError: there is none; near names are offered.
    """
    if name.startswith("python:"):
        return from_python(name.removeprefix("python:"))
    if name not in REWARDS:
        raise UnknownNameError("a reward", name, REWARDS, do="or python:file.py:function")
    module, _, attribute = REWARDS[name].partition(":")
    return cast("Reward", getattr(import_module(f"trimtab.rewards.{module}"), attribute))
