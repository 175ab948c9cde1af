"""One turn of the loop for all rows: tilt pi_ref by the scores, choose, write the ledger, extend.

Everything stays on the model's device, and nothing here waits for it.

Legend: B rows, K candidates, L tokens of a candidate, N outcomes (K, or K + 1 with a tail),
M alternatives, P prompts, R some rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.decoding.methods import Method
from trimtab.errors import GuideError, LawError
from trimtab.protocols import Guide, LanguageModel, OffersStates, ReadsStates
from trimtab.rng import Rng, row_key
from trimtab.types import Candidates, Prompt, Samples

# --- what base and guide have read ---------------------------------------------------------------


@dataclass(frozen=True)
class States:
    """What the device holds of the live rows, in their order."""

    lm: LanguageModel[Any]
    guide: Guide[Any] | None  # where there is none, every score is zero and nothing is read
    base: Any  # the base's state
    aux: Any  # the guide's state
    beta: float | Float[Tensor, "B 1"]
    rng: Rng  # the address of each row's next draw

    def score(self, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The guide's scores of the candidates."""
        if self.guide is None:  # one number, seen from all places
            return candidates.logprobs.new_zeros(()).expand_as(candidates.logprobs)
        scores = self.guide.score(self.aux, candidates)
        return check_scores(self.guide.name, scores, candidates)

    def extend(self, step: BatchStep, keep: Int[Tensor, "R"] | None) -> States:
        """The rows that go on (positions on the CPU; None for all), each with what it chose."""
        tokens, lengths = step.tokens, step.lengths
        base, aux, beta, rng = self.base, self.aux, self.beta, self.rng.advance(lengths)
        if keep is not None:
            rows = keep.to(tokens.device)
            tokens, lengths, rng = tokens[rows], lengths[rows], rng.select(rows)
            beta = beta[rows] if isinstance(beta, Tensor) else beta
            base = self.lm.select(base, keep)
            aux = self.guide.select(aux, keep) if self.guide is not None else None
        base = self.lm.extend(base, tokens, lengths)
        aux = self.guide.extend(aux, tokens, lengths) if self.guide is not None else None
        return replace(self, base=base, aux=aux, beta=beta, rng=rng)


def prefill(
    lm: LanguageModel[Any],
    guide: Guide[Any] | None,
    prompts: Sequence[Prompt],
    n: int,
    beta: float | Float[Tensor, "P 1"],
    seed: int,
    drawn: Sequence[int],
) -> States:
    """Read every prompt once, and fork it into its n rows (prompt-major)."""
    layers = guide.state_layers if guide is not None and isinstance(guide, ReadsStates) else None
    if layers and isinstance(lm, OffersStates):
        lm = lm.offering(layers)
    base = lm.prefill(prompts)
    aux = guide.prefill(prompts) if guide is not None else None
    fork = torch.arange(len(prompts)).repeat_interleave(n)
    if n > 1:
        base = lm.select(base, fork)
        aux = guide.select(aux, fork) if guide is not None else None
    if isinstance(beta, Tensor):
        beta = beta[fork].to(lm.device)
    keys = torch.tensor(_row_keys(prompts, n, drawn), dtype=torch.int64, device=lm.device)
    return States(lm, guide, base, aux, beta, Rng(seed, keys, torch.zeros_like(keys)))


def _row_keys(prompts: Sequence[Prompt], n: int, drawn: Sequence[int]) -> list[int]:
    """The random key of every row; where a prompt occurs again, its rows count as more samples."""
    samples: Counter[tuple[int, ...]] = Counter()
    keys: list[int] = []
    for prompt, before in zip(prompts, drawn, strict=True):
        first = before + samples[prompt.ids]
        keys += [row_key(prompt.ids, sample) for sample in range(first, first + n)]
        samples[prompt.ids] += n
    return keys


