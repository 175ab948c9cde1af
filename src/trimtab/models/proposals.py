"""Candidates from the full law of the next token, and the exact toy: nothing but such laws.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.checks import check_k
from trimtab.decoding.loop import draw_blocks
from trimtab.errors import IncompatibleError, PromptError
from trimtab.rng import TAIL, Rng, draw
from trimtab.types import (
    Candidates,
    Cost,
    Prompt,
    PromptLike,
    Proposal,
    Samples,
    Tail,
    TopK,
    Vocab,
    Vocabulary,
    is_eos,
)


def _single(
    tokens: Int[Tensor, "B K"],
    logprobs: Float[Tensor, "B K"],
    eos_ids: frozenset[int],
    tail: Tail | None = None,
) -> Candidates:
    """Candidates of one token each."""
    return Candidates(
        tokens[:, :, None], logprobs, torch.ones_like(tokens), is_eos(tokens, eos_ids), tail
    )


def propose_tokens(
    logprobs: Float[Tensor, "B V"], proposal: TopK | Vocabulary, eos_ids: frozenset[int]
) -> Candidates:
    """Single tokens as candidates: the k likeliest, or all."""
    if isinstance(proposal, TopK):
        return top_k(logprobs, proposal, eos_ids)
    return everything(logprobs, eos_ids)


def everything(logprobs: Float[Tensor, "B V"], eos_ids: frozenset[int]) -> Candidates:
    """Every token, in id order."""
    # One row, seen from all: only the law differs between rows.
    tokens = torch.arange(logprobs.shape[1], device=logprobs.device)[None]
    lengths, ends = torch.ones_like(tokens), is_eos(tokens, eos_ids)
    shape = logprobs.shape
    return Candidates(
        tokens.expand(shape)[:, :, None], logprobs, lengths.expand(shape), ends.expand(shape)
    )


def top_k(logprobs: Float[Tensor, "B V"], proposal: TopK, eos_ids: frozenset[int]) -> Candidates:
    """The k likeliest tokens and, for `tail="mean"`, what is known of the rest."""
    k, size = proposal.k, logprobs.shape[1]
    check_k(k, size)
    if proposal.tail == "drop":
        top = logprobs.topk(k, dim=-1)
        return _single(top.indices, top.values, eos_ids)
    # One more than k: greedy decoding compares the best token outside.
    top = logprobs.topk(min(k + 1, size), dim=-1)
    inside = top.indices[:, :k]
    if k == size:
        nothing = torch.full_like(logprobs[:, 0], -torch.inf)
        tail = Tail(nothing, inside[:, 0], nothing)
    else:
        best = top.values[:, k]
        tail = Tail(mass_outside(logprobs, inside, best), top.indices[:, k], best)
    return _single(inside, top.values[:, :k], eos_ids, tail)


def mass_outside(
    logprobs: Float[Tensor, "B V"], inside: Int[Tensor, "B K"], best: Float[Tensor, "B"]
) -> Float[Tensor, "B"]:
    """log of the mass that lies outside some tokens: summed there, -inf where nothing is.

    One minus the mass inside would be a difference of rounded numbers: an empty tail would get
    1e-7, which a strong guide makes the likeliest outcome. Never below `best`, the likeliest token
    outside, so inside the tail no token is likelier than the tail.
    """
    weights = logprobs.sub(best[:, None]).exp_().scatter_(1, inside, 0.0)
    mass = weights.sum(dim=-1).log_().add_(best)
    return torch.where(torch.isneginf(best), best, mass)


def tail_draw(
    logprobs: Float[Tensor, "B V"], candidates: Candidates, rng: Rng
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """A draw from pi_ref restricted to the tokens that are no candidates, and its log pi_ref.

    Where the candidates hold all the mass, any token comes back: nobody can have chosen the tail.
    """
    outside = logprobs.scatter(1, candidates.tokens[:, :, 0], -torch.inf)
    empty = torch.isneginf(outside).all(dim=-1, keepdim=True)
    token = draw(torch.where(empty, logprobs, outside), rng.uniform(TAIL))
    return token, logprobs.gather(1, token[:, None])[:, 0]


# --- the exact toy -------------------------------------------------------------------------------

Rows: TypeAlias = list[tuple[int, ...]]
"""A row is the tuple of ids read so far."""


class TableLM:
    """Next-token laws drawn once per prefix from a seed; text is the letters a, b, c, ...

    Args:
        size: |V|; id 0 is EOS and prints as nothing.
        seed: decides the table.
        spread: standard deviation of the logits (nats); larger is more peaked.
        context: most tokens of prompt and response together.
    """

    def __init__(
        self, size: int = 5, seed: int = 0, spread: float = 1.5, context: int | None = None
    ) -> None:
        self.vocab = Vocab(size)
        self.eos_ids = frozenset({0})
        self.context = context
        self.device = torch.device("cpu")
        self.cost = Cost()
        self.seed, self.spread = seed, spread
        self._table: dict[tuple[int, ...], Tensor] = {}

    def next_logprobs(self, prefix: Sequence[int]) -> Float[Tensor, "V"]:
        """log pi_ref(. | prefix), in float64."""
        key = tuple(prefix)
        if key not in self._table:
            generator = torch.Generator().manual_seed(hash((self.seed, key)) % 2**63)
            logits = torch.randn(self.vocab.size, generator=generator, dtype=torch.float64)
            self._table[key] = (logits * self.spread).log_softmax(-1)
        return self._table[key]

    def encode(self, prompt: PromptLike) -> Prompt:
        """Letters to ids: `"ab"` is (1, 2)."""
        if isinstance(prompt, Prompt):
            return prompt
        if not isinstance(prompt, str):
            raise IncompatibleError("a TableLM reads letters", got="messages", do="pass a string")
        ids = tuple(ord(letter) - ord("a") + 1 for letter in prompt)
        if not all(0 < i < self.vocab.size for i in ids):
            raise PromptError(
                f"letters must be among the first {self.vocab.size - 1}", got=prompt, do="use those"
            )
        return Prompt(ids, text=prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to letters; EOS prints as nothing."""
        return "".join(chr(ord("a") + i - 1) for i in ids if i != 0)

    def prefill(self, prompts: Sequence[Prompt]) -> Rows:
        """One row per prompt."""
        self.cost.add(prefill=sum(len(p.ids) for p in prompts))
        return [p.ids for p in prompts]

    def extend(self, state: Rows, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Rows:
        """Append tokens."""
        self.cost.add(extended=int(lengths.sum()))
        return [
            row + tuple(new[:n])
            for row, new, n in zip(state, tokens.tolist(), lengths.tolist(), strict=True)
        ]

    def select(self, state: Rows, rows: Int[Tensor, "R"]) -> Rows:
        """Drop, reorder or fork rows."""
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[Rows]) -> Rows:
        """Rows side by side."""
        return [row for state in states for row in state]

    def propose(self, state: Rows, proposal: Proposal, rng: Rng) -> Candidates:
        """Candidates from the table."""
        if isinstance(proposal, Samples):
            fork = [row for row in state for _ in range(proposal.n)]
            return draw_blocks(self, fork, proposal, rng)
        return propose_tokens(self._next(state), proposal, self.eos_ids)

    def _next(self, state: Rows) -> Float[Tensor, "B V"]:
        return torch.stack([self.next_logprobs(row) for row in state])

    def draw_tail(
        self, state: Rows, candidates: Candidates, rng: Rng
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """Inverse-CDF draw from the table outside the candidates."""
        return tail_draw(self._next(state), candidates, rng)

    def __repr__(self) -> str:
        """Its size and seed."""
        return f"TableLM({self.vocab.size}, seed={self.seed})"
