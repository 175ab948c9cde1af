"""Preferences of people, in the formats of TRL, as pairs of the base's token ids."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias, cast

import jinja2

from trimtab.errors import DataError, TemplateError, UsageError
from trimtab.models.transformers import TransformersLM
from trimtab.tasks.files import HubData, Row, mapped, rows_of
from trimtab.training.examples import KeptCounts
from trimtab.training.preferences.pairs import PREFERENCE, some_left
from trimtab.types import Group, Message, Prompt, Response

Source: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A file, `hub:DATASET[@SPLIT]`, or rows in memory."""

Asked: TypeAlias = str | tuple[Message, ...]
"""A prompt: text, or a conversation that ends before the answer."""

NO_PROMPT = "that share no prompt"
NOT_ITS_PARTS = "not prompt + response in tokens"
"""Why rows are left out."""


def read_preferences(source: Source, lm: TransformersLM) -> tuple[tuple[Group, ...], KeptCounts]:
    """Preferences, encoded for the base that will be guided.

    A row has `chosen` and `rejected`, and may have a `prompt`; all are texts, or all messages.
    Without a prompt, texts are split after the last "Assistant:" of a transcript, else after the
    words that both begin with, and conversations before their last message. Rows of one source are
    of one format. A `topic` decides the split; without one, the first thing that the user says.

    The ids of prompt and response are together those of the chat template on the whole
    conversation, up to the EOS that ends the turn. Without a template a response gets the
    tokenizer's EOS.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, .parquet), `hub:DATASET[@SPLIT]` (by the
            package `datasets`), or rows in memory.
        lm: the base: its template, its tokenizer, its EOS.

    Returns:
        Groups of two, the chosen response first, with the reward "preference" 1 and 0; and how
        many rows were left out: their two sides share no prompt, or the ids of prompt and response
        are not those of the whole, or the template refuses the conversation.

    Raises:
        PromptError: a row is malformed, or of another format than the first; the message names it.
        DataError: there are no rows, or none is left.
        UsageError: the source can't be read, or its kind is not known.
        FetchError: the dataset can't be had.
    """
    groups: list[Group] = []
    reasons = dict.fromkeys((NO_PROMPT, NOT_ITS_PARTS), 0)
    first = ""
    for row in map(uniform, preference_rows(source)):
        kind = format_of(row)
        first = first or kind
        if kind != first:
            raise row.error(f"every row must be {first}, as the first is", kind)
        parts = _of_texts(row) if isinstance(row.values["chosen"], str) else _of_messages(row)
        if parts is None:
            reasons[NO_PROMPT] += 1
            continue
        asked, chosen, rejected = parts
        topic = row.text("topic") if "topic" in row.values else opening(asked)
        group = encoded(lm, asked, chosen, rejected, topic)
        if group is None:
            reasons[NOT_ITS_PARTS] += 1
        else:
            groups.append(group)
    if not first:
        name = source if isinstance(source, str | Path) else "the source"
        raise DataError(f"{name} must hold preferences", got="no row", do="check the source")
    counts = KeptCounts("pairs", len(groups), reasons)
    return some_left(groups, counts), counts


# --- rows of any format that data sets use -------------------------------------------------------


def preference_rows(source: Source) -> Iterator[Row]:
    """The rows of a source, in its order; of a data set, its training split if it names none."""
    hub = HubData.parse(source)
    if hub is None:
        return rows_of(source) if isinstance(source, str | Path) else mapped(source, "row")
    if hub.column is not None:
        raise UsageError(
            "preferences have columns of fixed names", got=f"#{hub.column}", do="name no column"
        )
    return hub.rows(hub.split or "train")


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
    """Which format a uniform row is in, by TRL's name; a `PromptError` where it is in none."""
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


def _of_texts(row: Row) -> tuple[str, str, str] | None:
    """Prompt, chosen and rejected; None where the two sides share no prompt."""
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

    def ends_word(n: int) -> bool:
        return all(n == len(text) or text[n].isspace() for text in (one, other))

    n = sum(takewhile(bool, (a == b for a, b in zip(one, other, strict=False))))
    while n and not (one[n - 1].isspace() or ends_word(n)):
        n -= 1
    return n - 1 if n and one[n - 1] == " " else n


