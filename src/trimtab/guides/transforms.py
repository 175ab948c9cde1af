"""Functions of a guide's score: each wraps a guide and changes nothing else about it.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from trimtab.decoding.step import check_scores
from trimtab.errors import UsageError
from trimtab.protocols import Bounded, Guide
from trimtab.types import Candidates, Cost, Prompt, Vocab


@dataclass(frozen=True)
class Transform(ABC):
    """A guide whose scores are a function of another's; everything else is the other's.

    NaN and inf pass through unchanged, so that no transform hides a guide that fails.
    """

    guide: Guide[Any]

    @abstractmethod
    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """The new scores."""

    @property
    def name(self) -> str:
        """The guide's name."""
        return self.guide.name

    @property
    def vocab(self) -> Vocab | None:
        """Whose ids the guide reads."""
        return self.guide.vocab

    @property
    def context(self) -> int | None:
        """Most tokens that the guide reads."""
        return self.guide.context if isinstance(self.guide, Bounded) else None

    @property
    def cost(self) -> Cost:
        """Tokens the guide has read so far."""
        return self.guide.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts."""
        return self.guide.prefill(prompts)

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append tokens."""
        return self.guide.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.guide.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.guide.join(states)

    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """The transformed scores."""
        scores = check_scores(self.name, self.guide.score(state, candidates), candidates)
        return torch.where(torch.isfinite(scores), self.transform(scores), scores)


@final
@dataclass(frozen=True)
class LogSigmoid(Transform):
    """log P(attribute | s v) = log sigmoid(z), z a classifier's logit (FUDGE)."""

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """log sigmoid, in nats."""
        return F.logsigmoid(scores)


@final
@dataclass(frozen=True)
class Clamp(Transform):
    """clamp(score, low, high) (RAD: to [0, 1]).

    Attributes:
        guide: whose scores are clamped.
        low: the least score.
        high: the greatest score.
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UsageError(
                "low and high must be numbers, low below high",
                got=f"{self.low} and {self.high}",
                do="swap or mend them",
            )

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Clamped scores."""
        return scores.clamp(self.low, self.high)


@final
@dataclass(frozen=True)
class Center(Transform):
    """score - mean_K score, the plain mean over a row's candidates (the form in VAS' code).

    With the tail at the mean score it is the law of the plain scores: a constant per row.
    """

    def transform(self, scores: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Centred scores."""
        return scores - scores.mean(dim=-1, keepdim=True)
