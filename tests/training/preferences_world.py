"""Bases with chat templates, and preferences made by hand, that the tests of preferences share."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import trimtab as tt
from tests import toys
from trimtab.types import Group, Prompt, Response

CHATML = (
    "w1{% for m in messages %} {{ m['role'] }} {{ m['content'] }} w0{% endfor %}"
    "{% if add_generation_prompt %} assistant{% endif %}"
)
"""EOS is w0, BOS w1, and role names are unknown words."""


@cache
def chat_model(template: str | None = CHATML) -> tt.TransformersLM:
    """The tiny base with a chat template of words."""
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = template
    return tt.TransformersLM(toys.causal_lm(), tokenizer)


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation that the user begins."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def transcript(*texts: str) -> str:
    """The same as HH writes it."""
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[i % 2]}: {text}" for i, text in enumerate(texts))


def scored(
    *scores: float | None, reward: str = "joy", prompt: tuple[int, ...] = (5, 6), topic: str = "t"
) -> Group:
    """A group whose i-th response is the token 10 + i, with these rewards."""
    rewards: list[Mapping[str, Any]] = [{} if s is None else {reward: s} for s in scores]
    responses = (Response((10 + i, 0), f"w{10 + i}", rewards=r) for i, r in enumerate(rewards))
    return Group(Prompt(prompt, topic), tuple(responses), topic)


def pair(chosen: str, rejected: str, prompt: tuple[int, ...] = (5, 6), topic: str = "t") -> Group:
    """A preference in the toys' words, by their numbers: "7 8"."""
    sides = (
        Response((*map(int, text.split()), 0), text, rewards={"preference": reward})
        for text, reward in ((chosen, 1.0), (rejected, 0.0))
    )
    return Group(Prompt(prompt, topic), tuple(sides), topic)
