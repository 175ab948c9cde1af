"""Several guides as one: a weighted sum, whose weights may differ from prompt to prompt.

Legend: B rows, K candidates, L tokens of a candidate, P parts, R some rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.step import check_scores
from trimtab.errors import IncompatibleError, UsageError
from trimtab.protocols import Bounded, Guide, ReadsStates
from trimtab.types import Candidates, Cost, Prompt, TotalCost, Vocab

Weight: TypeAlias = "float | Sequence[float] | Tensor"
"""One number for all prompts, or one per prompt (a sequence, or a tensor [B] or [B, 1])."""


@dataclass(frozen=True)
class SumState:
    """The weights of each row, and what each part has read of the rows that it has a weight for."""

    weights: Float[Tensor, "B P"]  # of each part, on the CPU
    parts: tuple[Any, ...]  # the parts' own states; None of a part that reads no row


@final
class WeightedSum:
    """score = sum_i w_i score_i: several rewards mixed at decoding time, per request.

    A row whose weight is 0 for a part is neither read nor scored by that part. Weights given per
    prompt follow their rows through forks, drops and joins.

    Args:
        parts: (weight, guide) pairs. A weight is a number, or one number per prompt, in the order
            of the prompts that are decoded.
        name: what errors and tables call it; None spells the sum out.

    Raises:
        UsageError: no parts, a weight that is not finite, or not as many weights as prompts.
        IncompatibleError: parts that read different vocabularies.

    >>> import trimtab as tt
    >>> lm = tt.TableLM(5)
    >>> short = tt.TextGuide(lambda prompts, texts: [-len(t) for t in texts], lm.decode)
    >>> vowels = tt.TextGuide(lambda prompts, texts: [t.count("a") for t in texts], lm.decode)
    >>> guide = tt.WeightedSum([(0.1, short), ([1.0, -1.0], vowels)])  # weights per prompt
    >>> method = tt.args(9.0, k=5)
    >>> [done.text for done in tt.decode(lm, guide, method, ["b", "b"], max_new_tokens=4)]
    ['aaaa', '']
    """

    def __init__(
        self, parts: Sequence[tuple[Weight, Guide[Any]]], *, name: str | None = None
    ) -> None:
        if not parts:
            raise UsageError("a sum must have parts", got="none", do="pass (weight, guide) pairs")
        self.weights = tuple(_numbers(weight, guide.name) for weight, guide in parts)
        self.guides = tuple(guide for _, guide in parts)
        self.vocab = _shared_vocab(self.guides)
        self.name = name or " + ".join(
            f"{w:g} {g.name}" if isinstance(w, float) else f"w {g.name}"
            for w, g in zip(self.weights, self.guides, strict=True)
        )

    @property
    def context(self) -> int | None:
        """The shortest of the parts'."""
        known = [guide.context for guide in self.guides if isinstance(guide, Bounded)]
        return min((tokens for tokens in known if tokens is not None), default=None)

    @property
    def state_layers(self) -> frozenset[int]:
        """The layers of the base whose states a part reads."""
        known = (guide.state_layers for guide in self.guides if isinstance(guide, ReadsStates))
        return frozenset[int]().union(*known)

    @property
    def cost(self) -> Cost:
        """Tokens read so far by all parts; a sum as it is now, so ask again later."""
        return TotalCost(guide.cost for guide in self.guides)

    def prefill(self, prompts: Sequence[Prompt]) -> SumState:
        """Each part reads the prompts that it has a weight for."""
        pairs = list(zip(self.weights, self.guides, strict=True))
        columns = [_per_row(weight, len(prompts), guide.name) for weight, guide in pairs]
        parts = []
        for column, guide in zip(columns, self.guides, strict=True):
            own = [prompt for prompt, weight in zip(prompts, column, strict=True) if weight]
            parts.append(guide.prefill(own) if own else None)
        return SumState(torch.tensor(columns, dtype=torch.float64).T, tuple(parts))

    def extend(
        self, state: SumState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> SumState:
        """Append tokens to each part's rows."""
        parts = []
        for guide, part, weights in zip(self.guides, state.parts, state.weights.T, strict=True):
            rows = _read_by(weights)
            read = part if part is None else guide.extend(part, tokens[rows], lengths[rows])
            parts.append(read)
        return SumState(state.weights, tuple(parts))

    def select(self, state: SumState, rows: Int[Tensor, "R"]) -> SumState:
        """Drop, reorder or fork rows."""
        parts = []
        for guide, part, weights in zip(self.guides, state.parts, state.weights.T, strict=True):
            reads = weights != 0
            place = reads.cumsum(0) - 1  # of each row among those that the part reads
            own = place[rows[reads[rows]]]
            parts.append(guide.select(part, own) if len(own) else None)
        return SumState(state.weights[rows], tuple(parts))

    def join(self, states: Sequence[SumState]) -> SumState:
        """Rows of several states side by side, each with its own weights."""
        parts = []
        for i, guide in enumerate(self.guides):
            read = [state.parts[i] for state in states if state.parts[i] is not None]
            parts.append(guide.join(read) if read else None)
        return SumState(torch.cat([state.weights for state in states]), tuple(parts))

    def score(self, state: SumState, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The weighted sum; rows that no part reads score 0."""
        total = torch.zeros_like(candidates.logprobs)
        for guide, part, weights in zip(self.guides, state.parts, state.weights.T, strict=True):
            if part is None:
                continue
            rows = _read_by(weights)
            own = candidates if isinstance(rows, slice) else candidates.select(rows)
            scores = check_scores(guide.name, guide.score(part, own), own)
            total[rows] += weights[rows, None].to(total) * scores.to(total)
        return total

    def __repr__(self) -> str:
        """The parts with their weights."""
        parts = ", ".join(f"({w!r}, {g!r})" for w, g in zip(self.weights, self.guides, strict=True))
        return f"WeightedSum([{parts}])"


def _numbers(weight: Weight, name: str) -> float | tuple[float, ...]:
    """A weight as plain numbers, which are finite."""
    if isinstance(weight, Tensor):
        weight = weight.reshape(-1).tolist() if weight.ndim else float(weight)
    numbers = float(weight) if isinstance(weight, int | float) else tuple(map(float, weight))
    if not all(map(math.isfinite, [numbers] if isinstance(numbers, float) else numbers)):
        raise UsageError(f"the weight of {name!r} must be finite", got=f"{weight}", do="mend it")
    return numbers


def _per_row(weights: float | tuple[float, ...], prompts: int, name: str) -> tuple[float, ...]:
    if isinstance(weights, float):
        return (weights,) * prompts
    if len(weights) != prompts:
        raise UsageError(
            f"the weight of {name!r} must be one number, or one per prompt ({prompts})",
            got=f"{len(weights)} numbers",
            do="pass as many as there are prompts",
        )
    return weights


def _read_by(weights: Float[Tensor, "B"]) -> slice | Int[Tensor, "R"]:
    """The rows that a part reads; all of them without asking for a copy."""
    rows = weights.nonzero()[:, 0]
    return slice(None) if len(rows) == len(weights) else rows


def _shared_vocab(guides: Sequence[Guide[Any]]) -> Vocab | None:
    """The vocabulary that all parts which read ids have in common."""
    known = [(g.name, g.vocab) for g in guides if g.vocab is not None]
    if not known:
        return None
    name, first = next(((n, v) for n, v in known if v.fingerprint), known[0])
    for other, vocab in known:
        if not vocab.same(first):
            raise IncompatibleError(
                "parts of a sum must read the same token ids",
                got=f"{name!r} with {first} and {other!r} with {vocab}",
                do="wrap one of them as a TextGuide, which reads text",
            )
    shared = [v for _, v in known if v.fingerprint == first.fingerprint]
    return min(shared, key=lambda vocab: vocab.size)  # all parts read these
