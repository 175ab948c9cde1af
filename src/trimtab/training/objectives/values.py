"""Objectives that learn a reward: a number for each state, or for each next token; and returns.

A response of T tokens visits states s_0 (the prompt) to s_T (the finished response). The reward
comes once, at the end, and nothing is discounted.

Legend: B responses, S states of the longest (T + 1), T its tokens, V vocabulary, N any places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from trimtab.training.config import Unit
from trimtab.training.examples import (
    Batch,
    Material,
    Outputs,
    RewardStatistics,
    SplitGroups,
    next_scores,
    state_values,
    token_scores,
)
from trimtab.training.objectives.base import Head, Loss, Metrics, RewardObjective, Rows, Share

# --- returns -------------------------------------------------------------------------------------


def within(lengths: Int[Tensor, "B"], size: int) -> Bool[Tensor, "B S"]:
    """Which of `size` places come before each row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def mean_over(errors: Float[Tensor, "*N"], where: Bool[Tensor, "*N"]) -> Loss:
    """The mean of the errors at some places."""
    return errors.masked_fill(~where, 0.0).sum() / where.sum().clamp(min=1)


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


# --- one number for each state -------------------------------------------------------------------


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
        tau, most = self.softness, known.most
        if tau is not None:
            return lambda reward: math.exp((min(reward, most) - most) / tau)
        bound = known.mean if self.threshold is None else self.threshold
        return lambda reward: float(reward > bound)

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

    RAD's cumulative squared error (Deng and Raffel 2023, Eq. 2), on rewards from 0, the lowest, to
    1, the highest. Decoded clamped to [0, 1].
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
        return lambda reward: (reward - known.least) / (known.most - known.least)

    def wrap(self, guide: Guide[Any]) -> Guide[Any]:
        """Clamped to where targets lie."""
        return Clamp(guide, 0.0, 1.0)

    def constant(self, rows: Rows) -> float:
        """The mean target: the weights of a response's states sum to one."""
        return fmean(target for target, _ in rows)


# --- Q(s, v) of every next token (VAS, appendix B) -----------------------------------------------


@dataclass(frozen=True)
class QLearning(RewardObjective):
    """L = mean_t (Q(s_t, y_{t+1}) - G_t)^2, with G bootstrapped from Q itself.

    With lambda = 0 and an exact bootstrap this is CD-Q's one-step Bellman target of pi_ref.
    Tokens that no rollout chose have no target: their scores are whatever the head makes of them.

    Attributes:
        lambda_: in [0, 1].
        bootstrap: what stands for V(s_t) in the return: Q(s_t, y_{t+1}) of the token that came
            ("sampled", better in the paper), or sum_v pi_ref(v | s_t) Q(s_t, v) ("exact").
    """

    lambda_: Share = 0.95
    bootstrap: Literal["sampled", "exact"] = "sampled"
    head: ClassVar[Head] = "vocabulary"

    @property
    def reference(self) -> bool:
        """Whether it takes expectations under pi_ref."""
        return self.bootstrap == "exact"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over the tokens of all responses."""
        each = token_scores(outputs, batch)
        if self.bootstrap == "sampled":
            values = F.pad(each, (0, 1))  # s_T is never bootstrapped from
        else:
            assert batch.reference is not None, "an exact bootstrap needs log pi_ref"
            values = (batch.reference.exp() * next_scores(outputs).detach()).sum(-1)
        targets = lambda_returns(values, batch.rewards, batch.lengths, self.lambda_)[:, :-1]
        return mean_over((each - targets) ** 2, within(batch.lengths, each.shape[1])), {}


@dataclass(frozen=True)
class DuelingQ(QLearning):
    """The same on Q = V + A, with A zero at the start (Wang et al. 2016; VAS, appendix B)."""

    head: ClassVar[Head] = "dueling"


@dataclass(frozen=True)
class ValueAdvantage(RewardObjective):
    """Two regressions: V(s_t) on its lambda-return, and V(s_t) + A(s_t, y_{t+1}) on the next one's.

    Value Advantage Learning (VAS, appendix B): V is trained as a value is; A explains what is left,
    with V held fixed, so that a rare token's A stays near zero where nothing is known of it.

    Attributes:
        lambda_: in [0, 1].
    """

    lambda_: Share = 0.95
    head: ClassVar[Head] = "dueling"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The sum of both losses."""
        values = state_values(outputs)
        targets = lambda_returns(values, batch.rewards, batch.lengths, self.lambda_)
        value = mean_over((values - targets) ** 2, within(batch.lengths + 1, values.shape[1]))
        advantages = token_scores(outputs, batch) - values[:, :-1]
        errors = (advantages - (targets[:, :-1] - values[:, :-1]).detach()) ** 2
        advantage = mean_over(errors, within(batch.lengths, errors.shape[1]))
        return value + advantage, {"value": value.detach(), "advantage": advantage.detach()}


@dataclass(frozen=True)
class ILQL(RewardObjective):
    """Expectile V, one-step Q, and a conservative term (Snell et al. 2023), decoded as Q - V.

        L_V = mean_t |tau - 1[Q < V]| (Q(s_t, y_{t+1}) - V(s_t))^2
        L_Q = mean_t (Q(s_t, y_{t+1}) - V(s_{t+1}))^2, with r in place of V(s_T)
        L_C = mean_t (log sum_v exp Q(s_t, v) - Q(s_t, y_{t+1}))

    Without a slowly moving copy of Q; V is trained on Q as it stands.

    Attributes:
        tau: the expectile; 0.5 is the mean under the data, 1 the best token seen.
        conservatism: weight of L_C.
    """

    tau: Share = 0.7
    conservatism: float = 0.01
    head: ClassVar[Head] = "advantage"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The sum of the three."""
        values = state_values(outputs)
        if outputs.query is not None:  # Q = V + A through embeddings: Q's loss must not move V
            outputs = replace(outputs, values=values.detach())
        q = token_scores(outputs, batch)
        where = within(batch.lengths, q.shape[1])
        targets = lambda_returns(values, batch.rewards, batch.lengths, 0.0)[:, :-1]
        gap = q.detach() - values[:, :-1]
        expectile = mean_over(torch.where(gap < 0, 1 - self.tau, self.tau) * gap**2, where)
        bellman = mean_over((q - targets) ** 2, where)
        spread = next_scores(outputs)[:, :-1].logsumexp(-1) - q
        conservative = mean_over(spread, where)
        parts = {"expectile": expectile, "bellman": bellman, "conservative": conservative}
        loss = expectile + bellman + self.conservatism * conservative
        return loss, {name: part.detach() for name, part in parts.items()}
