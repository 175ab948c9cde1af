"""What must hold of a call before its first token, said before any work is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.decoding.methods import METHODS, Method
from trimtab.errors import IncompatibleError, PromptError, UsageError, check_whole
from trimtab.protocols import Bounded, Guide, LanguageModel, OffersStates, ReadsStates
from trimtab.types import Prompt, PromptLike, Samples, TopK

log = logging.getLogger("trimtab")

Beta: TypeAlias = float | Sequence[float] | Float[Tensor, "..."]
"""A strength: one number for all prompts, or one per prompt."""


# --- the parts of a call -------------------------------------------------------------------------


def encode_all(lm: LanguageModel[Any], prompts: Iterable[PromptLike]) -> list[Prompt]:
    """Every prompt as ids; they may come from a generator."""
    given: Any = prompts
    must, wrong = "prompts must be a list of prompts", ""
    if isinstance(given, str | bytes | Prompt | Mapping):
        wrong = "a single one"
    elif not isinstance(given, Iterable):
        wrong = type(given).__name__
    if wrong:
        raise UsageError(must, got=wrong, do="put it in a list: [prompt]")
    each: list[Any] = list(given)
    if any(isinstance(prompt, Mapping) for prompt in each):
        raise UsageError(must, got="a single conversation", do="put it in a list: [messages]")
    for i, prompt in enumerate(each):
        if not isinstance(prompt, str | Prompt | Sequence) or isinstance(prompt, bytes):
            raise PromptError(
                f"prompt {i} must be a text, a conversation or a Prompt",
                got=f"{type(prompt).__name__}",
                do="pass Prompt(ids) for token ids",
            )
    return [lm.encode(prompt) for prompt in each]


def stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    """The strings that end a response; one alone may stand without a list."""
    strings: tuple[Any, ...] = (stop,) if isinstance(stop, str) else tuple(stop)
    for string in strings:
        if not isinstance(string, str) or not string:
            raise UsageError(
                "stop strings must be texts of at least one character",
                got=f"{string!r}",
                do="leave it out, or pass a text",
            )
    return strings


def strengths(beta: Beta, prompts: int | None = None) -> float | Float[Tensor, "P 1"]:
    """Finite strengths as a user may write them: one as a float, several as a column."""
    given: Any = beta
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
    column = column.float().reshape(-1, 1)
    if prompts is not None and len(column) != prompts:
        raise UsageError(
            f"beta must be one number, or one per prompt ({prompts})",
            got=f"{len(column)} numbers",
            do="pass as many as there are prompts",
        )
    return column


def samples_drawn(drawn: Sequence[int] | None, prompts: int) -> Sequence[int]:
    """For each prompt the samples that were drawn before; none where nothing is said."""
    if drawn is None:
        return [0] * prompts
    if len(drawn) != prompts or any(before < 0 for before in drawn):
        raise UsageError(
            f"drawn must be one count for each of {prompts} prompts",
            got=repr(drawn),
            do="pass how many samples of each there are already",
        )
    return drawn


def check_is_method(method: object) -> None:
    """Refuse a method's name, or whatever else is no `Method`."""
    if not isinstance(method, Method):
        guess = method if isinstance(method, str) and method in METHODS else "vas"
        raise UsageError(
            "the method must be a Method, after base and guide",
            got=f"{method!r:.60}",
            do=f'write tt.method("{guess}") or tt.{guess.replace("-", "_")}()',
        )


def check_parts(lm: object, guide: object, method: object) -> None:
    """Refuse anything but a base, a guide and a method, in this order."""
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


# --- whether they fit together -------------------------------------------------------------------


