"""What guides that leave the reading to something else have in common.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from trimtab.types import Candidates, Cost, Prompt


class Delegate(ABC):
    """Hands every reading to `inner`, a guide or a cached reader; a subclass says its own score."""

    @property
    @abstractmethod
    def inner(self) -> Any:
        """What reads; its state is this guide's state."""

    @abstractmethod
    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Score of each candidate after the prefix; leaves `state` as it was."""

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        cost: Cost = self.inner.cost
        return cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts, one row each."""
        return self.inner.prefill(prompts)

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append `lengths[b]` tokens to row b."""
        return self.inner.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.inner.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.inner.join(states)
