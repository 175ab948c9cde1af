"""Candidates from the full law of the next token: shared by the models that have it.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary, n blocks per row.
"""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.decoding.checks import check_k
from trimtab.rng import BLOCK, TAIL, Rng, draw
from trimtab.types import Candidates, Samples, Tail, TopK

S = TypeVar("S")


def is_eos(tokens: Int[Tensor, "*shape"], eos_ids: frozenset[int]) -> Bool[Tensor, "*shape"]:
    """Which tokens end a response."""
    ends = torch.zeros_like(tokens, dtype=torch.bool)
    for eos in eos_ids:
        ends |= tokens == eos
    return ends


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


def everything(law: Float[Tensor, "B V"], eos_ids: frozenset[int]) -> Candidates:
    """Every token, in id order."""
    # One row, seen from all: only the law differs between rows.
    tokens = torch.arange(law.shape[1], device=law.device)[None]
    lengths, ends = torch.ones_like(tokens), is_eos(tokens, eos_ids)
    shape = law.shape
    return Candidates(
        tokens.expand(shape)[:, :, None], law, lengths.expand(shape), ends.expand(shape)
    )


def top_k(law: Float[Tensor, "B V"], proposal: TopK, eos_ids: frozenset[int]) -> Candidates:
    """The k likeliest tokens and, for `tail="mean"`, what is known of the rest."""
    k, size = proposal.k, law.shape[1]
    check_k(k, size)
    if proposal.tail == "drop":
        top = law.topk(k, dim=-1)
        return _single(top.indices, top.values, eos_ids)
    # One more than k: greedy decoding compares the best token outside.
    top = law.topk(min(k + 1, size), dim=-1)
    inside = top.indices[:, :k]
    if k == size:
        nothing = torch.full_like(law[:, 0], -torch.inf)
        tail = Tail(nothing, inside[:, 0], nothing)
    else:
        best = top.values[:, k]
        tail = Tail(mass_outside(law, inside, best), top.indices[:, k], best)
    return _single(inside, top.values[:, :k], eos_ids, tail)


def mass_outside(
    law: Float[Tensor, "B V"], inside: Int[Tensor, "B K"], best: Float[Tensor, "B"]
) -> Float[Tensor, "B"]:
    """log of the mass that lies outside some tokens: summed there, -inf where nothing is.

    One minus the mass inside would be a difference of rounded numbers: an empty tail would get
    1e-7, which a strong guide makes the likeliest outcome. Never below `best`, the likeliest token
    outside, so inside the tail no token is likelier than the tail.
    """
    weights = law.sub(best[:, None]).exp_().scatter_(1, inside, 0.0)
    mass = weights.sum(dim=-1).log_().add_(best)
    return torch.where(torch.isneginf(best), best, mass)


def tail_draw(
    law: Float[Tensor, "B V"], candidates: Candidates, rng: Rng
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """A draw from pi_ref restricted to the tokens that are no candidates, and its log pi_ref.

    Where the candidates hold all the mass, any token comes back: nobody can have chosen the tail.
    """
    outside = law.scatter(1, candidates.tokens[:, :, 0], -torch.inf)
    empty = torch.isneginf(outside).all(dim=-1, keepdim=True)
    token = draw(torch.where(empty, law, outside), rng.uniform(TAIL))
    return token, law.gather(1, token[:, None])[:, 0]


@runtime_checkable
class Samplable(Protocol[S]):
    """What `blocks` needs of a model."""

    eos_ids: frozenset[int]

    def next(self, state: S) -> Float[Tensor, "B V"]:
        """log pi_ref of every next token of each row."""
        ...

    def extend(self, state: S, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> S:
        """Append tokens."""
        ...

    def select(self, state: S, rows: Int[Tensor, "R"]) -> S:
        """Drop, reorder or fork rows."""
        ...


def blocks(lm: Samplable[S], fork: S, proposal: Samples, rng: Rng) -> Candidates:
    """n continuations of each row, drawn token by token from pi_ref.

    Args:
        lm: gives the next law and reads tokens.
        fork: n copies of every row, side by side; consumed.
        proposal: with a length.
        rng: the rows' addresses before forking.
    """
    assert proposal.length is not None, "the loop sets the length to what is left"
    b, n, length = len(rng.keys), proposal.n, proposal.length
    rng = rng.fork(n)
    device = rng.keys.device
    tokens = torch.zeros(b * n, length, dtype=torch.int64, device=device)
    logprobs = torch.zeros(b * n, device=device)
    ended = torch.zeros(b * n, dtype=torch.bool, device=device)
    lengths = torch.zeros(b * n, dtype=torch.int64, device=device)
    live = torch.arange(b * n, device=device)
    # Which rows have ended costs nothing to ask on the CPU, and a wait elsewhere.
    every = 1 if device.type == "cpu" else 8
    for i in range(length):
        law = lm.next(fork)
        token = draw(law, rng.uniform(BLOCK))
        going = ~ended[live]
        tokens[live, i] = torch.where(going, token, 0)
        logprob = law.gather(1, token[:, None])[:, 0].to(logprobs.dtype)
        logprobs[live] += torch.where(going, logprob, 0.0)
        lengths[live] += going
        ended[live] |= is_eos(token, lm.eos_ids)
        if i + 1 == length or (i % every == every - 1 and bool(ended.all())):
            break
        rng = rng.advance(1)
        if i % every == every - 1 and bool(ended[live].any()):
            keep = (~ended[live]).nonzero()[:, 0]
            fork, rng = lm.select(fork, keep.cpu()), rng.select(keep)
            live, token = live[keep], token[keep]
        fork = lm.extend(fork, token[:, None], torch.ones_like(token))
    longest = i + 1
    return Candidates(
        tokens[:, :longest].view(b, n, longest),
        logprobs.view(b, n),
        lengths.view(b, n),
        ended.view(b, n),
    )
