"""What a row of preferences says, in any of the formats that data sets use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from trimtab.tasks.files import Row
from trimtab.types import Message


@dataclass(frozen=True)
class Preference:
    """A prompt and two answers, the better one first.

    Attributes:
        prompt: text, or a conversation that ends before the answer.
        chosen: the text of the better answer.
        rejected: the text of the other.
        topic: what decides its split.
    """

    prompt: str | tuple[Message, ...]
    chosen: str
    rejected: str
    topic: str


def uniform(row: Row) -> Row:
    """The row with the columns and keys of TRL, whichever of its peers' it has.

    ShareGPT's `conversations` of `from` and `value` become messages, and one message stands for a
    list of one.
    """
    values = {k: v for k, v in row.values.items() if v is not None}
    if "prompt" not in values and "conversations" in values:
        values["prompt"] = values["conversations"]
    for column in ("prompt", "chosen", "rejected"):
        value = values.get(column)
        value = [value] if isinstance(value, Mapping) else value
        if isinstance(value, list):
            values[column] = [_message(turn) for turn in value]
    return Row(row.place, values)


_SHAREGPT = {"human": "user", "gpt": "assistant", "system": "system"}


def _message(turn: Any) -> Any:
    """A ShareGPT turn as a message; anything else as it is."""
    if isinstance(turn, Mapping) and "from" in turn and "role" not in turn:
        return {"role": _SHAREGPT.get(turn["from"], turn["from"]), "content": turn.get("value")}
    return turn


def format_of(row: Row) -> str:
    """Which format a uniform row is in.

    Raises:
        PromptError: it is in none.
    """
    values = row.values
    if missing := [c for c in ("chosen", "rejected") if c not in values]:
        names = ", ".join(map(str, values)) or "no column"
        raise row.error(f"a row must have `{'` and `'.join(missing)}`", names)
    both = (values["chosen"], values["rejected"])
    texts, lists = (all(isinstance(v, kind) for v in both) for kind in (str, list))
    if not (texts or lists):
        must = "`chosen` and `rejected` must both be texts, or both lists of messages"
        raise row.error(must, repr(both)[:80])
    name = "standard" if texts else "conversational"
    if "prompt" not in values:
        return f"{name} with implicit prompt"
    if texts and not isinstance(values["prompt"], str):
        must = "`prompt` must be a text where `chosen` and `rejected` are"
        raise row.error(must, repr(values["prompt"])[:80])
    return name


def preference(row: Row, *, chat: bool) -> Preference | None:
    """The preference of a uniform row; None where its two sides share no prompt.

    Args:
        row: of a known format.
        chat: whether the base reads conversations: then a transcript ("Human: ... Assistant:")
            becomes one.

    Raises:
        PromptError: it is malformed; the message names its place.
    """
    found = (_of_texts if isinstance(row.values["chosen"], str) else _of_messages)(row)
    if found is None:
        return None
    prompt, chosen, rejected = found
    topic = row.text("topic") if "topic" in row.values else opening(prompt)
    if chat and isinstance(prompt, str) and is_transcript(prompt):
        prompt, chosen, rejected = turns(prompt), chosen.strip(), rejected.strip()
    return Preference(prompt, chosen, rejected, topic)


def _of_texts(row: Row) -> tuple[str, str, str] | None:
    chosen, rejected = row.values["chosen"], row.values["rejected"]
    if "prompt" in row.values:
        return row.text("prompt"), chosen, rejected
    if ANSWER in chosen and ANSWER in rejected:
        cuts = [text.rindex(ANSWER) + len(ANSWER) for text in (chosen, rejected)]
    else:
        cuts = [_common(chosen, rejected)] * 2
    prompt = chosen[: cuts[0]]
    if prompt != rejected[: cuts[1]] or not prompt.strip():
        return None
    return prompt, chosen[cuts[0] :], rejected[cuts[1] :]


def _common(one: str, other: str) -> int:
    """The length of the longest common prefix of whole words; a space goes to the responses.

    Tokenizers keep a space with the word after it, so a prompt should not end in one.
    """
    alike = (a == b for a, b in zip(one, other, strict=False))
    n = sum(takewhile(bool, alike))
    while n and not (one[n - 1].isspace() or (_ends(one, n) and _ends(other, n))):
        n -= 1
    return n - 1 if n and one[n - 1] == " " else n


def _ends(text: str, n: int) -> bool:
    return n == len(text) or text[n].isspace()


def _of_messages(row: Row) -> tuple[tuple[Message, ...], str, str] | None:
    """A whole conversation on both sides, or a prompt and one answer each."""
    sides = [_answered(row, column) for column in ("chosen", "rejected")]
    (before, chosen), (other, rejected) = sides
    if before != other:
        return None
    before = before or _asked(row)
    if before[-1]["role"] == "assistant":
        raise row.error("the prompt must end before the assistant's turn", repr(before[-1])[:80])
    return before, chosen, rejected


def _asked(row: Row) -> tuple[Message, ...]:
    """The prompt of a row whose sides are one answer each."""
    if "prompt" not in row.values:
        must = "a row must have a `prompt`, or whole conversations as `chosen` and `rejected`"
        raise row.error(must, "one answer on each side")
    if isinstance(row.values["prompt"], str):
        return ({"role": "user", "content": row.text("prompt")},)
    return row.messages("prompt")


def _answered(row: Row, column: str) -> tuple[tuple[Message, ...], str]:
    """What comes before the last message, and that message, which must be the assistant's."""
    *before, last = row.values[column] or [None]
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise row.error(f"`{column}` must end with the assistant's message", repr(last)[:80])
    if not isinstance(last.get("content"), str):
        raise row.error("a message must have a text as content", repr(last)[:80])
    if not before:
        return (), last["content"]
    return Row(row.place, {column: before}).messages(column), last["content"]


# --- dialogues that are written as one text: "Human: ... Assistant: ...", as in HH ---------------

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
