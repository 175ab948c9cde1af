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

from trimtab.rewards.names import REWARDS, Sum, find, parse, spelled
from trimtab.rewards.texts import OfTexts, as_reward, ask, on_texts

__all__ = [
    "REWARDS",
    "OfTexts",
    "Sum",
    "as_reward",
    "ask",
    "find",
    "on_texts",
    "parse",
    "spelled",
]
