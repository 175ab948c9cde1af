"""What responses are regressed on: rewards in the network's own unit, or labels in [0, 1].

A network that learns rewards in units of their spread needs no learning rate of its own for each
reward. What it learnt is put back into the reward's unit when the guide is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev, variance
from typing import Any

from trimtab.errors import DataError
from trimtab.types import Group


@dataclass(frozen=True)
class RewardStatistics:
    """What is known of a reward on the rollouts that a guide was trained on.

    Attributes:
        name: of the reward.
        n: responses.
        mean: over them.
        std: over them, with n - 1 in the denominator.
        within: standard deviation among the responses to one prompt, root mean square over prompts.
        least: the lowest.
        most: the highest.
    """

    name: str
    n: int
    mean: float
    std: float
    within: float
    least: float
    most: float

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def statistics(groups: Sequence[Group], reward: str) -> RewardStatistics:
    """The statistics of a reward.

    Raises:
        DataError: no response has the reward, or all have the same.
    """
    by_group = [
        [float(r.rewards[reward]) for r in group.responses if reward in r.rewards]
        for group in groups
    ]
    scores = [score for group in by_group for score in group]
    if not scores:
        names = sorted({name for group in groups for r in group.responses for name in r.rewards})
        raise DataError(
            f"responses must have the reward {reward!r}",
            got=f"rewards {', '.join(names) or 'of no name'}",
            do="name one of those, or add it with `trimtab collect --relabel`",
        )
    bad = next((score for score in scores if not math.isfinite(score)), None)
    if bad is not None:
        raise DataError(
            "rewards must be finite numbers", got=f"{bad} for {reward!r}", do="relabel the groups"
        )
    if len(set(scores)) == 1:
        raise DataError(
            "there must be better and worse responses to learn from",
            got=f"{len(scores)} responses, all of reward {scores[0]:g}",
            do="collect more, or choose a reward that tells them apart",
        )
    several = [variance(group) for group in by_group if len(group) > 1]
    return RewardStatistics(
        name=reward,
        n=len(scores),
        mean=fmean(scores),
        std=stdev(scores),
        within=math.sqrt(fmean(several)) if several else 0.0,
        least=min(scores),
        most=max(scores),
    )


@dataclass(frozen=True)
class Scale:
    """The network's unit: target = (reward - shift) / size."""

    shift: float
    size: float

    def __call__(self, reward: float) -> float:
        """A reward as the network learns it."""
        return (reward - self.shift) / self.size


def standard(known: RewardStatistics) -> Scale:
    """Rewards with mean 0 and standard deviation 1."""
    return Scale(known.mean, known.std)


def unit_interval(known: RewardStatistics) -> Scale:
    """Rewards from 0, the lowest, to 1, the highest (RAD)."""
    return Scale(known.least, known.most - known.least)


def labels(
    known: RewardStatistics, threshold: float | None, softness: float | None
) -> Callable[[float], float]:
    """FUDGE's label of a response, from its reward.

    Args:
        known: the reward's statistics.
        threshold: rewards above it are of the class; None is the mean.
        softness: tau, in units of the reward: the label is exp((r - r_max) / tau) instead.
    """
    if softness is not None:
        return lambda reward: math.exp((min(reward, known.most) - known.most) / softness)
    bound = known.mean if threshold is None else threshold
    return lambda reward: float(reward > bound)
