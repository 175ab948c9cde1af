"""Returns: what a state is worth, by what came after it.

A response of T tokens visits states s_0 (the prompt) to s_T (the finished response). The reward
comes once, at the end, and nothing is discounted.

Legend: B responses, S states of the longest one (T + 1), T its tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.errors import UsageError


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
