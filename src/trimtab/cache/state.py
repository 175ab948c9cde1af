"""Rows of the slot store as a reader's state.

Legend: B rows, K candidates of a row, D size of the network's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.cache.configs import Context
from trimtab.cache.slots import Slot


@dataclass(frozen=True)
class Scored:
    """What the last `branch` left behind each row's prefix.

    Attributes:
        tokens: the candidates, one token each.
        out: the network's output at each.
        closed: whether the next token is certain to be among them (the tail was dropped).
    """

    tokens: Int[Tensor, "B K"]
    out: Float[Tensor, "B K D"]
    closed: bool


@dataclass
class TreeState:
    """Rows that have been read.

    Attributes:
        slots: where each row's keys and values are.
        lengths: tokens read, on the device.
        bounds: upper bounds of the lengths on the host; exact but where rows were
            extended raggedly on an accelerator.
        last: the network's output at each row's last token.
        scored: candidates whose keys and values stand behind the prefix.
    """

    slots: tuple[Slot, ...]
    lengths: Int[Tensor, "B"]
    bounds: list[int]
    last: Float[Tensor, "B D"]
    scored: Scored | None = None

    def rows(self, rows: Sequence[int]) -> TreeState:
        """The same for some rows, each at most once."""
        at = torch.tensor(rows, dtype=torch.int64).to(self.lengths.device)
        scored = self.scored and Scored(
            self.scored.tokens[at], self.scored.out[at], self.scored.closed
        )
        return TreeState(
            tuple(self.slots[i] for i in rows),
            self.lengths[at],
            [self.bounds[i] for i in rows],
            self.last[at],
            scored,
        )

    @property
    def index(self) -> Int[Tensor, "B"]:
        """Each row's place in the store."""
        return torch.tensor([slot.index for slot in self.slots], device=self.lengths.device)

    def grown(
        self, last: Float[Tensor, "B D"], lengths: Int[Tensor, "B"], gains: list[int] | int
    ) -> TreeState:
        """The rows with more tokens; those that gained none keep their output.

        Args:
            last: the output at each row's last new token.
            lengths: how many each row gained.
            gains: the same on the host; the most of all where the device was not asked.
        """
        begun = self.last.shape[1] > 0
        if begun and (isinstance(gains, int) or 0 in gains):
            last = torch.where((lengths > 0)[:, None], last, self.last)
        more = [gains] * len(self.bounds) if isinstance(gains, int) else gains
        bounds = [bound + n for bound, n in zip(self.bounds, more, strict=True)]
        return TreeState(self.slots, self.lengths + lengths, bounds, last)

    def hold(self, context: Context, more: int) -> None:
        """Raise `PromptError` unless every row has room for `more` tokens."""
        most = context.tokens
        if most is not None and max(self.bounds) + more > most:
            # Bounds may be loose; to be sure is worth a wait.
            self.bounds = self.lengths.tolist()
        context.hold(max(self.bounds) + more)
