"""What an objective is: a loss, and all that a training must know of it, in one class.

A new objective is a class with a loss (`__call__`) that inherits from `RewardObjective` or
`PairObjective`, and a name in `trimtab.training.objectives.OBJECTIVES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from jaxtyping import Float
from torch import Tensor

from trimtab.protocols import Guide
from trimtab.schema import above, check_settings, whole
from trimtab.training.batches import Batch, Outputs
from trimtab.training.config import Unit
from trimtab.training.examples import (
    Example,
    Material,
    SplitGroups,
    labelled_prefixes,
    paired,
    scored,
)
from trimtab.training.preferences.pairs import pairs_of
from trimtab.training.targets import RewardStatistics, standard, statistics

Head: TypeAlias = Literal["scalar", "vocabulary", "dueling", "advantage", "causal"]
"""What the network says: V(s); a score of every next token (plain, dueling, beside a V of its own);
or a causal LM's own outputs."""

Share: TypeAlias = Annotated[float, above(0, equal=True, most=1)]
"""A number in [0, 1]."""

Loss: TypeAlias = Float[Tensor, ""]
Metrics: TypeAlias = dict[str, Float[Tensor, ""]]

Rows: TypeAlias = Sequence[tuple[float, int]]

SHARE = 4
"""Responses to a prompt that share its reading; more would make an update of few prompts."""


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
        """The examples that it learns from.

        Raises:
            DataError: there is nothing to learn from.
        """

    def constant(self, rows: Rows) -> float:
        """The best number to say of every text: what a scalar head begins with.

        A guide whose validation error is not below that of this number knows nothing.

        Args:
            rows: each response's target, and how many of its states are asked.
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

        Args:
            reward: the statistics of the reward that was learnt.
            spread: standard deviation of the trained network's scores of finished responses.
            unit: of the guide's scores.
        """


@dataclass(frozen=True)
class RewardObjective(Objective):
    """An objective that regresses on a reward of single responses, in its standard deviations."""

    pairs: ClassVar[bool] = False
    share: ClassVar[int] = SHARE

    def target(self, known: RewardStatistics) -> Callable[[float], float]:
        """From a reward to what the network regresses on."""
        return standard(known)

    def prepare(self, groups: SplitGroups) -> Material:
        """Every response with the reward is learnt from."""
        reward, longest = groups.reward, groups.max_length
        assert reward is not None, "people's preferences are for objectives of pairs"
        known = statistics(groups.train, reward)
        target = self.target(known)
        (train, some), (validation, others) = (
            scored(side, reward, target, max_length=longest, share=self.share)
            for side in (groups.train, groups.validation)
        )
        counts = [some + others]
        halves: tuple[Example, ...] = ()
        if groups.labelled and self.validated == "error":
            halves, of_labels = labelled_prefixes(
                groups.labelled, reward, target, max_length=longest
            )
            counts.append(of_labels)
        return Material(train, validation, tuple(counts), halves, known)

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
            made = [
                pairs_of(
                    side,
                    groups.reward,
                    margin=self.margin,
                    per_group=self.pairs_per_group,
                    seed=groups.seed,
                )
                for side in sides
            ]
            sides = [pairs for pairs, _ in made]
            counts.append(made[0][1] + made[1][1])
        (train, some), (validation, others) = (
            paired(side, max_length=groups.max_length) for side in sides
        )
        return Material(train, validation, (*counts, some + others))

    def rescaling(
        self, reward: RewardStatistics | None, spread: float, unit: Unit
    ) -> tuple[float, float]:
        """A difference of scores is log-odds of being preferred; it has no unit of a reward."""
        return (1 / spread if unit == "std" and spread else 1.0), 0.0
