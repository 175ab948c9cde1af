"""What an objective is: a loss, and all that a training must know of it, in one class.

A new objective is a class with a loss (`__call__`) that inherits from `RewardObjective` or
`PairObjective`, and a name in `trimtab.training.objectives.OBJECTIVES`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, stdev, variance
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from trimtab.errors import DataError
from trimtab.protocols import Guide
from trimtab.schema import above, check_settings, whole
from trimtab.training.config import Unit
from trimtab.training.examples import (
    Batch,
    Example,
    KeptCounts,
    Material,
    Outputs,
    RewardStatistics,
    Row,
    SplitGroups,
)
from trimtab.training.preferences.pairs import pairs_of
from trimtab.types import Group

Head: TypeAlias = Literal["scalar", "vocabulary", "dueling", "advantage", "causal"]
"""What the network says: V(s); a score of every next token (plain, dueling, beside a V of its own);
or a causal LM's own outputs."""

Share: TypeAlias = Annotated[float, above(0, equal=True, most=1)]
"""A number in [0, 1]."""

Loss: TypeAlias = Float[Tensor, ""]
Metrics: TypeAlias = dict[str, Float[Tensor, ""]]

Rows: TypeAlias = Sequence[tuple[float, int]]
"""Each response's target, and how many of its states are asked."""

Kept: TypeAlias = tuple[tuple[Example, ...], KeptCounts]
"""Examples, and what became of all that was read."""


@dataclass(frozen=True)
class Objective(ABC):
    """`(outputs, batch) -> (loss, metrics)`: no state, no model, no random number.

    Its fields are the parameters that a config's `settings` name. The other methods say how groups
    become examples, what the guide's scores are, and when a training was worth nothing.

    Attributes:
        head: which network it trains.
        pairs: whether batches are pairs (chosen, rejected); else responses with rewards.
        share: prompts' responses that are read together, as one example.
        validated: what decides which weights are best: the squared "error" of the score after every
            token, or the "loss" itself.
    """

    head: ClassVar[Head] = "scalar"
    pairs: ClassVar[bool]
    share: ClassVar[int]
    validated: ClassVar[Literal["error", "loss"]] = "error"

    def __post_init__(self) -> None:
        kind = type(self)
        check_settings(kind, vars(self), of=f"a parameter of {kind.__name__}", do="correct it")

    @abstractmethod
    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Loss, Metrics]:
        """The loss, and what else is worth a line in the log."""

    @property
    def reference(self) -> bool:
        """Whether batches must carry log pi_ref of every next token."""
        return False

    @abstractmethod
    def prepare(self, groups: SplitGroups) -> Material:
        """The examples that it learns from; a `DataError` where there is nothing to learn."""

    def constant(self, rows: Rows) -> float:
        """The best number to say of every text: what a scalar head begins with.

        A guide whose validation error is not below that of this number knows nothing.
        """
        return 0.0

    def wrap(self, guide: Guide[Any]) -> Guide[Any]:
        """The guide whose scores decoding uses, of the one that says what the network says."""
        return guide

    @abstractmethod
    def rescaling(
        self, reward: RewardStatistics | None, spread: float, unit: Unit
    ) -> tuple[float, float]:
        """From the network's unit to the guide's: (size, shift) of `size * score + shift`.

        `spread` is the standard deviation of the trained network's scores of finished responses.
        """


# --- rewards of single responses -----------------------------------------------------------------


@dataclass(frozen=True)
class RewardObjective(Objective):
    """An objective that regresses on a reward of single responses, in its standard deviations.

    So no reward needs a learning rate of its own.
    """

    pairs: ClassVar[bool] = False
    share: ClassVar[int] = 4  # more would make an update of few prompts

    def target(self, known: RewardStatistics) -> Callable[[float], float]:
        """From a reward to what the network regresses on."""
        return lambda reward: (reward - known.mean) / known.std

    def prepare(self, groups: SplitGroups) -> Material:
        """Every response with the reward is learnt from."""
        reward, longest = groups.reward, groups.max_length
        assert reward is not None, "people's preferences are for objectives of pairs"
        known = statistics(groups.train, reward)
        target = self.target(known)
        (train, some), (validation, others) = (
            scored(side, reward, target, longest, self.share)
            for side in (groups.train, groups.validation)
        )
        if not groups.labelled or self.validated == "loss":
            return Material(train, validation, (some + others,), reward=known)
        labelled, of_labels = labelled_prefixes(groups.labelled, reward, target, longest)
        return Material(train, validation, (some + others, of_labels), labelled, known)

    def rescaling(
        self, reward: RewardStatistics | None, spread: float, unit: Unit
    ) -> tuple[float, float]:
        """Into the reward's unit, or its standard deviations; zero stays the reward's zero."""
        assert reward is not None, "it was trained on a reward"
        if unit == "std":
            return 1.0, reward.mean / reward.std
        return reward.std, reward.mean

    def constant(self, rows: Rows) -> float:
        """The mean target over all states: it has the least squared error."""
        return fmean([target for target, _ in rows], [states for _, states in rows])


