"""What a guide's score is compared with: by its objective, its transforms and its unit.

trained by                   score                      label
a value or Q objective       in the guide's unit        the reward in that unit
FUDGE                        log P, so exp(score)       the class, or exp((r - r_max) / tau)
RAD                          in [0, 1]                  (r - least) / (most - least)
pairs, ILQL, anything else   of no unit of the reward   the reward, by ranks only
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from trimtab.errors import UsageError
from trimtab.guides import Manifest
from trimtab.guides.transforms import unwrap, wrap
from trimtab.protocols import Guide
from trimtab.training.objectives import Objective, Rad, objective
from trimtab.training.targets import RewardStatistics, labels, unit_interval

Number = Callable[[float], float]


@dataclass(frozen=True)
class Comparison:
    """How scores and rewards become two numbers that should agree.

    Attributes:
        said: in words.
        exact: whether both are of one unit; else only their order means something.
        predicted: of a score.
        label: of a reward.
        summed: whether a prefix is worth the sum of its tokens' scores (GenARM).
        pairs: whether the guide ranks responses, and so is judged by pairs.
    """

    said: str
    exact: bool
    predicted: Number
    label: Number
    summed: bool = False
    pairs: bool = False


def same(value: float) -> float:
    """The number as it is."""
    return value


def compare(card: Manifest | None) -> Comparison:
    """What the scores of a saved guide are compared with; None is a reward model of others."""
    if card is None:
        return Comparison("score and reward, by ranks only", False, same, same, pairs=True)
    goal = objective_of(card)
    if goal is not None and goal.pairs:
        return _ranked(card)
    if card.head["kind"] == "advantage":
        said = "advantage Q - V and reward, by ranks only: an advantage has no level"
        return Comparison(said, False, same, same)
    kinds = [transform["kind"] for transform in card.transforms]
    known = statistics_of(card)
    if "log_sigmoid" in kinds:
        return _probability(card, known)
    if isinstance(goal, Rad) and known is not None:
        said = f"score and (reward - {known.least:g}) / {known.most - known.least:g}"
        return Comparison(said, True, same, unit_interval(known))
    if card.reward.get("unit") == "std" and known is not None:
        said = f"score and reward / {known.std:g}, the reward in its standard deviations"
        return Comparison(said, True, same, lambda reward: reward / known.std)
    return Comparison("score and reward", True, same, same)


def objective_of(card: Manifest) -> Objective | None:
    """The objective that a card names; None where it names none that is known here."""
    try:
        return objective(card.objective["name"], **card.objective.get("settings", {}))
    except (KeyError, UsageError):
        return None


def statistics_of(card: Manifest) -> RewardStatistics | None:
    """The statistics of the reward that a card holds, where it holds them all."""
    names = [f.name for f in fields(RewardStatistics)]
    reward: Mapping[str, Any] = card.reward
    if any(reward.get(name) is None for name in names):
        return None
    return RewardStatistics(**{name: reward[name] for name in names})


def without_center(guide: Guide[Any]) -> Guide[Any]:
    """The guide without `Center`, which makes a single candidate's score zero."""
    inner, transforms = unwrap(guide)
    kept = [transform for transform in transforms if transform["kind"] != "center"]
    return guide if len(kept) == len(transforms) else wrap(inner, kept)


def _ranked(card: Manifest) -> Comparison:
    summed = card.head["kind"] == "log_probability"
    said = "sum of the tokens' scores" if summed else "score"
    said += " (log-odds of being preferred) and reward, by ranks only"
    return Comparison(said, False, same, same, summed=summed, pairs=True)


def _probability(card: Manifest, known: RewardStatistics | None) -> Comparison:
    """exp(score) against the frequency of the class, or the mean of the soft label."""
    if known is None:
        said = "exp(score) and reward, by ranks only: the card does not say which class"
        return Comparison(said, False, math.exp, same)
    settings: Mapping[str, Any] = card.objective.get("settings", {})
    threshold, tau = settings.get("threshold"), settings.get("softness")
    if tau is not None:
        said = f"exp(score) and exp((min(reward, {known.most:g}) - {known.most:g}) / {tau:g})"
    else:
        bound = known.mean if threshold is None else threshold
        said = f"P = exp(score) and how often reward > {bound:g}"
    return Comparison(said, True, math.exp, labels(known, threshold, tau))
