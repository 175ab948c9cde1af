"""Objectives of value guides: one number for each state; and the returns that values learn.

A response of T tokens visits states s_0 (the prompt) to s_T (the finished response). The reward
comes once, at the end, and nothing is discounted.

Legend: B responses, S states of the longest (T + 1), T its tokens, V vocabulary, N places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.errors import DataError, UsageError
from trimtab.guides.transforms import Clamp, LogSigmoid
from trimtab.protocols import Guide
from trimtab.schema import above
from trimtab.training.batches import Batch, Outputs, state_values
from trimtab.training.config import Unit
from trimtab.training.examples import Material, SplitGroups
from trimtab.training.objectives.base import Loss, Metrics, RewardObjective, Rows, Share
from trimtab.training.targets import RewardStatistics, labels, unit_interval

# --- returns -------------------------------------------------------------------------------------


def within(lengths: Int[Tensor, "B"], size: int) -> Bool[Tensor, "B S"]:
    """Which of `size` places come before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def lambda_returns(
    values: Float[Tensor, "B S"],
    rewards: Float[Tensor, "B"],
    lengths: Int[Tensor, "B"],
    lambda_: float,
) -> Float[Tensor, "B S"]:
    """G_t = (1 - lambda) V(s_{t+1}) + lambda G_{t+1}, with G_T = G_{T-1} = r.

    The lambda-return of Sutton and Barto (2018, Eq. 12.2), gamma = 1, reward only at the end (VAS,
    section 3). lambda = 1 is the Monte Carlo return (Online FUDGE, CD-FUDGE), lambda = 0 the
    one-step target (TD(0), CD-Q). The step into s_T pays the reward itself, so that nothing is
    bootstrapped from a finished response; s_T has a target of its own, which the published VAS code
    leaves out although its decoder asks for it at every EOS.

    Args:
        values: V of every state, s_0 first; what lies after a row's last state is not read.
        rewards: of the finished responses.
        lengths: tokens of each response: s_0 to s_length are its states.
        lambda_: in [0, 1].

    Returns:
        The targets; r at and after the last state. No gradient flows through them.

    Raises:
        UsageError: lambda_ is not in [0, 1].
    """
    if not 0 <= lambda_ <= 1:
        raise UsageError("lambda_ must be in [0, 1]", got=f"{lambda_}", do="the paper uses 0.95")
    values = values.detach()
    last = within(lengths - 1, values.shape[1]).logical_not()  # s_{T-1} and whatever follows
    target = rewards.to(values)
    columns = [target]
    for t in range(values.shape[1] - 2, -1, -1):
        mixed = (1 - lambda_) * values[:, t + 1] + lambda_ * columns[-1]
        columns.append(torch.where(last[:, t], target, mixed))
    return torch.stack(columns[::-1], dim=1)


def expectation(
    scores: Float[Tensor, "B S V"], logprobs: Float[Tensor, "B S V"]
) -> Float[Tensor, "B S"]:
    """sum_v p(v | s) Q(s, v): V of each state, without a draw."""
    return (logprobs.exp() * scores.detach()).sum(-1)


def mean_over(errors: Float[Tensor, "B N"], where: Bool[Tensor, "B N"]) -> Loss:
    """The mean of the errors at some places."""
    return errors.masked_fill(~where, 0.0).sum() / where.sum().clamp(min=1)


