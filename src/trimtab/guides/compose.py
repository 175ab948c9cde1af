"""Several guides as one: a weighted sum, whose weights may differ from prompt to prompt.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.step import check_scores
from trimtab.errors import IncompatibleError, UsageError
from trimtab.protocols import Bounded, Guide
from trimtab.types import Candidates, Cost, Prompt, TotalCost, Vocab

Weight: TypeAlias = "float | Sequence[float] | Tensor"
"""One number for all prompts, or one per prompt (a sequence, or a tensor [B] or [B, 1])."""


@dataclass(frozen=True)
class PartState:
    """What one part of a sum has read.

    Attributes:
        state: the part's own state, one row per entry of `rows`; None where there are none.
        rows: which rows of the sum it reads, ascending.
        weights: their weights; none is zero.
    """

    state: Any
    rows: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class SumState:
    """How many rows a sum has, and what each of its parts has read of them."""

    size: int
    parts: tuple[PartState, ...]


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
    def cost(self) -> Cost:
        """Tokens read so far by all parts; a sum as it is now, so ask again later."""
        return TotalCost(guide.cost for guide in self.guides)

    def prefill(self, prompts: Sequence[Prompt]) -> SumState:
        """Each part reads the prompts that it has a weight for."""
        parts = []
        for weight, guide in zip(self.weights, self.guides, strict=True):
            weights = _per_row(weight, len(prompts), guide.name)
            rows = tuple(row for row, w in enumerate(weights) if w != 0)
            state = guide.prefill([prompts[row] for row in rows]) if rows else None
            parts.append(PartState(state, rows, tuple(weights[row] for row in rows)))
        return SumState(len(prompts), tuple(parts))

    def extend(
        self, state: SumState, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> SumState:
        """Append tokens to each part's rows."""
        parts = []
        for guide, part in zip(self.guides, state.parts, strict=True):
            read = part.state
            if part.rows:
                rows = _index(part.rows, state.size, tokens.device)
                read = guide.extend(read, tokens[rows], lengths[rows])
            parts.append(replace(part, state=read))
        return SumState(state.size, tuple(parts))

    def select(self, state: SumState, rows: Int[Tensor, "R"]) -> SumState:
        """Drop, reorder or fork rows."""
        wanted = rows.tolist()
        parts = []
        for guide, part in zip(self.guides, state.parts, strict=True):
            place = {row: i for i, row in enumerate(part.rows)}
            kept = tuple(new for new, row in enumerate(wanted) if row in place)
            inner = [place[wanted[new]] for new in kept]
            read = guide.select(part.state, torch.tensor(inner)) if inner else None
            parts.append(PartState(read, kept, tuple(part.weights[i] for i in inner)))
        return SumState(len(wanted), tuple(parts))

    def join(self, states: Sequence[SumState]) -> SumState:
        """Rows of several states side by side, each with its own weights."""
        starts = list(accumulate((state.size for state in states), initial=0))
        parts = []
        for i, guide in enumerate(self.guides):
            placed = [(start, s.parts[i]) for start, s in zip(starts, states, strict=False)]
            read = [part.state for _, part in placed if part.rows]
            rows = tuple(start + row for start, part in placed for row in part.rows)
            weights = tuple(weight for _, part in placed for weight in part.weights)
            parts.append(PartState(guide.join(read) if read else None, rows, weights))
        return SumState(starts[-1], tuple(parts))

    def score(self, state: SumState, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The weighted sum; rows that no part reads score 0."""
        total = torch.zeros_like(candidates.logprobs)
        for guide, part in zip(self.guides, state.parts, strict=True):
            if not part.rows:
                continue
            whole = len(part.rows) == state.size
            own = candidates if whole else candidates.select(torch.tensor(part.rows))
            scores = check_scores(guide.name, guide.score(part.state, own), own)
            rows = _index(part.rows, state.size, total.device)
            total[rows] += _column(part.weights, total.device) * scores.to(total)
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


def _index(rows: tuple[int, ...], size: int, device: torch.device) -> slice | Int[Tensor, "R"]:
    """What picks some rows out of all; all of them without asking for a copy."""
    return slice(None) if len(rows) == size else torch.tensor(rows, device=device)


def _column(weights: tuple[float, ...], device: torch.device) -> float | Float[Tensor, "R 1"]:
    """Weights to multiply scores by; a plain number where all are the same."""
    if len(set(weights)) == 1:
        return weights[0]
    return torch.tensor(weights, device=device)[:, None]


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
