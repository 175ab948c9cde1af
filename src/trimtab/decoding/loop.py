"""The one decode loop: from prompts to tokens, for every method, model and guide.

Legend: B rows, K candidates, L tokens of a candidate.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, cast

import torch
from torch import Tensor

from trimtab.decoding.checks import (
    Beta,
    check_call,
    check_drawn,
    check_parts,
    encode_all,
    per_prompt,
    shared_context,
    stop_strings,
    warn_of_context,
)
from trimtab.decoding.faults import Faults
from trimtab.decoding.methods import Method
from trimtab.decoding.rows import Meter, Rows
from trimtab.decoding.step import InFlight, check_scores, choose_step
from trimtab.decoding.unguided import Unguided
from trimtab.errors import check_keywords, check_whole, check_word
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Completion, Prompt, PromptLike, Proposal, Samples, Step

OnGuideError: TypeAlias = Literal["raise", "base"]


@torch.inference_mode()
def decode_steps(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    method: Method,
    prompts: Iterable[PromptLike],
    *,
    max_new_tokens: int = 128,
    n: int = 1,
    beta: Beta | None = None,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    stop_at_eos: bool = True,
    alternatives: int = 0,
    on_guide_error: OnGuideError = "raise",
    lookahead: int | None = None,
    drawn: Sequence[int] | None = None,
) -> Iterator[Step]:
    """Stream a decode: one `Step` per row and turn of the loop.

    Args:
        lm: the base model.
        guide: scores prefixes; None for methods that need none.
        method: the parts, e.g. `vas(beta=2.0)`.
        prompts: texts, conversations or encoded prompts; a list, or whatever gives them in turn.
        max_new_tokens: token budget of each response, EOS included. The base's context ends a
            response as well, and so does that of a guide of ids where it is the shorter one.
        n: responses per prompt, forked from one reading of it.
        beta: strength for all rows, or one per prompt; None for the method's own.
        seed: with the prompt itself and the sample's number, decides every draw.
        stop: strings that end a response, or one; they are cut from its text.
        stop_at_eos: False lets responses go on after EOS, to the token budget.
        alternatives: how many of the likeliest candidates each step carries.
        on_guide_error: what a NaN or inf score does: "raise", or "base" to let the base policy
            choose that row's token while the other rows go on guided.
        lookahead: steps that the host may run behind the device, so that reading a token never
            waits for the step in flight; None is 0 on the CPU and 1 elsewhere. The texts are the
            same; a finished row is read up to this many tokens too far.
        drawn: for each prompt the samples that earlier calls have drawn; their draws are not made
            again, so that many prompts, or samples, in parts are what they are in one call.

    Raises:
        UsageError: the call cannot be meant (see `trimtab.errors`).
        GuideError: a score is not finite, or overflows with its strength, and `on_guide_error` is
            "raise".
        ModelError: the base's logits are not finite.
        LawError: the method's rule or sampler makes no distribution.
    """
    check_word("on_guide_error", on_guide_error, OnGuideError)
    check_parts(lm, guide, method)
    seed = check_whole("seed", seed)
    check_whole("alternatives", alternatives, 0)
    stops = stop_strings(stop)
    encoded = encode_all(lm, prompts)
    if not encoded:
        return
    check_call(lm, guide, method, encoded, n, max_new_tokens, stop_at_eos)
    reader = cast("Guide[Any]", guide if method.guided else Unguided())
    if lookahead is None:
        lookahead = int(lm.device.type != "cpu")
    lookahead = check_whole("lookahead", lookahead, 0)
    context = shared_context(lm, guide if method.guided else None)
    warn_of_context(context, encoded, max_new_tokens)
    rows = Rows(lm, encoded, n, max_new_tokens, stops, stop_at_eos, context.tokens)
    strength = per_prompt(method.beta if beta is None else beta, len(encoded))
    if isinstance(strength, Tensor):
        strength = strength[rows.fork]
        betas = strength[:, 0].tolist()
        strength = strength.to(lm.device)
    else:
        betas = [strength] * len(rows.live)
    faults = Faults(lm, reader.name, method, betas, on_guide_error == "base")
    rng = rows.rng(seed, lm.device, check_drawn(drawn, len(encoded)))
    base, aux = lm.prefill(encoded), reader.prefill(encoded)
    if n > 1:
        base, aux = lm.select(base, rows.fork), reader.select(aux, rows.fork)
    meter = Meter(lm, reader)
    in_flight: deque[tuple[list[int], InFlight, tuple[float, ...]]] = deque()
    while rows.live:
        with meter.counting():
            candidates = lm.propose(base, _within(method.proposal, rows.room), rng)
            scores = check_scores(reader.name, reader.score(aux, candidates), candidates)
            step = choose_step(lm, base, method, candidates, scores, strength, rng, alternatives)
        tokens, lengths = step.tokens, step.lengths
        at = rows.dispatch(candidates.tokens.shape[-1])
        in_flight.append((at, InFlight(step), meter.shares(len(at))))
        if len(in_flight) > lookahead:
            at, waiting, shares = in_flight.popleft()
            yield from rows.read(at, waiting.wait(), shares, faults)
        keep = rows.drop_finished()
        if not rows.live:
            break
        rng = rng.advance(lengths)
        with meter.counting():
            if keep is not None:
                base, aux, rng = lm.select(base, keep), reader.select(aux, keep), rng.select(keep)
                there = keep.to(tokens.device)
                tokens, lengths = tokens[there], lengths[there]
                strength = strength[there] if isinstance(strength, Tensor) else strength
            base, aux = lm.extend(base, tokens, lengths), reader.extend(aux, tokens, lengths)
    for at, waiting, shares in in_flight:
        yield from rows.read(at, waiting.wait(), shares, faults)


def _within(proposal: Proposal, room: int) -> Proposal:
    """Blocks no longer than the tokens that are left; other proposals as they are."""
    return proposal.within(room) if isinstance(proposal, Samples) else proposal


class DecodeOptions(TypedDict, total=False):
    """The keyword arguments of `decode_steps`, which `decode` hands on."""

    max_new_tokens: int
    n: int
    beta: Beta | None
    seed: int
    stop: str | Sequence[str]
    stop_at_eos: bool
    alternatives: int
    on_guide_error: OnGuideError
    lookahead: int | None
    drawn: Sequence[int] | None


def decode(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    method: Method,
    prompts: Iterable[PromptLike],
    *,
    on_step: Callable[[Step], object] | None = None,
    **options: Unpack[DecodeOptions],
) -> list[Completion]:
    """Decode to the end.

    Args:
        lm: the base model.
        guide: scores prefixes; None for methods that need none.
        method: the parts, e.g. `vas(beta=2.0)`.
        prompts: texts, conversations or encoded prompts.
        on_step: called with each step as it comes (progress bars).
        **options: as in `decode_steps`.

    Returns:
        Completions in prompt-major order: all n of the first prompt, then of the second.
    """
    check_keywords("decode", options, (*DecodeOptions.__annotations__, "on_step"))
    check_parts(lm, guide, method)
    n = options.get("n", 1)
    encoded = encode_all(lm, prompts)
    steps: dict[int, list[Step]] = defaultdict(list)
    for step in decode_steps(lm, guide, method, encoded, **options):
        steps[step.row].append(step)
        if on_step is not None:
            on_step(step)
    return [completion(encoded[row // n], row % n, steps[row]) for row in sorted(steps)]


def completion(prompt: Prompt, sample: int, steps: Sequence[Step]) -> Completion:
    """A row's steps, gathered."""
    finish = steps[-1].finish
    assert finish is not None, "the loop sets a reason on every row's last step"
    return Completion(
        prompt=prompt,
        sample=sample,
        text="".join(step.text for step in steps),
        tokens=tuple(token for step in steps for token in step.tokens),
        finish=finish,
        steps=tuple(steps),
    )