# --- tilt ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """log pi of every outcome, beside what it was made of (nats).

    The outcomes are the K candidates and, where the tail is one, the tail.
    """

    candidates: Candidates
    reference: Float[Tensor, "B N"]  # log pi_ref
    scores: Float[Tensor, "B N"]
    logprobs: Float[Tensor, "B N"]  # log pi; `reference` itself where the method leaves it as it is
    fault: Float[Tensor, "B"]  # see `BatchStep`


def tilt_candidates(
    method: Method,
    candidates: Candidates,
    scores: Float[Tensor, "B K"],
    beta: float | Float[Tensor, "B 1"],
) -> Policy:
    """log pi = sampler.logprobs(rule(log pi_ref, scores, beta)) over candidates and tail."""
    fault = torch.zeros_like(candidates.logprobs[:, 0])
    if method.guided:
        scores, fault = finite_or_base(scores, beta)
    reference, scores = outcomes(candidates, scores, method.sampler.greedy)
    logits = method.rule(reference, scores, beta)
    if logits is reference and method.lossless:
        return Policy(candidates, reference, scores, reference, fault)
    given: object = logits
    if not isinstance(given, Tensor) or given.shape != reference.shape:
        raise LawError(
            f"the rule of method {method.name!r} must return logits of shape [B, N] = "
            f"{list(reference.shape)}",
            got=f"{list(given.shape) if isinstance(given, Tensor) else type(given).__name__}",
            do="try it with trimtab.testing.check_rule",
        )
    return Policy(candidates, reference, scores, method.sampler.logprobs(logits), fault)


def check_scores(name: str, scores: Tensor, candidates: Candidates) -> Float[Tensor, "B K"]:
    """A guide's scores in float32 or better; a `GuideError` unless there is one per candidate."""
    given: object = scores
    want = candidates.logprobs.shape
    real = isinstance(given, Tensor) and not given.is_complex()
    if not isinstance(given, Tensor) or not real or given.shape != want:
        shape = f"{list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise GuideError(
            f"guide {name!r} must return scores of shape [B, K] = {list(want)}",
            got=shape if real else f"{shape} of {getattr(given, 'dtype', 'no tensor')}",
            do="return one score per candidate",
        )
    # Counts are scores too; and half precision would overflow where it meets the strength.
    return given.to(torch.promote_types(given.dtype, torch.float32))


