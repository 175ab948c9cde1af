"""Candidates from the full law of the next token: shared by the models that have it.

Legend: B rows, K candidates, V vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.checks import check_k
from trimtab.rng import TAIL, Rng, draw
from trimtab.types import Candidates, Tail, TopK, Vocabulary, is_eos


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
