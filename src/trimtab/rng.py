"""Random numbers as a counter: a pure function of (seed, row key, position, stream).

A stateful generator would make the text of one prompt depend on its batch-mates and on the order
in which an engine happens to draw. Here every draw has an address instead. The mixer is
splitmix64's finaliser (Steele, Lea and Flood, 2014), in wrapping int64 arithmetic, so that it runs
on any torch device without leaving it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Rng"]

DRAW, TAIL, BLOCK = 0, 1, 2
"""Streams: the choice among outcomes, the draw inside the tail, the tokens of sampled blocks."""

SPAN = 256
"""Outcomes that are drawn from in one step; more go in two."""


def _signed(value: int) -> int:
    """Any integer modulo 2^64, as the int64 with those bits."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical right shift; torch's >> on int64 copies the sign bit."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def row_key(ids: Iterable[int], sample: int) -> int:
    """A row's key: a hash of its prompt's ids and of which sample of that prompt it is.

    The key comes from the prompt itself and not from its place in the batch, so a prompt gets the
    same text alone and among others.
    """
    text = ",".join(map(str, ids)) + f"#{sample}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass(frozen=True)
class Rng:
    """The address of each row's next random number.

    Attributes:
        seed: the user's seed.
        keys: one key per row (see `row_key`).
        positions: number of tokens that the row has emitted.
        stream: what the next choice is drawn from.
    """

    seed: int
    keys: Int[Tensor, "B"]
    positions: Int[Tensor, "B"]
    stream: int = DRAW

    def uniform(self, stream: int | None = None) -> Float[Tensor, "B"]:
        """One float64 in [0, 1) per row, in steps of 2^-52, for this address (or stream)."""
        stream = self.stream if stream is None else stream
        x = _mix(self.keys + _signed(self.seed * _GOLDEN))
        x = _mix((x ^ self.positions) + _GOLDEN)
        x = _mix(x + _signed((stream + 1) * _GOLDEN))
        return _shift(x, 12).to(torch.float64) * 2.0**-52

    def select(self, rows: Int[Tensor, "R"]) -> Rng:
        """The addresses of some rows."""
        at = rows.to(self.keys.device)
        return replace(self, keys=self.keys[at], positions=self.positions[at])

    def advance(self, lengths: Int[Tensor, "B"] | int) -> Rng:
        """The addresses after each row has emitted `lengths` more tokens."""
        return replace(self, positions=self.positions + lengths)

    def fork(self, n: int) -> Rng:
        """n rows for each row, all with keys of their own, for the tokens of sampled blocks."""
        keys = self.keys.repeat_interleave(n)
        sample = torch.arange(n, device=keys.device).repeat(len(self.keys))
        keys = _mix(keys + (sample + 1) * _GOLDEN)
        positions = self.positions.repeat_interleave(n)
        return replace(self, keys=keys, positions=positions, stream=BLOCK)


def draw(logprobs: Float[Tensor, "B N"], uniform: Float[Tensor, "B"]) -> Int[Tensor, "B"]:
    """Inverse-CDF draw of one outcome per row from softmax(logprobs).

    Running sums are in float64, because over a large vocabulary they lose rare tokens in float32.
    Of many outcomes a span is drawn first and then one inside it, by what is left of the uniform
    number, so that only masses of spans and one span's weights are summed so. A span's mass is
    right to float32's last digits, hence each outcome's chance, however rare. An outcome at -inf
    is never drawn.
    """
    uniform = uniform.to(logprobs.device)
    size = logprobs.shape[-1]
    if size <= SPAN:
        return _invert(torch.softmax(logprobs.to(torch.float64), dim=-1), uniform)[0]
    span, uniform = _invert(_masses(logprobs), uniform)
    at = span[:, None] * SPAN + torch.arange(SPAN, device=span.device)
    inside = logprobs.gather(1, at.clamp(max=size - 1)).masked_fill(at >= size, -torch.inf)
    return (at[:, 0] + draw(inside, uniform)).clamp(max=size - 1)


def _masses(logprobs: Float[Tensor, "B N"]) -> Float[Tensor, "B M"]:
    """The mass of each span of outcomes in float64; the last one may be short or empty."""
    exact = torch.promote_types(logprobs.dtype, torch.float32)
    weights = torch.softmax(logprobs, dim=-1, dtype=exact)
    spans = weights.shape[-1] // SPAN
    whole, rest = weights[:, : spans * SPAN], weights[:, spans * SPAN :]
    each = whole.unflatten(1, (spans, SPAN)).sum(dim=-1), rest.sum(dim=-1, keepdim=True)
    return torch.cat(each, dim=-1).to(torch.float64)


def _invert(
    weights: Float[Tensor, "B N"], uniform: Float[Tensor, "B"]
) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
    """The outcome that each uniform number falls on, and how far into it: a number in [0, 1)."""
    total = weights.cumsum(dim=-1)
    target = uniform[:, None] * total[:, -1:]
    # Of weights that are NaN the last outcome comes back; whoever made them is told later.
    index = torch.searchsorted(total, target, right=True).clamp(max=weights.shape[-1] - 1)
    weight = weights.gather(1, index)
    into = (target - total.gather(1, index)) / weight + 1
    return index[:, 0], into[:, 0].clamp(min=0, max=1 - 2.0**-52)