# --- objectives ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TDLambda(RewardObjective):
    """L = mean_t (V(s_t) - G_t^lambda)^2: VAS' value of pi_ref, on pi_ref's own rollouts.

    Also Monte Carlo regression (lambda = 1; Online FUDGE, CD-FUDGE) and the one-step target
    (lambda = 0; TD(0), CD-Q). Every state counts once, the prompt and the finished response too.

    Attributes:
        lambda_: 0.95 in the paper (0.98 for tool use).
    """

    lambda_: Share = 0.95

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over all states."""
        values = state_values(outputs)
        targets = lambda_returns(values, batch.rewards, batch.lengths, self.lambda_)
        where = within(batch.lengths + 1, values.shape[1])
        return mean_over((values - targets) ** 2, where), {}


@dataclass(frozen=True)
class LabelObjective(RewardObjective):
    """An objective whose targets lie in [0, 1]: the guide's scores are of no unit of the reward.

    Labelled prefixes are not asked: their mean rewards are no labels.
    """

    validated: ClassVar[Literal["error", "loss"]] = "loss"

    def rescaling(
        self, reward: RewardStatistics | None, spread: float, unit: Unit
    ) -> tuple[float, float]:
        """Scores stay as they were learnt."""
        return 1.0, 0.0


@dataclass(frozen=True)
class Fudge(LabelObjective):
    """L = mean_t BCE(sigmoid(f(s_t)), y): FUDGE's classifier of the response's label on prefixes.

    Yang and Klein 2021. The label may be soft: with y = exp((r - r_max) / tau) the score
    log sigmoid(f) learns log E[exp((r - r_max) / tau) | s], whose tilt at beta = 1 is the law
    pi_ref(y) exp(r(y) / tau) itself and not its first-order shadow. Decoded as log sigmoid(f).

    Attributes:
        threshold: responses with rewards above it are of the class; None is the mean reward.
        softness: tau, in units of the reward: labels are soft, instead of a class.
    """

    threshold: float | None = None
    softness: Annotated[float, above(0)] | None = None

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over all states; `batch.rewards` are the labels."""
        logits = state_values(outputs)
        labels = batch.rewards[:, None].expand_as(logits).to(logits)
        errors = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        where = within(batch.lengths + 1, logits.shape[1])
        return mean_over(errors, where), {}

    def target(self, known: RewardStatistics) -> Callable[[float], float]:
        """From a reward to the label."""
        return labels(known, self.threshold, self.softness)

    def prepare(self, groups: SplitGroups) -> Material:
        """Refuses responses that are all of one class."""
        material = super().prepare(groups)
        found = {row.target for example in material.train for row in example.rows}
        if len(found) == 1:
            raise DataError(
                "a classifier needs responses of both classes",
                got=f"the label {found.pop():g} for all",
                do="choose another threshold: --set threshold=...",
            )
        return material

    def wrap(self, guide: Guide[Any]) -> Guide[Any]:
        """The log-probability of the class."""
        return LogSigmoid(guide)

    def constant(self, rows: Rows) -> float:
        """The log-odds of the class, over all states."""
        p = super().constant([(label, states + 1) for label, states in rows])
        return torch.tensor(p, dtype=torch.float64).logit(eps=1e-9).item()


@dataclass(frozen=True)
class Rad(LabelObjective):
    """L = sum_t t (rho(s_t) - r)^2 / sum_t t: later prefixes weigh more.

    RAD's cumulative squared error (Deng and Raffel 2023, Eq. 2). Decoded clamped to [0, 1].
    """

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The mean over responses of the weighted error of prefixes of one token and more."""
        values = state_values(outputs)
        place = torch.arange(values.shape[1], device=values.device).to(values)
        weights = place * within(batch.lengths + 1, values.shape[1])
        errors = (values - batch.rewards[:, None].to(values)) ** 2
        each = (weights * errors).sum(1) / weights.sum(1).clamp(min=1)
        return each.mean(), {}

    def target(self, known: RewardStatistics) -> Callable[[float], float]:
        """From a reward to its place between the lowest and the highest."""
        return unit_interval(known)

    def wrap(self, guide: Guide[Any]) -> Guide[Any]:
        """Clamped to where targets lie."""
        return Clamp(guide, 0.0, 1.0)

    def constant(self, rows: Rows) -> float:
        """The mean target: the weights of a response's states sum to one."""
        return fmean(target for target, _ in rows)
