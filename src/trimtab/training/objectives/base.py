"""What an objective is: a pure function of what a network said, and a few facts about itself."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trimtab.training.batches import Batch, Outputs

Head: TypeAlias = Literal["scalar", "vocabulary", "dueling", "advantage", "causal"]
"""What the network says: V(s); a score of every next token (plain, dueling, beside a V of its own);
or a causal LM's own outputs."""

Loss: TypeAlias = Float[Tensor, ""]
Metrics: TypeAlias = dict[str, Float[Tensor, ""]]


@runtime_checkable
class Objective(Protocol):
    """`(outputs, batch) -> (loss, metrics)`: no state, no model, no random number.

    Attributes:
        head: which network it trains.
        pairs: whether batches are pairs (chosen, rejected); else responses with rewards.
        labels: whether rewards must be probabilities, in [0, 1].
        reference: whether batches must carry log pi_ref of every next token.
    """

    @property
    def head(self) -> Head:
        """Which network it trains."""
        ...

    @property
    def pairs(self) -> bool:
        """Whether batches are pairs."""
        ...

    @property
    def labels(self) -> bool:
        """Whether rewards must lie in [0, 1]."""
        ...

    @property
    def reference(self) -> bool:
        """Whether it takes expectations under pi_ref."""
        ...

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss, and what else is worth a line in the log."""
        ...