def check_call(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    method: Method,
    prompts: Sequence[Prompt],
    n: int,
    max_new_tokens: int,
    stop_at_eos: bool = True,
    first_prompt: int = 0,
) -> list[int]:
    """Refuse what does not fit together; how many new tokens each prompt has room for.

    Errors number prompts from `first_prompt`.
    """
    check_parts(lm, guide, method)
    check_whole("max_new_tokens", max_new_tokens, 1)
    check_whole("n", n, 1)
    if guide is None and method.guided:
        raise UsageError(
            f"method {method.name!r} needs a guide", got="none", do="pass a guide or a reward"
        )
    blocks = isinstance(method.proposal, Samples)
    if blocks and not stop_at_eos:
        raise IncompatibleError(
            "sampled blocks end at EOS", got="stop_at_eos=False", do="use a token-wise method"
        )
    if isinstance(method.proposal, TopK):
        check_k(method.proposal.k, lm.vocab.size)
    if guide is not None and guide.vocab is not None and not guide.vocab.reads(lm.vocab):
        raise IncompatibleError(
            f"guide {guide.name!r} must read the base's token ids",
            got=f"vocabulary {guide.vocab} for a base with {lm.vocab}",
            do="use a guide made for this base, or wrap it as a TextGuide, which reads text",
        )
    layers = guide.state_layers if guide is not None and isinstance(guide, ReadsStates) else None
    if guide is not None and layers and not isinstance(lm, OffersStates):
        raise IncompatibleError(
            f"guide {guide.name!r} reads hidden states of the base",
            got=f"{type(lm).__name__}, which hands out none",
            do="use a TransformersLM, or a guide that reads ids or text",
        )
    return _budgets(
        lm, guide if method.guided else None, prompts, max_new_tokens, blocks, first_prompt
    )


def check_k(k: int, vocabulary: int) -> None:
    """Refuse more candidates than there are tokens."""
    if k > vocabulary:
        raise UsageError(
            f"k must be at most the vocabulary's {vocabulary} tokens", got=f"k = {k}", do="lower k"
        )


def _shared_context(lm: LanguageModel[Any], guide: Guide[Any] | None) -> tuple[int | None, str]:
    """Most tokens of prompt and response together, None if unlimited; and whose context that is.

    The base's, or that of a guide that reads its ids where it is the shorter one.
    """
    tokens = guide.context if guide is not None and isinstance(guide, Bounded) else None
    if guide is None or tokens is None or (lm.context is not None and lm.context <= tokens):
        return lm.context, f"the model's context of {lm.context} tokens"
    base = "unlimited" if lm.context is None else f"{lm.context}"
    return tokens, f"the context of guide {guide.name!r} of {tokens} tokens (the model's: {base})"


def _budgets(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    prompts: Sequence[Prompt],
    most: int,
    blocks: bool,
    first_prompt: int,
) -> list[int]:
    """For each prompt the new tokens for which the context leaves room, at most `most`."""
    context, whose = _shared_context(lm, guide)
    for number, prompt in enumerate(prompts, first_prompt):
        _check_prompt(number, prompt, lm.vocab.size, context, whose)
    if context is None or not prompts:
        return [most] * len(prompts)
    budgets = [min(most, context - len(prompt.ids)) for prompt in prompts]
    least = min(budgets)
    longest = context - least
    if blocks and least < most:  # all rows draw blocks of one length, so this one shortens them all
        raise PromptError(
            f"methods over sampled blocks need room for all {most} new tokens within {whose}",
            got=f"prompt {first_prompt + budgets.index(least)} of {longest} tokens",
            do=f"shorten it, or pass max_new_tokens={least}",
        )
    if least < most and context != lm.context:
        log.warning(
            "responses end at %s: the longest prompt and max_new_tokens=%d would be %d",
            whose,
            most,
            longest + most,
        )
    return budgets


def _check_prompt(
    number: int, prompt: Prompt, vocabulary: int, context: int | None, whose: str
) -> None:
    """Refuse a prompt that a base cannot read, or not go on from."""
    if not prompt.ids:
        raise PromptError(f"prompt {number} must not be empty", got="no tokens", do="write one")
    odd = [i for i in prompt.ids if not 0 <= i < vocabulary]
    if odd:
        raise PromptError(
            f"the ids of prompt {number} must be from 0 to {vocabulary - 1}, the model's "
            "vocabulary",
            got=f"{odd[0]}",
            do="encode it with the model's own tokenizer",
        )
    if context is not None and len(prompt.ids) >= context:
        raise PromptError(
            f"prompt {number} must be shorter than {whose}",
            got=f"{len(prompt.ids)} tokens",
            do="shorten it",
        )