def _of_messages(row: Row) -> tuple[tuple[Message, ...], str, str] | None:
    """The same of a whole conversation on both sides, or of a prompt and one answer each."""
    (before, chosen), (other, rejected) = (_answered(row, side) for side in ("chosen", "rejected"))
    if before != other:
        return None
    if not before and "prompt" not in row.values:
        must = "a row must have a `prompt`, or whole conversations as `chosen` and `rejected`"
        raise row.error(must, "one answer on each side")
    if not before and isinstance(row.values["prompt"], str):
        return ({"role": "user", "content": row.text("prompt")},), chosen, rejected
    before = before or row.messages("prompt")
    if before[-1]["role"] == "assistant":
        raise row.error("the prompt must end before the assistant's turn", repr(before[-1])[:80])
    return before, chosen, rejected


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


def opening(prompt: Asked) -> str:
    """What a prompt is about: the first thing the user says, or all of a text.

    Dialogues of many turns are often in a data set once for every turn; by their opening they stay
    together.
    """
    if isinstance(prompt, str):
        return turns(prompt)[0]["content"] if is_transcript(prompt) else prompt
    said = [m["content"] for m in prompt if m["role"] == "user"]
    return said[0] if said else prompt[0]["content"]


# --- as token ids --------------------------------------------------------------------------------


def encoded(
    lm: TransformersLM, asked: Asked, chosen: str, rejected: str, topic: str
) -> Group | None:
    """The preference as a group; None where the template does not render it as its two parts.

    A base that reads conversations gets a transcript as one.
    """
    chat = lm.codec.template == "auto" and bool(lm.codec.tokenizer.chat_template)
    if chat and isinstance(asked, str) and is_transcript(asked):
        asked, chosen, rejected = turns(asked), chosen.strip(), rejected.strip()
    eos = lm.codec.tokenizer.eos_token
    responses = []
    try:
        prompt = lm.encode(asked)
        for text, reward in ((chosen, 1.0), (rejected, 0.0)):
            plain = text.removesuffix(eos) if isinstance(eos, str) else text
            ids = response_ids(lm, prompt, plain)
            if ids is None:
                return None
            responses.append(Response(ids, plain, rewards={PREFERENCE: reward}))
    # Turns do not alternate, or the template does not know a role.
    except (TemplateError, jinja2.TemplateError):
        return None
    return Group(prompt, tuple(responses), topic)


def response_ids(lm: TransformersLM, prompt: Prompt, text: str) -> tuple[int, ...] | None:
    """The ids that follow the prompt's, up to and with the EOS that ends the turn.

    None where prompt and response are not the whole: the template writes the history anew once it
    is answered, tokens merge across the border, or the text has an EOS inside.
    """
    tokenizer, n = lm.codec.tokenizer, len(prompt.ids)
    if prompt.messages is not None:
        answered = [*map(dict, prompt.messages), {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(answered, tokenize=True, return_dict=False)
        whole = tuple(cast("list[int]", ids))
    else:
        whole = lm.codec.encode((prompt.text or "") + text).ids
    tail = whole[n:]
    if whole[:n] != prompt.ids:
        if prompt.messages is not None:
            return None
        # Not the text alone at once: SentencePiece would begin it with a space of its own.
        tail = tuple(tokenizer.encode(text, add_special_tokens=False))
        if lm.codec.decode(prompt.ids + tail) != lm.codec.decode(whole):
            return None
    ends = [i for i, token in enumerate(tail) if token in lm.eos_ids]
    if not ends:
        own = tokenizer.eos_token_id
        last = own if own in lm.eos_ids else min(lm.eos_ids, default=None)
        return tail if last is None else (*tail, cast("int", last))
    rest = lm.codec.decode(tail[ends[0] + 1 :])  # some templates write a line break after EOS
    return tail[: ends[0] + 1] if len(ends) == 1 and not rest.strip() else None
