"""What laws share: prompts and candidates to try things on, and how numbers are held to others.

Legend: B rows, K candidates, L tokens of a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import torch
from torch import Tensor

from trimtab.errors import LawError
from trimtab.rng import Rng, row_key
from trimtab.types import Candidates, Prompt, Tail

T = TypeVar("T")
G = TypeVar("G")


def broken(must: str, got: str) -> NoReturn:
    """Raise `LawError`; the caller's name is added by `run_laws`."""
    raise LawError(must, got=got, do="mend it before decoding with it")


def hold(ok: bool, must: str, got: object) -> None:
    """Raise `LawError` unless `ok`."""
    if not ok:
        broken(must, str(got))


def same(must: str, got: Tensor, want: Tensor, tolerance: float) -> None:
    """Raise `LawError` unless two tensors agree within tolerance x max(1, |want|)."""
    hold(got.shape == want.shape, must, f"shapes {list(got.shape)} and {list(want.shape)}")
    got, want = got.detach().double().cpu(), want.detach().double().cpu()
    equal = got == want  # infinities of one sign agree
    error = torch.where(equal, 0.0, (got - want).abs() / want.abs().clamp(min=1.0))
    worst = float(torch.nan_to_num(error, nan=torch.inf).max()) if error.numel() else 0.0
    hold(worst <= tolerance, must, f"numbers that differ by {worst:.2g}")


@dataclass(frozen=True)
class Fixture:
    """Prompts of ragged lengths and seeded random candidates.

    Attributes:
        prompts: at least three, of different lengths.
        size: number of token ids.
        eos_ids: tokens that end a response; always among the candidates.
        device: where candidates live.
        k: candidates per row.
        steps: turns that a law takes.
        tolerance: see `same`.
        rereads: whether the thing under test reads prefixes again by design.
        seam: whether it tells a response from its prompt.
    """

    prompts: tuple[Prompt, ...]
    size: int
    eos_ids: frozenset[int] = frozenset()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    k: int = 5
    steps: int = 4
    tolerance: float = 1e-4
    rereads: bool = False
    seam: bool = False

    @property
    def end(self) -> int:
        """A token that ends a response; id 0 where none is known."""
        return min(self.eos_ids, default=0)

    def _plain(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Random ids that end nothing; different along the last dimension while they last."""
        generator = torch.Generator().manual_seed(seed)
        ids = torch.tensor([i for i in range(self.size) if i not in self.eos_ids | {self.end}])
        order = torch.rand(*shape[:-1], len(ids), generator=generator).argsort(dim=-1)
        return ids[order[..., torch.arange(shape[-1]) % len(ids)]]

    def candidates(self, rows: int, seed: int, length: int = 1) -> Candidates:
        """Random continuations, the last one ending in `end`; ragged if `length` > 1."""
        k = min(self.k, self.size)
        tokens = self._plain((rows, length, k), seed).transpose(1, 2).contiguous()
        tokens[:, -1, -1] = self.end
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

    def random_tokens(self, rows: int, seed: int) -> Tensor:
        """One token per row that candidates of another seed need not hold; [B, 1]."""
        return self._plain((rows, 1), seed).to(self.device)

    def lengths(self, rows: int, length: int = 1) -> Tensor:
        """The same length for all rows."""
        return torch.full((rows,), length, dtype=torch.int64, device=self.device)

    def rng(self, prompts: Sequence[Prompt], seed: int = 0) -> Rng:
        """The addresses of these rows' first draws."""
        keys = torch.tensor([row_key(p.ids, 0) for p in prompts], device=self.device)
        return Rng(seed, keys, torch.zeros_like(keys))


def run_laws(name: str, laws: Sequence[Callable[[T, G], None]], thing: T, given: G) -> None:
    """Hold a thing to each law, in order, on what is given to try it with.

    Raises:
        LawError: the first law that is broken, by name.
    """
    for law in laws:
        try:
            law(thing, given)
        except LawError as error:
            where = f"{law.__name__.replace('_', ' ')}: {error.must}"
            raise LawError(where, got=f"{name} with {error.got}", do=error.do) from error


def some_prompts(size: int, lengths: Sequence[int] = (9, 3, 14)) -> tuple[Prompt, ...]:
    """Random ids of ragged lengths."""
    generator = torch.Generator().manual_seed(5)
    return tuple(
        Prompt(tuple(torch.randint(1, size, (n,), generator=generator).tolist())) for n in lengths
    )
