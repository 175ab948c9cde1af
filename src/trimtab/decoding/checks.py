"""What must hold of a call before the first token, said before any work is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.decoding.methods import METHODS, Method
from trimtab.errors import IncompatibleError, PromptError, UsageError, check_whole
from trimtab.protocols import Bounded, Guide, LanguageModel
from trimtab.types import Prompt, PromptLike, Samples, TopK

log = logging.getLogger("trimtab")

Beta: TypeAlias = float | Sequence[float] | Float[Tensor, "..."]
"""A strength: one number for all prompts, or one per prompt."""


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


def check_is_method(method: object) -> None:
    """Raise a `UsageError` for a method's name, or whatever else is no `Method`."""
    if not isinstance(method, Method):
        guess = method if isinstance(method, str) and method in METHODS else "vas"
        raise UsageError(
            "the method must be a Method, after base and guide",
            got=f"{method!r:.60}",
            do=f'write tt.method("{guess}") or tt.{guess.replace("-", "_")}()',
        )


def check_parts(lm: object, guide: object, method: object) -> None:
    """Raise a `UsageError` unless a base, a guide and a method stand where they should."""
    check_is_method(method)
    if isinstance(guide, Method) or not isinstance(guide, Guide | None):
        swapped = isinstance(guide, LanguageModel) and isinstance(lm, Guide)
        raise UsageError(
            "the guide must be a guide (see trimtab.protocols.Guide), or None",
            got=f"{guide!r:.60}",
            do="pass the base first, then the guide" if swapped else "pass a guide",
        )
    if not isinstance(lm, LanguageModel):
        raise UsageError(
            "the base must be a language model (see trimtab.protocols.LanguageModel)",
            got=f"{lm!r:.60}",
            do="open one with tt.TransformersLM(name)",
        )


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
    check_parts(lm, guide, method)
    check_whole("max_new_tokens", max_new_tokens, 1)
    check_whole("n", n, 1)
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
    context = shared_context(lm, guide if method.guided else None)
    for i, prompt in enumerate(prompts):
        check_ids(i, prompt, lm.vocab.size)
        check_length(i, prompt, context)
        if isinstance(method.proposal, Samples):
            check_room(i, prompt, max_new_tokens, context)


class SharedContext(NamedTuple):
    """How long a prompt and its response may be together.

    Attributes:
        tokens: at most; None if unlimited.
        said: whose that is, and how many, for errors.
        of_guide: whether it is the guide's.
    """

    tokens: int | None
    said: str
    of_guide: bool


def shared_context(lm: LanguageModel[Any], guide: Guide[Any] | None) -> SharedContext:
    """The shorter one of the contexts of a base and of a guide that reads its ids."""
    theirs = guide.context if guide is not None and isinstance(guide, Bounded) else None
    if guide is None or theirs is None or (lm.context is not None and lm.context <= theirs):
        return SharedContext(lm.context, f"the model's context of {lm.context} tokens", False)
    base = "unlimited" if lm.context is None else f"{lm.context}"
    said = f"the context of guide {guide.name!r} of {theirs} tokens (the model's: {base})"
    return SharedContext(theirs, said, True)


def warn_of_context(context: SharedContext, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    """Say in the log that a guide's context may end responses before their budget does."""
    most = max(len(prompt.ids) for prompt in prompts) + max_new_tokens
    if context.of_guide and context.tokens is not None and most > context.tokens:
        log.warning(
            "responses end at %s: the longest prompt and max_new_tokens=%d would be %d",
            context.said,
            max_new_tokens,
            most,
        )


def check_ids(index: int, prompt: Prompt, size: int) -> None:
    """Raise `PromptError` for ids that the base has no tokens for."""
    odd = [i for i in prompt.ids if not 0 <= i < size]
    if odd:
        raise PromptError(
            f"the ids of prompt {index} must be from 0 to {size - 1}, the model's vocabulary",
            got=f"{odd[0]}",
            do="encode it with the model's own tokenizer",
        )


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


def check_length(index: int, prompt: Prompt, context: SharedContext) -> None:
    """Raise `PromptError` for a prompt that leaves no room for an answer."""
    if not prompt.ids:
        raise PromptError(f"prompt {index} must not be empty", got="no tokens", do="write one")
    if context.tokens is not None and len(prompt.ids) >= context.tokens:
        raise PromptError(
            f"prompt {index} must be shorter than {context.said}",
            got=f"{len(prompt.ids)} tokens",
            do="shorten it",
        )


def check_room(index: int, prompt: Prompt, max_new_tokens: int, context: SharedContext) -> None:
    """Raise `PromptError` where sampled blocks would be cut by the context.

    All rows draw blocks of one length, so a row short of room would shorten its batch-mates'.
    """
    if context.tokens is None:
        return
    room = context.tokens - len(prompt.ids)
    if max_new_tokens > room:
        raise PromptError(
            f"methods over sampled blocks need room for all {max_new_tokens} new tokens within "
            f"{context.said}",
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


def per_prompt(value: Beta, prompts: int) -> float | Float[Tensor, "B 1"]:
    """A strength as a float for all rows, or as a column with one entry per prompt."""
    found = strengths(value)
    if isinstance(found, Tensor) and len(found) != prompts:
        raise UsageError(
            f"beta must be one number, or one per prompt ({prompts})",
            got=f"{len(found)} numbers",
            do="pass as many as there are prompts",
        )
    return found


def strengths(value: Beta) -> float | Float[Tensor, "P 1"]:
    """Finite strengths: one as a float, several as a column."""
    given: Any = value
    try:
        column = torch.as_tensor(given, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            "beta must be one number, or one per prompt", got=f"{given!r:.60}", do="pass numbers"
        ) from error
    if not bool(torch.isfinite(column.float()).all()):
        raise UsageError(
            "beta must be finite, also in float32", got=f"{given!r:.60}", do="pass a number"
        )
    if column.ndim == 0:
        return float(column)
    return column.float().reshape(-1, 1)
