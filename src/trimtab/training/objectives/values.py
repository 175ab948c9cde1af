"""Objectives of value guides: one number for each state.

Legend: B responses, S states of the longest, T its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from trimtab.training.batches import Batch, Outputs, state_values
from trimtab.training.objectives.base import Head, Loss, Metrics
from trimtab.training.returns import lambda_returns, within


def mean_over(errors: Float[Tensor, "B N"], where: Bool[Tensor, "B N"]) -> Loss:
    """The mean of the errors at some places."""
    return errors.masked_fill(~where, 0.0).sum() / where.sum().clamp(min=1)


@dataclass(frozen=True)
class TDLambda:
    """L = mean_t (V(s_t) - G_t^lambda)^2: VAS' value of pi_ref, on pi_ref's own rollouts.

    Also Monte Carlo regression (lambda = 1; Online FUDGE, CD-FUDGE) and the one-step target
    (lambda = 0; TD(0), CD-Q). Every state counts once, the prompt and the finished response too.

    Attributes:
        lambda_: 0.95 in the paper (0.98 for tool use).
    """

    lambda_: float = 0.95
    head: ClassVar[Head] = "scalar"
    pairs: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    reference: ClassVar[bool] = False

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over all states."""
        values = state_values(outputs)
        targets = lambda_returns(values, batch.rewards, batch.lengths, self.lambda_)
        where = within(batch.lengths + 1, values.shape[1])
        return mean_over((values - targets) ** 2, where), {}


@dataclass(frozen=True)
class Fudge:
    """L = mean_t BCE(sigmoid(f(s_t)), y): FUDGE's classifier of the response's label on prefixes.

    Yang and Klein 2021. The label may be soft: with y = exp((r - r_max) / tau) the score
    log sigmoid(f) learns log E[exp((r - r_max) / tau) | s], whose tilt at beta = 1 is the law
    pi_ref(y) exp(r(y) / tau) itself and not its first-order shadow. Decoded as log sigmoid(f).
    """

    head: ClassVar[Head] = "scalar"
    pairs: ClassVar[bool] = False
    labels: ClassVar[bool] = True
    reference: ClassVar[bool] = False

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over all states; `batch.rewards` are the labels."""
        logits = state_values(outputs)
        labels = batch.rewards[:, None].expand_as(logits).to(logits)
        errors = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        where = within(batch.lengths + 1, logits.shape[1])
        return mean_over(errors, where), {}


@dataclass(frozen=True)
class Rad:
    """L = sum_t t (rho(s_t) - r)^2 / sum_t t: later prefixes weigh more.

    RAD's cumulative squared error (Deng and Raffel 2023, Eq. 2). Decoded clamped to [0, 1].
    """

    head: ClassVar[Head] = "scalar"
    pairs: ClassVar[bool] = False
    labels: ClassVar[bool] = True
    reference: ClassVar[bool] = False

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The mean over responses of the weighted error of prefixes of one token and more."""
        values = state_values(outputs)
        place = torch.arange(values.shape[1], device=values.device).to(values)
        weights = place * within(batch.lengths + 1, values.shape[1])
        errors = (values - batch.rewards[:, None].to(values)) ** 2
        each = (weights * errors).sum(1) / weights.sum(1).clamp(min=1)
        return each.mean(), {}
