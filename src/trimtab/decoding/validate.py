"""What must hold of a call before its first token, said before any work is done."""

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


# --- the parts of a call -------------------------------------------------------------------------


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
    each: list[Any] = list(given)
    if any(isinstance(prompt, Mapping) for prompt in each):
        raise UsageError(
            "prompts must be a list of prompts",
            got="a single conversation",
            do="put it in a list: [messages]",
        )
    for i, prompt in enumerate(each):
        if not isinstance(prompt, str | Prompt | Sequence) or isinstance(prompt, bytes):
            raise PromptError(
                f"prompt {i} must be a text, a conversation or a Prompt",
                got=f"{type(prompt).__name__}",
                do="pass Prompt(ids) for token ids",
            )
    return [lm.encode(prompt) for prompt in each]


def stop_strings(stop: str | Sequence[str]) -> tuple[str, ...]:
    """The strings that end a response; one alone may stand without a list.

    Raises:
        UsageError: an empty one, which every text contains, or something that is no string.
    """
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
    """Finite strengths: one as a float, several as a column.

    Args:
        beta: as a user may write it.
        prompts: how many prompts there are, where that is known.

    Raises:
        UsageError: no finite numbers, or not as many as prompts.
    """
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


# --- whether they fit together -------------------------------------------------------------------


class SharedContext(NamedTuple):
    """How long a prompt and its response may be together.

    Attributes:
        tokens: at most; None if unlimited.
        message: whose that is, and how many, for errors.
        of_guide: whether it is the guide's.
    """

    tokens: int | None
    message: str
    of_guide: bool


def shared_context(lm: LanguageModel[Any], guide: Guide[Any] | None) -> SharedContext:
    """The shorter one of the contexts of a base and of a guide that reads its ids."""
    tokens = guide.context if guide is not None and isinstance(guide, Bounded) else None
    if guide is None or tokens is None or (lm.context is not None and lm.context <= tokens):
        return SharedContext(lm.context, f"the model's context of {lm.context} tokens", False)
    base = "unlimited" if lm.context is None else f"{lm.context}"
    message = f"the context of guide {guide.name!r} of {tokens} tokens (the model's: {base})"
    return SharedContext(tokens, message, True)


def warn_of_context(context: SharedContext, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    """Say in the log that a guide's context may end responses before their budget does."""
    most = max(len(prompt.ids) for prompt in prompts) + max_new_tokens
    if context.of_guide and context.tokens is not None and most > context.tokens:
        log.warning(
            "responses end at %s: the longest prompt and max_new_tokens=%d would be %d",
            context.message,
            max_new_tokens,
            most,
        )


def check_call(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    method: Method,
    prompts: Sequence[Prompt],
    n: int,
    max_new_tokens: int,
    stop_at_eos: bool,
    first_prompt: int = 0,
) -> None:
    """Raise a `UsageError` unless model, guide, method and prompts fit together.

    Args:
        lm: the base.
        guide: as passed to `decode`.
        method: the parts.
        prompts: encoded.
        n: responses per prompt.
        max_new_tokens: their budget.
        stop_at_eos: whether EOS ends a response.
        first_prompt: the number of the first prompt in errors.
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
    if guide is not None:
        check_vocab(lm, guide)
    context = shared_context(lm, guide if method.guided else None)
    for number, prompt in enumerate(prompts, first_prompt):
        check_prompt(number, prompt, lm.vocab.size, context, max_new_tokens if blocks else None)


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


def check_prompt(
    number: int, prompt: Prompt, vocabulary: int, context: SharedContext, room: int | None = None
) -> None:
    """Raise `PromptError` for a prompt that a base cannot read, or not go on from.

    Args:
        number: of the prompt, for the error.
        prompt: encoded.
        vocabulary: number of the base's token ids.
        context: how long prompt and response may be together.
        room: new tokens that must fit: all rows draw blocks of one length, so a row short of room
            would shorten its batch-mates'. None where one token is enough.
    """
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
    if context.tokens is None:
        return
    left = context.tokens - len(prompt.ids)
    if left < 1:
        raise PromptError(
            f"prompt {number} must be shorter than {context.message}",
            got=f"{len(prompt.ids)} tokens",
            do="shorten it",
        )
    if room is not None and room > left:
        raise PromptError(
            f"methods over sampled blocks need room for all {room} new tokens within "
            f"{context.message}",
            got=f"prompt {number} of {len(prompt.ids)} tokens",
            do=f"shorten it, or pass max_new_tokens={left}",
        )