def finite_or_base(
    scores: Float[Tensor, "B K"], beta: float | Float[Tensor, "B 1"]
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B"]]:
    """Scores with every row that fails set to zero, and the rows' faults (see `BatchStep`).

    A row fails if it holds NaN or inf, or would where it is multiplied by its strength.
    """
    most = scores.abs().amax(dim=-1, keepdim=True)
    failed = ~torch.isfinite(most * beta)
    fault = torch.where(failed, most, 0.0)[:, 0]
    return scores.masked_fill(failed, 0.0), fault


def outcomes(
    candidates: Candidates, scores: Float[Tensor, "B K"], greedy: bool
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """log pi_ref and score of every outcome.

    Greedy decoding asks for the best single token, so there the tail stands for its best token and
    not for its mass.
    """
    if candidates.tail is None:
        return candidates.logprobs, scores
    tail = candidates.tail.best_logprob if greedy else candidates.tail.logprob
    return (
        torch.cat([candidates.logprobs, tail[:, None]], dim=-1),
        torch.cat([scores, mean_score(candidates, scores)], dim=-1),
    )


def mean_score(candidates: Candidates, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B 1"]:
    """The tail's score: the plain mean over the candidates (VAS, Eq. 5: mean_k V).

    Over those that pi_ref may choose: a place that it left empty is no candidate, and what the
    guide says there must not tell on the tail.
    """
    possible = candidates.possible
    total = torch.where(possible, scores, 0.0).sum(dim=-1, keepdim=True)
    return total / possible.sum(dim=-1, keepdim=True).clamp(min=1)


# --- choose --------------------------------------------------------------------------------------


class StepRow(NamedTuple):
    """One row of a `BatchStep` in plain numbers."""

    tokens: tuple[int, ...]
    logprob: float
    ref_logprob: float
    score: float
    kl: float
    fault: float
    alternatives: list[list[float]]


@dataclass(frozen=True)
class BatchStep:
    """What every row chose, with its ledger.

    A `fault` is 0, or the size of the guide's largest score, which is not finite or overflows with
    the strength; zero was put in the place of all. Rows of `alternatives` are token, log pi_ref,
    score and log pi, the likeliest first; in float64 so that ids stay exact.
    """

    tokens: Int[Tensor, "B L"]
    lengths: Int[Tensor, "B"]
    logprob: Float[Tensor, "B"]
    ref_logprob: Float[Tensor, "B"]  # NaN where the base's numbers are not finite
    score: Float[Tensor, "B"]
    kl: Float[Tensor, "B"]  # exact KL(pi || pi_ref); NaN where no closed form exists
    fault: Float[Tensor, "B"]
    alternatives: Float[Tensor, "B M 4"]

    def rows(self) -> Iterator[StepRow]:
        """Row by row; each column is brought over once."""
        columns = (getattr(self, f.name).tolist() for f in fields(self))
        for tokens, length, *rest in zip(*columns, strict=True):
            yield StepRow(tuple(tokens[:length]), *rest)


def choose_step(
    lm: LanguageModel[Any],
    base: Any,
    method: Method,
    policy: Policy,
    rng: Rng,
    alternatives: int = 0,
) -> BatchStep:
    """Choose one outcome per row by the method's sampler, and account for it."""
    candidates, index = policy.candidates, method.sampler.choose(policy.logprobs, rng)
    logprob = policy.logprobs.gather(1, index[:, None])[:, 0]
    ref_logprob = policy.reference.gather(1, index[:, None])[:, 0]
    score = policy.scores.gather(1, index[:, None])[:, 0]
    count = candidates.tokens.shape[1]
    tokens, lengths = candidates.take(index.clamp(max=count - 1))
    if candidates.tail is not None:
        outside = index == count
        token, inside = _from_tail(lm, base, candidates, outside, method.sampler.greedy, rng)
        # Inside the tail pi is pi_ref times one factor: what the tail as a whole has gained.
        gained = logprob - ref_logprob
        tokens = torch.where(outside[:, None], token[:, None], tokens)
        logprob = torch.where(outside, inside + gained, logprob)
        ref_logprob = torch.where(outside, inside, ref_logprob)
    if policy.logprobs is not policy.reference:  # else NaN is in the choice itself
        lost = ~torch.isfinite(policy.reference.amax(dim=-1))
        ref_logprob = ref_logprob.masked_fill(lost, torch.nan)
    kl = kl_divergence(policy.logprobs, policy.reference)
    if isinstance(method.proposal, Samples):
        # The distribution over given samples is not that over responses: no closed form.
        kl = torch.full_like(kl, torch.nan)
    shown = _alternatives(policy, alternatives)
    return BatchStep(tokens, lengths, logprob, ref_logprob, score, kl, policy.fault, shown)


def kl_divergence(
    logprobs: Float[Tensor, "B N"], reference: Float[Tensor, "B N"]
) -> Float[Tensor, "B"]:
    """KL(pi || pi_ref) = sum_v pi(v) (log pi(v) - log pi_ref(v)), in nats.

    Exact although only N outcomes are known: inside a tail pi is proportional to pi_ref, so the
    tail's terms sum to one term of its masses, and a dropped tail has pi = 0.
    """
    if logprobs is reference:
        return torch.zeros_like(logprobs[:, 0])
    terms = logprobs.exp() * (logprobs - reference)
    # No divergence is negative; a rounding error below zero is zero.
    return torch.where(torch.isneginf(logprobs), 0.0, terms).sum(dim=-1).clamp(min=0.0)


def _from_tail(
    lm: LanguageModel[Any],
    base: Any,
    candidates: Candidates,
    outside: Bool[Tensor, "B"],
    greedy: bool,
    rng: Rng,
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """The tail's token of each row and its log pi_ref; rows that need none get any."""
    tail = candidates.tail
    assert tail is not None
    # On the CPU the answer costs nothing and saves the draw; on an accelerator asking would wait.
    if greedy or (outside.device.type == "cpu" and not bool(outside.any())):
        return tail.best_token, tail.best_logprob
    return lm.draw_tail(base, candidates, rng)


def _alternatives(policy: Policy, most: int) -> Float[Tensor, "B M 4"]:
    """The likeliest single-token candidates under pi."""
    candidates, logprobs = policy.candidates, policy.logprobs
    rows, k, length = candidates.shape
    most = min(most, k) if length == 1 else 0
    if not most:
        return logprobs.new_zeros(rows, 0, 4, dtype=torch.float64)
    reference, scores, logprobs = policy.reference[:, :k], policy.scores[:, :k], logprobs[:, :k]
    # Ties, as among the -inf of a point mass, go to the likelier under pi_ref.
    rank = torch.where(torch.isneginf(logprobs), reference - 1e4, logprobs)
    top = rank.topk(most, dim=-1).indices
    columns = (candidates.tokens[:, :, 0], reference, scores, logprobs)
    return torch.stack([column.gather(1, top).to(torch.float64) for column in columns], dim=-1)
