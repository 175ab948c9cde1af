"""The host's side of a decode: which rows are in flight, and what each has said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from trimtab.decoding.faults import Faults
from trimtab.decoding.step import BatchStep
from trimtab.decoding.trace import Trace
from trimtab.protocols import LanguageModel, Reader
from trimtab.rng import Rng, row_key
from trimtab.types import Alternative, Prompt, Step, Tally


class Rows:
    """All rows of one call; `live` are those still on the device, in the states' order.

    Rows are prompt-major: prompt i, sample j is row `i * n + j`.
    """

    def __init__(
        self,
        lm: LanguageModel[Any],
        prompts: Sequence[Prompt],
        n: int,
        max_new_tokens: int,
        stop: tuple[str, ...],
        stop_at_eos: bool,
        context: int | None,
    ) -> None:
        self.prompts, self.n = prompts, n
        eos = lm.eos_ids if stop_at_eos else frozenset[int]()
        room = [
            max_new_tokens if context is None else min(max_new_tokens, context - len(p.ids))
            for p in prompts
        ]
        self.traces = [Trace(lm.decode, eos, budget, stop) for budget in room for _ in range(n)]
        self.dispatched = [0] * len(self.traces)
        self.live = list(range(len(self.traces)))

    @property
    def fork(self) -> Int[Tensor, "B"]:
        """For each row the index of its prompt."""
        return torch.arange(len(self.prompts)).repeat_interleave(self.n)

    @property
    def room(self) -> int:
        """Tokens that every row in flight may still get."""
        return min(self.traces[r].budget - self.dispatched[r] for r in self.live)

    def rng(self, seed: int, device: torch.device, drawn: Sequence[int]) -> Rng:
        """Addresses of the first draws. The i-th time a prompt occurs it counts as more samples.

        Args:
            seed: the user's.
            device: where they live.
            drawn: for each prompt the samples that were drawn before this call.
        """
        seen: Counter[tuple[int, ...]] = Counter()
        keys: list[int] = []
        for prompt, before in zip(self.prompts, drawn, strict=True):
            first = before + seen[prompt.ids] * self.n
            keys += [row_key(prompt.ids, first + j) for j in range(self.n)]
            seen[prompt.ids] += 1
        key = torch.tensor(keys, dtype=torch.int64, device=device)
        return Rng(seed, key, torch.zeros_like(key))

    def dispatch(self, length: int) -> list[int]:
        """Note that every row in flight was given `length` tokens at most; the rows in flight."""
        for row in self.live:
            self.dispatched[row] += length
        return list(self.live)

    def drop_finished(self) -> Int[Tensor, "R"] | None:
        """Drop rows that have ended or have no room; positions of the others, None if all go on."""
        keep = [i for i, r in enumerate(self.live) if self._goes_on(r)]
        if len(keep) == len(self.live):
            return None
        self.live = [self.live[i] for i in keep]
        return torch.tensor(keep, dtype=torch.int64)

    def _goes_on(self, row: int) -> bool:
        trace = self.traces[row]
        return trace.finish is None and self.dispatched[row] < trace.budget

    def read(
        self, at: Sequence[int], step: BatchStep, shares: tuple[float, ...], faults: Faults
    ) -> Iterator[Step]:
        """The rows of a step that has reached the host.

        A row that ended in an earlier step may have been dispatched once more: it yields nothing.
        """
        for row, one in zip(at, step.entries(), strict=True):
            trace = self.traces[row]
            if trace.finish is not None:
                continue
            faults.check(row, row // self.n, len(trace.tokens), one)
            text = trace.push(one.tokens)
            yield Step(
                row=row,
                tokens=one.tokens,
                text=text,
                logprob=one.logprob,
                ref_logprob=one.ref_logprob,
                score=one.score,
                kl=None if math.isnan(one.kl) else one.kl,
                alternatives=tuple(
                    Alternative(int(token), *numbers) for token, *numbers in one.alternatives
                ),
                base_tokens=shares[0],
                guide_tokens=shares[1],
                failed=one.fault != 0,
                finish=trace.finish,
            )


class Meter:
    """Tokens that one call read, shared evenly among the rows that were in flight.

    Others may use the same readers meanwhile, in this thread or another: only what is read while
    `counting` lasts is this call's.
    """

    def __init__(self, *readers: Reader[Any]) -> None:
        self.readers, self._tally = readers, Tally()
        self.last = [0] * len(readers)

    def counting(self) -> AbstractContextManager[None]:
        """Lasts while the call's own reading is done."""
        return self._tally.counting()

    def shares(self, rows: int) -> tuple[float, ...]:
        """For each reader the tokens per row since it was last asked."""
        now = [self._tally.of(reader.cost) for reader in self.readers]
        shares = tuple((a - b) / rows for a, b in zip(now, self.last, strict=True))
        self.last = now
        return shares
