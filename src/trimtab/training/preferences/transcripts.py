"""Dialogues that are written as one text: "Human: ... Assistant: ...", as in HH."""

from __future__ import annotations

import re

from trimtab.types import Message

ANSWER = "\n\nAssistant:"
"""What opens the assistant's turn."""

_ROLES = {"Human": "user", "Assistant": "assistant"}
_TURN = re.compile(r"\n\n(Human|Assistant):")


def is_transcript(text: str) -> bool:
    """Whether it begins with the human's turn and ends where the assistant's begins."""
    return text.lstrip().startswith("Human:") and text.rstrip().endswith(ANSWER)


def turns(text: str) -> tuple[Message, ...]:
    r"""The conversation of a transcript, without the turn that it ends with.

    >>> turns("\n\nHuman: Hi!\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:")[1]
    {'role': 'assistant', 'content': 'Hello.'}
    """
    _, *parts = _TURN.split("\n\n" + text.strip())
    said = zip(parts[::2], parts[1::2], strict=True)
    messages = tuple({"role": _ROLES[who], "content": what.strip()} for who, what in said)
    return messages[:-1]


def opening(prompt: str | tuple[Message, ...]) -> str:
    """What a prompt is about: the first thing the user says, or all of a text.

    Dialogues of many turns are often in a data set once for every turn; by their opening they stay
    together.
    """
    if isinstance(prompt, str):
        return turns(prompt)[0]["content"] if is_transcript(prompt) else prompt
    said = [m["content"] for m in prompt if m["role"] == "user"]
    return said[0] if said else prompt[0]["content"]
