"""Samplers: from logits to a choice. Temperature and nucleus act here, after the rule.

With a temperature T after the rule the effective strength is beta / T, as in transformers and
vLLM, whose processors run before their temperature. A temperature that shapes pi_ref itself
belongs to the model (`base_temperature`).

Legend: B rows, N outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.errors import UsageError, check_number, check_whole
from trimtab.rng import Rng, draw


def nucleus(logprobs: Float[Tensor, "B N"], top_p: float) -> Float[Tensor, "B N"]:
    """Keep the smallest set of likeliest outcomes whose mass reaches top_p; -inf elsewhere.

    Holtzman et al. 2020. The likeliest outcome always stays. Not renormalised.
    """
    ordered, order = logprobs.sort(dim=-1, descending=True)
    weights = ordered.softmax(dim=-1)
    before = weights.cumsum(dim=-1) - weights
    cut = torch.zeros_like(logprobs, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logprobs.masked_fill(cut, -torch.inf)


@dataclass(frozen=True)
class Greedy:
    """argmax over the outcomes (the first of equals)."""

    @property
    def greedy(self) -> bool:
        """True: the tail, where there is one, competes by its best token."""
        return True

    @property
    def plain(self) -> bool:
        """False: a point mass is not softmax(logits)."""
        return False

    def logprobs(self, logits: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """A point mass: 0 at the argmax, -inf elsewhere; NaN there if that is no finite number."""
        best = logits.max(dim=-1, keepdim=True)
        nothing = torch.full_like(logits, -torch.inf)
        return nothing.scatter(-1, best.indices, best.values - best.values)

    def choose(self, logprobs: Float[Tensor, "B N"], rng: Rng) -> Int[Tensor, "B"]:
        """Index of the argmax."""
        return logprobs.argmax(dim=-1)


@dataclass(frozen=True)
class Stochastic:
    """One draw from softmax(logits / temperature), cut to top_k, then to the nucleus top_p.

    Attributes:
        temperature: > 0.
        top_k: keep this many likeliest outcomes; None keeps all.
        top_p: in (0, 1]; 1 keeps all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not check_number("a sampling temperature", self.temperature) > 0:
            raise UsageError(
                "a sampling temperature must be above 0",
                got=f"{self.temperature}",
                do="decode greedily for temperature 0: Greedy()",
            )
        if not 0 < self.top_p <= 1:
            raise UsageError("top_p must be in (0, 1]", got=f"{self.top_p}", do="use 1 for all")
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1)

    @property
    def greedy(self) -> bool:
        """False: the tail, where there is one, competes by its mass."""
        return False

    @property
    def plain(self) -> bool:
        """Whether it draws from softmax(logits) itself."""
        return self.temperature == 1.0 and self.top_k is None and self.top_p == 1.0

    def logprobs(self, logits: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """log softmax of what temperature, top_k and top_p leave."""
        if self.temperature != 1:  # a pass over the vocabulary
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            kept = logits.topk(self.top_k, dim=-1)
            logits = torch.full_like(logits, -torch.inf).scatter(-1, kept.indices, kept.values)
        if self.top_p < 1:
            logits = nucleus(logits, self.top_p)
        return logits.log_softmax(dim=-1)

    def choose(self, logprobs: Float[Tensor, "B N"], rng: Rng) -> Int[Tensor, "B"]:
        """Index of one draw."""
        return draw(logprobs, rng.uniform())
