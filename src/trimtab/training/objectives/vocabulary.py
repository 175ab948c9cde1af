"""Objectives of heads over the vocabulary: Q(s, v) of every next token (VAS, appendix B).

Legend: B responses, S states of the longest (T + 1), T its tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trimtab.errors import UsageError, check_word
from trimtab.training.batches import Batch, Outputs, next_scores, state_values, token_scores
from trimtab.training.objectives.base import Head, Loss, Metrics, RewardObjective, Share
from trimtab.training.objectives.values import expectation, lambda_returns, mean_over, within

Bootstrap = Literal["sampled", "exact"]


def q_targets(
    outputs: Outputs, batch: Batch, bootstrap: Bootstrap, lambda_: float
) -> Float[Tensor, "B T"]:
    """The lambda-return of each response token, bootstrapped from Q.

    What stands for V(s_t) is Q(s_t, y_{t+1}) of the token that came ("sampled"), or the sum
    over v of pi_ref(v | s_t) Q(s_t, v) ("exact").
    """
    check_word("bootstrap", bootstrap, Bootstrap)
    if bootstrap == "sampled":
        values = F.pad(token_scores(outputs, batch), (0, 1))  # s_T is never bootstrapped from
    elif batch.reference is None:
        raise UsageError(
            "an exact bootstrap needs log pi_ref", got="a batch without it", do="add reference"
        )
    else:
        values = expectation(next_scores(outputs), batch.reference)
    return lambda_returns(values, batch.rewards, batch.lengths, lambda_)[:, :-1]


@dataclass(frozen=True)
class QLearning(RewardObjective):
    """L = mean_t (Q(s_t, y_{t+1}) - G_t)^2, with G bootstrapped from Q itself.

    With lambda = 0 and an exact bootstrap this is CD-Q's one-step Bellman target of pi_ref.
    Tokens that no rollout chose have no target: their scores are whatever the head makes of them.

    Attributes:
        lambda_: in [0, 1].
        bootstrap: "sampled" (better in the paper) or "exact".
    """

    lambda_: Share = 0.95
    bootstrap: Bootstrap = "sampled"
    head: ClassVar[Head] = "vocabulary"

    @property
    def reference(self) -> bool:
        """Whether it takes expectations under pi_ref."""
        return self.bootstrap == "exact"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss over the tokens of all responses."""
        targets = q_targets(outputs, batch, self.bootstrap, self.lambda_)
        each = token_scores(outputs, batch)
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
        values, q = state_values(outputs), token_scores(outputs, batch)
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