def statistics(groups: Sequence[Group], reward: str) -> RewardStatistics:
    """The statistics of a reward; a `DataError` where it tells no response from another."""
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
    within = math.sqrt(fmean(several)) if several else 0.0
    n, mean, std = len(scores), fmean(scores), stdev(scores)
    return RewardStatistics(reward, n, mean, std, within, min(scores), max(scores))


def scored(
    groups: Sequence[Group],
    reward: str,
    target: Callable[[float], float],
    max_length: int,
    share: int,
) -> Kept:
    """Every response that has the reward and is short enough, `share` of a prompt together."""
    examples: list[Example] = []
    reasons: Counter[str] = Counter()
    for group in groups:
        rows = []
        for response in group.responses:
            tokens = group.prefix + response.tokens
            if reward not in response.rewards:
                reason = "without the reward"
            elif not tokens:
                reason = "without a token"
            else:
                reason = _too_long(group, tokens, max_length)
            if not reason:
                rows.append(Row(tokens, target(float(response.rewards[reward]))))
            reasons[reason] += 1
        parts = (rows[i : i + share] for i in range(0, len(rows), share))
        examples += [Example(group.prompt.ids, tuple(part)) for part in parts]
    return tuple(examples), KeptCounts("responses", reasons.pop("", 0), reasons)


def labelled_prefixes(
    groups: Sequence[Group], reward: str, target: Callable[[float], float], max_length: int
) -> Kept:
    """Half responses with the mean reward of their completions, to validate values on."""
    examples: list[Example] = []
    reasons: Counter[str] = Counter()
    for group in groups:
        scores = [float(r.rewards[reward]) for r in group.responses if reward in r.rewards]
        if not group.prefix:
            reason = "without a prefix"
        elif not scores:
            reason = "without the reward"
        else:
            reason = _too_long(group, group.prefix, max_length)
        if not reason:
            row = Row(group.prefix, target(fmean(scores)))
            examples.append(Example(group.prompt.ids, (row,)))
        reasons[reason] += 1
    return tuple(examples), KeptCounts("labels", reasons.pop("", 0), reasons)


def _too_long(group: Group, tokens: Sequence[int], max_length: int) -> str:
    """Why a response is left out, in words; "" where it is short enough."""
    too_long = len(group.prompt.ids) + len(tokens) > max_length
    return f"longer than {max_length} tokens with the prompt" if too_long else ""


# --- pairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PairObjective(Objective):
    """An objective that learns from pairs: rows 2i and 2i + 1 are the chosen and the rejected one.

    Attributes:
        margin: least difference of the rewards of a pair that is made from groups.
        pairs_per_group: how many pairs a group gives; None is all.
    """

    margin: Annotated[float, above(0, equal=True)] = 0.0
    pairs_per_group: Annotated[int, whole(1)] | None = 4
    pairs: ClassVar[bool] = True
    share: ClassVar[int] = 1
    validated: ClassVar[Literal["error", "loss"]] = "loss"

    def prepare(self, groups: SplitGroups) -> Material:
        """People's pairs as they are; of other groups, pairs by the reward."""
        sides, counts = [groups.train, groups.validation], []
        if groups.reward is not None:
            by_reward = partial(
                pairs_of,
                reward=groups.reward,
                margin=self.margin,
                per_group=self.pairs_per_group,
                seed=groups.seed,
            )
            made = [by_reward(side) for side in sides]
            sides = [pairs for pairs, _ in made]
            counts.append(made[0][1] + made[1][1])
        (train, some), (validation, others) = (paired(side, groups.max_length) for side in sides)
        return Material(train, validation, (*counts, some + others))

    def rescaling(
        self, reward: RewardStatistics | None, spread: float, unit: Unit
    ) -> tuple[float, float]:
        """A difference of scores is log-odds of being preferred; it has no unit of a reward."""
        return (1 / spread if unit == "std" and spread else 1.0), 0.0


def paired(pairs: Sequence[Group], max_length: int) -> Kept:
    """Groups of two, the chosen response first, as examples."""
    examples: list[Example] = []
    reasons: Counter[str] = Counter()
    for group in pairs:
        chosen, rejected = (group.prefix + response.tokens for response in group.responses)
        reason = _too_long(group, max(chosen, rejected, key=len), max_length)
        if not reason:
            examples.append(Example(group.prompt.ids, (Row(chosen, 1.0), Row(rejected, 0.0))))
        reasons[reason] += 1
    return tuple(examples), KeptCounts("pairs", reasons.pop("", 0), reasons)
