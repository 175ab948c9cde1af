"""What must hold of a call before the first token, said before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.decoding.methods import Method
from trimtab.errors import IncompatibleError, PromptError, UsageError
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Prompt, PromptLike, Samples, TopK


def encode_all(lm: LanguageModel[Any], prompts: Iterable[PromptLike]) -> list[Prompt]:
    """Every prompt as ids; they may come from a generator.

    Raises:
        UsageError: one prompt where a list of them is meant: its letters would be the prompts.
        PromptError: something among them that is no prompt.
    """
    given: Any = prompts
    single = isinstance(given, str | bytes | Prompt | Mapping)
    if single or not isinstance(given, Iterable):
        raise UsageError(
            "prompts must be a list of prompts",
            got="a single one" if single else type(given).__name__,
            do="put it in a list: [prompt]",
        )
    found: list[Any] = list(given)
    if any(isinstance(prompt, Mapping) for prompt in found):
        raise UsageError(
            "prompts must be a list of prompts",
            got="a single conversation",
            do="put it in a list: [messages]",
        )
    for i, prompt in enumerate(found):
        if not isinstance(prompt, str | Prompt | Sequence) or isinstance(prompt, bytes):
            raise PromptError(
                f"prompt {i} must be a text, a conversation or a Prompt",
                got=f"{type(prompt).__name__}",
                do="pass Prompt(ids) for token ids",
            )
    return [lm.encode(prompt) for prompt in found]


def stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    """The strings that end a response; one alone may stand without a list.

    Raises:
        UsageError: an empty one, which every text contains, or something that is no string.
    """
    found: tuple[Any, ...] = (stop,) if isinstance(stop, str) else tuple(stop)
    for one in found:
        if not isinstance(one, str) or not one:
            raise UsageError(
                "stop strings must be texts of at least one character",
                got=f"{one!r}",
                do="leave it out, or pass a text",
            )
    return found


def check_call(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    method: Method,
    prompts: Sequence[Prompt],
    n: int,
    max_new_tokens: int,
    stop_at_eos: bool,
) -> None:
    """Raise a `UsageError` unless model, guide, method and prompts fit together."""
    for name, value in (("max_new_tokens", max_new_tokens), ("n", n)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1", got=f"{value}", do="raise it")
    if guide is None and method.guided:
        raise UsageError(
            f"method {method.name!r} needs a guide", got="none", do="pass a guide or a reward"
        )
    if not stop_at_eos and isinstance(method.proposal, Samples):
        raise IncompatibleError(
            "sampled blocks end at EOS", got="stop_at_eos=False", do="use a token-wise method"
        )
    if isinstance(method.proposal, TopK):
        check_k(method.proposal.k, lm.vocab.size)
    if guide is not None:
        check_vocab(lm, guide)
    for i, prompt in enumerate(prompts):
        check_length(i, prompt, lm.context)
        if isinstance(method.proposal, Samples):
            check_room(i, prompt, max_new_tokens, lm.context)


def check_k(k: int, vocabulary: int) -> None:
    """Raise `UsageError` for more candidates than there are tokens."""
    if k > vocabulary:
        raise UsageError(
            f"k must be at most the vocabulary's {vocabulary} tokens", got=f"k = {k}", do="lower k"
        )


def check_vocab(lm: LanguageModel[Any], guide: Guide[Any]) -> None:
    """Raise `IncompatibleError` when a guide that reads ids does not share the base's tokens."""
    if guide.vocab is not None and not guide.vocab.reads(lm.vocab):
        raise IncompatibleError(
            f"guide {guide.name!r} must read the base's token ids",
            got=f"vocabulary {guide.vocab} for a base with {lm.vocab}",
            do="use a guide made for this base, or wrap it as a TextGuide, which reads text",
        )


def check_length(index: int, prompt: Prompt, context: int | None) -> None:
    """Raise `PromptError` for a prompt that leaves no room for an answer."""
    if not prompt.ids:
        raise PromptError(f"prompt {index} must not be empty", got="no tokens", do="write one")
    if context is not None and len(prompt.ids) >= context:
        raise PromptError(
            f"prompt {index} must be shorter than the model's context of {context} tokens",
            got=f"{len(prompt.ids)} tokens",
            do="shorten it",
        )


def check_room(index: int, prompt: Prompt, max_new_tokens: int, context: int | None) -> None:
    """Raise `PromptError` where sampled blocks would be cut by the context.

    All rows draw blocks of one length, so a row short of room would shorten its batch-mates'.
    """
    room = max_new_tokens if context is None else context - len(prompt.ids)
    if max_new_tokens > room:
        raise PromptError(
            f"methods over sampled blocks need room for all {max_new_tokens} new tokens within "
            f"the model's context of {context}",
            got=f"prompt {index} of {len(prompt.ids)} tokens",
            do=f"shorten it, or pass max_new_tokens={room}",
        )


def check_drawn(drawn: Sequence[int] | None, prompts: int) -> Sequence[int]:
    """For each prompt the samples that were drawn before; none where nothing is said.

    Raises:
        UsageError: not one count for each prompt.
    """
    if drawn is None:
        return [0] * prompts
    if len(drawn) != prompts or any(before < 0 for before in drawn):
        raise UsageError(
            f"drawn must be one count for each of {prompts} prompts",
            got=repr(drawn),
            do="pass how many samples of each there are already",
        )
    return drawn


def per_prompt(
    value: float | Sequence[float] | Tensor, prompts: int
) -> float | Float[Tensor, "B 1"]:
    """A strength as a float for all rows, or as a column with one entry per prompt."""
    column = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1)
    if not bool(torch.isfinite(column).all()):
        raise UsageError("beta must be finite", got=f"{value}", do="pass a number")
    if isinstance(value, int | float):
        return float(value)
    if len(column) != prompts:
        raise UsageError(
            f"beta must be one number, or one per prompt ({prompts})",
            got=f"{len(column)} numbers",
            do="pass as many as there are prompts",
        )
    return column
