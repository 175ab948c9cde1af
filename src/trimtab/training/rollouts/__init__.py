"""Rollouts: what the base policy, or any method, answers, as groups that guides are trained on.

`collect` decodes and rewards, `relabel` adds a reward to what is there, `collect_values` makes a
validation set of values. Each may be killed at any moment, and goes on where it stopped.
"""

from __future__ import annotations

from trimtab.training.rollouts.collect import collect, relabel
from trimtab.training.rollouts.prompts import Source, find_prompts, find_responses
from trimtab.training.rollouts.together import rank_of
from trimtab.training.rollouts.values import collect_values
from trimtab.training.rollouts.work import OnProgress, Progress

__all__ = [
    "OnProgress",
    "Progress",
    "Source",
    "collect",
    "collect_values",
    "find_prompts",
    "find_responses",
    "rank_of",
    "relabel",
]
