"""A preference as the base's ids: prompt, then response, exactly as the base would read them."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import jinja2

from trimtab.errors import TemplateError
from trimtab.models.text import Codec
from trimtab.training.preferences.formats import Preference
from trimtab.types import Group, Prompt, PromptLike, Response

REWARD = "preference"
"""The reward of a preference: 1 for the chosen response, 0 for the rejected one."""


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


def reads_chat(lm: Base) -> bool:
    """Whether prompts go into a chat template."""
    return lm.codec.template == "auto" and bool(lm.codec.tokenizer.chat_template)


def group_of(found: Preference, lm: Base) -> Group | None:
    """The preference as a group; None where the template does not render it as its two parts."""
    try:
        prompt = lm.encode(found.prompt)
        responses = [
            _response(lm, prompt, found.chosen, 1.0),
            _response(lm, prompt, found.rejected, 0.0),
        ]
    except (
        TemplateError,
        jinja2.TemplateError,
    ):  # turns that do not alternate, a role that the template does not know
        return None
    whole = tuple(r for r in responses if r is not None)
    return Group(prompt, whole, found.topic) if len(whole) == 2 else None


def _response(lm: Base, prompt: Prompt, text: str, reward: float) -> Response | None:
    eos = lm.codec.tokenizer.eos_token
    text = text.removesuffix(eos) if isinstance(eos, str) else text
    ids = response_ids(lm, prompt, text)
    return None if ids is None else Response(ids, text, rewards={REWARD: reward})


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
