"""What laws share: prompts and candidates to try things on, and how numbers are held to others.

Legend: B rows, K candidates, L tokens of a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from trimtab.errors import LawError
from trimtab.rng import Rng, row_key
from trimtab.types import Candidates, Prompt, Tail

T = TypeVar("T")
G = TypeVar("G")

CPU = torch.device("cpu")


def hold(ok: bool, must: str, got: object) -> None:
    """Raise `LawError` unless `ok`; whose law and what broke it are added by `run_laws`."""
    if not ok:
        raise LawError(must, got=str(got), do="mend it before decoding with it")


def same(must: str, got: Tensor, want: Tensor, tolerance: float) -> None:
    """Raise `LawError` unless two tensors agree within tolerance x max(1, |want|)."""
    hold(got.shape == want.shape, must, f"shapes {list(got.shape)} and {list(want.shape)}")
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    equal = got == want  # infinities of one sign agree
    error = torch.where(equal, 0.0, (got - want).abs() / want.abs().clamp(min=1.0))
    worst = float(torch.nan_to_num(error, nan=torch.inf).max()) if error.numel() else 0.0
    hold(worst <= tolerance, must, f"numbers that differ by {worst:.2g}")


def run_laws(name: str, laws: Sequence[Callable[[T, G], None]], thing: T, given: G) -> None:
    """Hold a thing to each law, in order, on what is given to try it with."""
    for law in laws:
        try:
            law(thing, given)
        except LawError as error:
            where = f"{law.__name__.replace('_', ' ')}: {error.must}"
            raise LawError(where, got=f"{name} with {error.got}", do=error.do) from error


@dataclass(frozen=True)
class Fixture:
    """Prompts of ragged lengths and seeded random candidates."""

    prompts: tuple[Prompt, ...]  # three or more
    size: int  # number of token ids
    eos_ids: frozenset[int] = frozenset()  # one of them is always among the candidates
    device: torch.device = CPU  # where candidates live
    k: int = 5  # candidates per row
    steps: int = 4  # turns that a law takes
    tolerance: float = 1e-4  # see `same`
    rereads: bool = False  # whether what is tried reads prefixes again by design
    seam: bool = False  # whether it tells a response from its prompt

    @property
    def rows(self) -> int:
        """How many prompts."""
        return len(self.prompts)

    def candidates(self, seed: int, length: int = 1) -> Candidates:
        """Random continuations of each prompt, ragged if longer than 1; the last ends in EOS."""
        rows, k = self.rows, min(self.k, self.size)
        tokens = self._plain((rows, length, k), seed).transpose(1, 2).contiguous()
        tokens[:, -1, -1] = min(self.eos_ids, default=0)
        lengths = torch.arange(rows * k).view(rows, k) % length + 1
        lengths[:, -1] = length
        return self.candidates_of(tokens, lengths)

    def candidates_of(self, tokens: Tensor, lengths: Tensor) -> Candidates:
        """Candidates with equal log-probabilities, and a tail: others may be chosen as well."""
        last = tokens.gather(2, (lengths - 1)[..., None])[..., 0]
        logprobs = torch.full(last.shape, -math.log(self.size), device=self.device)
        tail = Tail(logprobs[:, 0], tokens[:, 0, 0].to(self.device), logprobs[:, 0])
        # Padding after a candidate's end must not matter, so it is not zero.
        place = torch.arange(tokens.shape[2])
        tokens = torch.where(place < lengths[..., None], tokens, self.size - 1)
        ends = torch.isin(last, torch.tensor(sorted(self.eos_ids), dtype=torch.int64))
        to = self.device
        return Candidates(tokens.to(to), logprobs, lengths.to(to), ends.to(to), tail)

    def random_tokens(self, rows: int, seed: int, length: int = 1) -> Tensor:
        """Tokens [B, L] that candidates of another seed need not hold; each L of its own seed."""
        columns = [self._plain((rows, 1), seed + i) for i in range(length)]
        return torch.cat(columns, dim=1).to(self.device)

    def _plain(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Random ids that end nothing; different along the last dimension while they last."""
        generator = torch.Generator().manual_seed(seed)
        ends = self.eos_ids or {0}
        ids = torch.tensor([i for i in range(self.size) if i not in ends])
        order = torch.rand(*shape[:-1], len(ids), generator=generator).argsort(dim=-1)
        return ids[order[..., torch.arange(shape[-1]) % len(ids)]]

    def rng(self, prompts: Sequence[Prompt] | None = None, seed: int = 0) -> Rng:
        """The addresses of these rows' first draws; of all prompts' if None."""
        rows = self.prompts if prompts is None else prompts
        keys = torch.tensor([row_key(prompt.ids, 0) for prompt in rows], device=self.device)
        return Rng(seed, keys, torch.zeros_like(keys))


def some_prompts(size: int) -> tuple[Prompt, ...]:
    """Random ids of ragged lengths."""
    generator = torch.Generator().manual_seed(5)
    ids = (torch.randint(1, size, (length,), generator=generator) for length in (9, 3, 14))
    return tuple(Prompt(tuple(row.tolist())) for row in ids)
