"""Preferences of people, in the formats of TRL, as pairs of the base's token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import jinja2

from trimtab.errors import DataError, TemplateError, UsageError
from trimtab.models.transformers import Codec
from trimtab.tasks.files import HubData, Row, mapped, rows_of
from trimtab.training.examples import KeptCounts
from trimtab.training.preferences.formats import Preference, format_of, preference, uniform
from trimtab.training.preferences.pairs import PREFERENCE, some_left
from trimtab.types import Group, Prompt, PromptLike, Response

Source: TypeAlias = str | Path | Iterable[Mapping[str, Any]]
"""A file, `hub:DATASET[@SPLIT]`, or rows in memory."""

NO_PROMPT = "that share no prompt"
NOT_ITS_PARTS = "not prompt + response in tokens"
"""Why rows are left out."""


@runtime_checkable
class Base(Protocol):
    """What is asked of the base: its tokenizer, and which tokens end a response."""

    @property
    def codec(self) -> Codec:
        """Its tokenizer and chat template."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """The tokens that end a response."""
        ...

    def encode(self, prompt: PromptLike) -> Prompt:
        """Text or a conversation as token ids."""
        ...


def read_preferences(source: Source, lm: Base) -> tuple[tuple[Group, ...], KeptCounts]:
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
    first, chat = "", reads_chat(lm)
    for row in map(uniform, preference_rows(source)):
        kind = format_of(row)
        first = first or kind
        if kind != first:
            raise row.error(f"every row must be {first}, as the first is", kind)
        pair = preference(row, chat=chat)
        group = None if pair is None else group_of(pair, lm)
        if group is not None:
            groups.append(group)
        else:
            reasons[NO_PROMPT if pair is None else NOT_ITS_PARTS] += 1
    if not first:
        name = source if isinstance(source, str | Path) else "the source"
        raise DataError(f"{name} must hold preferences", got="no row", do="check the source")
    counts = KeptCounts("pairs", len(groups), reasons)
    return some_left(groups, counts), counts


def preference_rows(source: Source) -> Iterator[Row]:
    """The rows of a source, in its order; of a data set, its training split if it names none.

    Raises:
        PromptError: a line is no row.
        UsageError: the source can't be read, or is of no known kind.
        FetchError: the data set can't be had.
    """
    hub = HubData.parse(source)
    if hub is None:
        return rows_of(source) if isinstance(source, str | Path) else mapped(source, "row")
    if hub.column is not None:
        raise UsageError(
            "preferences have columns of fixed names", got=f"#{hub.column}", do="name no column"
        )
    return hub.rows(hub.split or "train")


# --- as token ids --------------------------------------------------------------------------------


def reads_chat(lm: Base) -> bool:
    """Whether prompts go into a chat template."""
    return lm.codec.template == "auto" and bool(lm.codec.tokenizer.chat_template)


def group_of(pair: Preference, lm: Base) -> Group | None:
    """The preference as a group; None where the template does not render it as its two parts."""
    try:
        prompt = lm.encode(pair.prompt)
        chosen = _response(lm, prompt, pair.chosen, 1.0)
        rejected = _response(lm, prompt, pair.rejected, 0.0)
    # Turns do not alternate, or the template does not know a role.
    except (TemplateError, jinja2.TemplateError):
        return None
    if chosen is None or rejected is None:
        return None
    return Group(prompt, (chosen, rejected), pair.topic)


def _response(lm: Base, prompt: Prompt, text: str, reward: float) -> Response | None:
    eos = lm.codec.tokenizer.eos_token
    text = text.removesuffix(eos) if isinstance(eos, str) else text
    ids = response_ids(lm, prompt, text)
    return None if ids is None else Response(ids, text, rewards={PREFERENCE: reward})


def response_ids(lm: Base, prompt: Prompt, text: str) -> tuple[int, ...] | None:
    """The ids that follow the prompt's, up to and with the EOS that ends the turn.

    Args:
        lm: the base.
        prompt: encoded by it.
        text: the response.

    Returns:
        None where prompt and response are not the whole: the template writes the history anew once
        it is answered, tokens merge across the border, or the text has an EOS inside.
    """
    tail = _after_text(lm, prompt, text) if prompt.messages is None else _turn(lm, prompt, text)
    return None if tail is None else _ended(lm, tail)


def _turn(lm: Base, prompt: Prompt, text: str) -> tuple[int, ...] | None:
    """What the template writes after the prompt; some templates write a line break after EOS."""
    answered = [*map(dict, prompt.messages or ()), {"role": "assistant", "content": text}]
    ids = lm.codec.tokenizer.apply_chat_template(answered, tokenize=True, return_dict=False)
    return _after(prompt.ids, tuple(cast("list[int]", ids)))


def _after_text(lm: Base, prompt: Prompt, text: str) -> tuple[int, ...] | None:
    """Without a template: what follows in the whole text, else the text alone if it decodes so.

    Not the text alone at once: SentencePiece would begin it with a space of its own.
    """
    whole = lm.codec.encode((prompt.text or "") + text).ids
    tail = _after(prompt.ids, whole)
    if tail is not None:
        return tail
    alone = tuple(lm.codec.tokenizer.encode(text, add_special_tokens=False))
    same = lm.codec.decode(prompt.ids + alone) == lm.codec.decode(whole)
    return alone if same else None


def _after(prompt: tuple[int, ...], whole: tuple[int, ...]) -> tuple[int, ...] | None:
    return whole[len(prompt) :] if whole[: len(prompt)] == prompt else None


def _ended(lm: Base, tail: tuple[int, ...]) -> tuple[int, ...] | None:
    """The tail up to its one EOS; the tokenizer's is added where the template writes none."""
    ends = [i for i, token in enumerate(tail) if token in lm.eos_ids]
    if not ends:
        own = lm.codec.tokenizer.eos_token_id
        last = own if own in lm.eos_ids else min(lm.eos_ids, default=None)
        return tail if last is None else (*tail, cast("int", last))
    rest = lm.codec.decode(tail[ends[0] + 1 :])
    return tail[: ends[0] + 1] if len(ends) == 1 and not rest.strip() else None
