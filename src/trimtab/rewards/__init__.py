"""Rewards by name: each judges finished texts, `(samples, responses) -> one score each`.

A reward is one small file and a line in `names`; that is all that else knows it. `sums` adds them,
`texts` stands between them and functions of plain texts, `asking` has one asked so that a text
which fails costs only itself.
"""

from __future__ import annotations

from trimtab.protocols import Reward
from trimtab.rewards.asking import ask
from trimtab.rewards.names import REWARDS, named
from trimtab.rewards.sums import Sum, parse
from trimtab.rewards.texts import as_reward, on_texts

__all__ = ["REWARDS", "Sum", "as_reward", "ask", "on_texts", "reward"]


def reward(name: str) -> Reward:
    """Returns the reward of that name.

    Args:
        name: one of `REWARDS`; a function of yours, `python:package.module:function` or
            `python:path/to/file.py:function`; a reward model of transformers, `hf:FOLDER` or
            `hf:HUB/ID`, with `#LABEL` where it has several; a server, `http://HOST/PATH`; or a
            weighted sum of such names, as in `0.7*sentiment - 0.01*length`, where a sign between
            terms stands between blanks (see `trimtab.rewards.sums`).

    Raises:
        UnknownNameError: there is none; near names are offered.
    """
    found = parse(name)
    if found is None:
        return named(name.strip())
    _ = found.rewards  # a name that is not known is said now
    return found
