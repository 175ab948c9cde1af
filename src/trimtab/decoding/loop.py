"""The one decode loop: from prompts to tokens, for every method, model and guide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

import torch

from trimtab.decoding.checks import (
    Beta,
    check_call,
    check_parts,
    encode_all,
    samples_drawn,
    stop_strings,
    strengths,
)
from trimtab.decoding.methods import Method, sampling
from trimtab.decoding.rows import Meter, Rows, StepCheck, Trace
from trimtab.decoding.step import States, choose_step, prefill, tilt_candidates
from trimtab.errors import check_keywords, check_whole, check_word
from trimtab.protocols import Guide, LanguageModel
from trimtab.rng import Rng
from trimtab.types import Candidates, Completion, Prompt, PromptLike, Samples, Step, pad_ids

OnGuideError: TypeAlias = Literal["raise", "base"]


def run(states: States, rows: Rows, method: Method, alternatives: int = 0) -> Iterator[Step]:
    """The loop: propose, score, tilt, choose, extend, until no row goes on.

    `states` is the device's side of the rows, and consumed; `rows` is the host's.
    """
    lm, meter = states.lm, Meter(states.lm, states.guide)
    while rows.live:
        with meter.counting():
            candidates = lm.propose(states.base, rows.within(method.proposal), states.rng)
            scores = states.score(candidates)
            policy = tilt_candidates(method, candidates, scores, states.beta)
            step = choose_step(lm, states.base, method, policy, states.rng, alternatives)
        yield from rows.dispatch(step, meter.shares(len(rows.live)))
        keep = rows.drop_finished()
        if rows.live:
            with meter.counting():
                states = states.extend(step, keep)
    yield from rows.drain()


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
    first_prompt: int


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
    first_prompt: int = 0,
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
        first_prompt: the number of the first prompt in errors, where these are a part of many.

    Raises:
        UsageError: the call cannot be meant (see `trimtab.errors`).
        GuideError: a score is not finite, or overflows with its strength, and `on_guide_error` is
            "raise".
        ModelError: the base's logits are not finite.
        LawError: the method's rule or sampler makes no distribution.

    >>> import trimtab as tt
    >>> lm = tt.TableLM()
    >>> [step.text for step in tt.decode_steps(lm, None, tt.greedy(), ["ab"], max_new_tokens=3)]
    ['c', 'b', 'c']
    """
    check_word("on_guide_error", on_guide_error, OnGuideError)
    check_parts(lm, guide, method)
    seed = check_whole("seed", seed)
    check_whole("alternatives", alternatives, 0)
    if lookahead is not None:
        check_whole("lookahead", lookahead, 0)
    stops = stop_strings(stop)
    encoded = encode_all(lm, prompts)
    if not encoded:
        return
    budgets = check_call(lm, guide, method, encoded, n, max_new_tokens, stop_at_eos, first_prompt)
    guide = guide if method.guided else None
    # The device's side: what base and guide have read.
    beta = strengths(method.beta if beta is None else beta, len(encoded))
    states = prefill(lm, guide, encoded, n, beta, seed, samples_drawn(drawn, len(encoded)))
    # The host's side: texts, budgets, ends.
    eos_ids = lm.eos_ids if stop_at_eos else frozenset[int]()
    traces = [Trace(lm.decode, eos_ids, budget, stops) for budget in budgets for _ in range(n)]
    check = StepCheck(lm, guide, method, beta, n, on_guide_error == "base", first_prompt)
    rows = Rows(traces, usual_lookahead(lm) if lookahead is None else lookahead, check)
    yield from run(states, rows, method, alternatives)


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

    >>> import trimtab as tt
    >>> lm = tt.TableLM()
    >>> guide = tt.TextGuide(lambda samples, texts: [text.count("d") for text in texts], lm.decode)
    >>> done = tt.decode(lm, guide, tt.args(beta=9, k=4), ["ab", "c"], max_new_tokens=8)
    >>> [response.text for response in done]
    ['dadddddd', 'ddddddcd']
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
    """A row's steps as one response."""
    finish = steps[-1].finish
    assert finish is not None, "the loop sets a reason on every row's last step"
    text = "".join(step.text for step in steps)
    tokens = tuple(token for step in steps for token in step.tokens)
    return Completion(prompt, sample, text, tokens, finish, tuple(steps))


def draw_blocks(lm: LanguageModel[Any], forked: Any, proposal: Samples, rng: Rng) -> Candidates:
    """n continuations of each row, drawn from pi_ref by the loop.

    What a model that can propose its `Vocabulary` proposes for `Samples`.

    Args:
        lm: the base.
        forked: its state with n copies of every row, side by side; consumed.
        proposal: with a length.
        rng: the rows' addresses before they were forked.
    """
    assert proposal.length is not None, "the loop sets the length to what is left"
    count, n = len(rng.keys), proposal.n
    traces = [Trace(None, lm.eos_ids, proposal.length) for _ in range(count * n)]
    rows, logprobs = Rows(traces, usual_lookahead(lm)), [0.0] * len(traces)
    for step in run(States(lm, None, forked, None, 0.0, rng.fork(n)), rows, sampling()):
        logprobs[step.row] += step.logprob
    device = rng.keys.device
    tokens, lengths = pad_ids([trace.tokens for trace in traces], device=device)
    ends = torch.tensor([trace.finish == "eos" for trace in traces], device=device)
    return Candidates(
        tokens.view(count, n, -1),
        torch.tensor(logprobs, dtype=torch.float32, device=device).view(count, n),
        lengths.view(count, n),
        ends.view(count, n),
    )


def usual_lookahead(lm: LanguageModel[Any]) -> int:
    """Steps that the host may run behind the device: none on the CPU, where nothing would wait."""
    return int(lm.device.type != "cpu")
