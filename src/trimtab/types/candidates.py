"""What the base model is asked for, and what it proposes.

Legend of the letters in shapes: B rows (one per sequence), K candidates of a row, L tokens of a
candidate, R some rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.errors import check_whole, check_word

Outside: TypeAlias = Literal["drop", "mean"]
"""What becomes of the tokens outside the k."""


@dataclass(frozen=True)
class TopK:
    """The k likeliest next tokens.

    Attributes:
        k: number of candidates.
        tail: what becomes of all other tokens. "drop" gives them no chance (ARGS, PARGS, RAD,
            FUDGE). "mean" gives them the mean score of the k (VAS, Eq. 5): together they are one
            more outcome, inside which the base model draws.
    """

    k: int
    tail: Outside = "drop"

    def __post_init__(self) -> None:
        check_word("tail", self.tail, Outside)
        check_whole("k", self.k, 1)


@dataclass(frozen=True)
class Samples:
    """n continuations drawn from the base model (blockwise methods, best-of-n).

    Attributes:
        n: number of continuations.
        length: tokens of each; None means up to the token budget. One that draws EOS ends there.
    """

    n: int
    length: int | None = None

    def __post_init__(self) -> None:
        check_whole("n", self.n, 1)
        if self.length is not None:
            check_whole("length", self.length, 1)

    def within(self, room: int) -> Samples:
        """The same, no longer than the tokens that are left."""
        return Samples(self.n, room if self.length is None else min(self.length, room))


@dataclass(frozen=True)
class Vocabulary:
    """Every token of the vocabulary is a candidate."""


Proposal: TypeAlias = TopK | Samples | Vocabulary


@dataclass(frozen=True)
class Tail:
    """All that a `TopK` proposal left out, known without the full vocabulary's logits.

    Attributes:
        logprob: log of the mass outside the k; -inf when the k are the whole vocabulary.
        best_token: the likeliest token outside the k (greedy compares this one, not the mass).
        best_logprob: its log-probability.
    """

    logprob: Float[Tensor, "B"]
    best_token: Int[Tensor, "B"]
    best_logprob: Float[Tensor, "B"]


@dataclass(frozen=True)
class Candidates:
    """Continuations of each row's prefix with their log-probabilities under pi_ref.

    Attributes:
        tokens: token ids, right-padded where lengths differ.
        logprobs: log pi_ref of each whole continuation; -inf marks one that cannot be chosen.
        lengths: number of tokens of each continuation.
        tail: what the proposal left out, when it is an outcome of its own.
        ends: for each continuation whether it ends in one of the model's EOS tokens.
    """

    tokens: Int[Tensor, "B K L"]
    logprobs: Float[Tensor, "B K"]
    lengths: Int[Tensor, "B K"]
    ends: Bool[Tensor, "B K"]
    tail: Tail | None = None

    @property
    def possible(self) -> Bool[Tensor, "B K"]:
        """Which candidates have a chance under pi_ref; a nucleus may hold fewer than K."""
        return ~torch.isneginf(self.logprobs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, K, L)."""
        b, k, length = self.tokens.shape
        return b, k, length

    def take(self, index: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B"]]:
        """Tokens and lengths of one candidate per row."""
        rows = torch.arange(len(index), device=index.device)
        return self.tokens[rows, index], self.lengths[rows, index]

    def select(self, rows: Int[Tensor, "R"]) -> Candidates:
        """The candidates of some rows."""
        at = rows.to(self.tokens.device)
        tail = self.tail and Tail(
            self.tail.logprob[at], self.tail.best_token[at], self.tail.best_logprob[at]
        )
        return Candidates(self.tokens[at], self.logprobs[at], self.lengths[at], self.ends[at], tail)


def is_eos(tokens: Int[Tensor, "*shape"], eos_ids: frozenset[int]) -> Bool[Tensor, "*shape"]:
    """Which tokens end a response."""
    ends = torch.zeros_like(tokens, dtype=torch.bool)
    for eos in eos_ids:
        ends |= tokens == eos
    return ends
