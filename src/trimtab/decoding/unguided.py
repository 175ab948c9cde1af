"""The guide of methods that have none: every score is zero and nothing is read."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from trimtab.types import Candidates, Cost, Prompt


class Unguided:
    """Scores zero for all; its state is nothing. A null object, so that the loop has no branch."""

    name = "unguided"
    vocab = None

    def __init__(self) -> None:
        self.cost = Cost()

    def prefill(self, prompts: Sequence[Prompt]) -> None:
        """Reads nothing."""

    def extend(self, state: None, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> None:
        """Reads nothing."""

    def select(self, state: None, rows: Int[Tensor, "R"]) -> None:
        """Keeps nothing."""

    def join(self, states: Sequence[None]) -> None:
        """Keeps nothing."""

    def score(self, state: None, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Zero for every candidate: one number, seen from all places."""
        return candidates.logprobs.new_zeros(()).expand_as(candidates.logprobs)
