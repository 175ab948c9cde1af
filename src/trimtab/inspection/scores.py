"""A guide's scores of prefixes, and rewards as labels in their unit.

trained by                   score                      label
a value or Q objective       in the guide's unit        the reward in that unit
FUDGE                        log P, so exp(score)       the class, or exp((r - r_max) / tau)
RAD                          in [0, 1]                  (r - least) / (most - least)
pairs, ILQL, anything else   of no unit of the reward   the reward, by ranks only
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

from trimtab.decoding.forced import ROWS, OnRows, prefix_scores
from trimtab.errors import UsageError
from trimtab.guides import Manifest
from trimtab.guides.checkpoint import unwrap, wrap
from trimtab.protocols import Guide, LanguageModel
from trimtab.training.examples import RewardStatistics
from trimtab.training.objectives import Fudge, Objective, Rad, objective
from trimtab.types import Group, Prompt

FIRST, WHOLE = "first token", "100%"
SHARES = {"10%": 0.10, "25%": 0.25, "50%": 0.50, "75%": 0.75, WHOLE: 1.0}
POINTS = (FIRST, *SHARES)
"""Where a response is scored. Of the prompt alone a guide says nothing: it scores candidates."""


# --- units ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Units:
    """How scores and rewards become two numbers that should agree."""

    text: str  # what is compared, in words
    exact: bool  # whether both are of one unit; else only their order means something
    predicted: Callable[[float], float] = float  # of a score
    label: Callable[[float], float] = float  # of a reward
    summed: bool = False  # whether a prefix is worth the sum of its tokens' scores (GenARM)
    pairs: bool = False  # whether the guide ranks responses, and so is judged by pairs


def units_of(card: Manifest | None) -> Units:
    """What the scores of a saved guide are compared with; None is a guide that was not saved."""
    if card is None:
        return Units("score and reward, by ranks only", False, pairs=True)
    trained_by, statistics = _trained_by(card), _statistics(card)
    if trained_by is not None and trained_by.pairs:
        summed = card.head["kind"] == "log_probability"
        text = "sum of the tokens' scores" if summed else "score"
        text += " (log-odds of being preferred) and reward, by ranks only"
        return Units(text, False, summed=summed, pairs=True)
    if card.head["kind"] == "advantage":
        text = "advantage Q - V and reward, by ranks only: an advantage has no level"
        return Units(text, False)
    if any(transform["kind"] == "log_sigmoid" for transform in card.transforms):
        return _probability(card, statistics)
    if isinstance(trained_by, Rad) and statistics is not None:
        least, most = statistics.least, statistics.most
        text = f"score and (reward - {least:g}) / {most - least:g}"
        return Units(text, True, label=trained_by.target(statistics))
    if card.reward.get("unit") == "std" and statistics is not None:
        text = f"score and reward / {statistics.std:g}, the reward in its standard deviations"
        return Units(text, True, label=lambda reward: reward / statistics.std)
    return Units("score and reward", True)


def _trained_by(card: Manifest) -> Objective | None:
    """None where the card names none that is known here."""
    try:
        return objective(card.objective["name"], **card.objective.get("settings", {}))
    except (KeyError, UsageError):
        return None


def _statistics(card: Manifest) -> RewardStatistics | None:
    """None where the card does not hold them all."""
    names = [field.name for field in fields(RewardStatistics)]
    known: dict[str, Any] = {name: card.reward.get(name) for name in names}
    return None if None in known.values() else RewardStatistics(**known)


def _probability(card: Manifest, statistics: RewardStatistics | None) -> Units:
    """exp(score) against the frequency of the class, or the mean of the soft label."""
    if statistics is None:
        text = "exp(score) and reward, by ranks only: the card does not say which class"
        return Units(text, False, math.exp)
    settings: Mapping[str, Any] = card.objective.get("settings", {})
    threshold, tau = settings.get("threshold"), settings.get("softness")
    if tau is not None:
        most = statistics.most
        text = f"exp(score) and exp((min(reward, {most:g}) - {most:g}) / {tau:g})"
    else:
        bound = statistics.mean if threshold is None else threshold
        text = f"P = exp(score) and how often reward > {bound:g}"
    return Units(text, True, math.exp, Fudge(threshold, tau).target(statistics))


# --- scores --------------------------------------------------------------------------------------


def prefix_points(length: int) -> tuple[int, ...]:
    """How many of so many tokens each of `POINTS` is: shares rounded up, one at least.

    >>> prefix_points(30)
    (1, 3, 8, 15, 23, 30)
    >>> prefix_points(2)
    (1, 1, 1, 1, 2, 2)
    """
    return (1, *(math.ceil(round(share * length, 6)) for share in SHARES.values()))


@dataclass(frozen=True)
class Scoring:
    """What scores prefixes, and how."""

    guide: Guide[Any]
    lm: LanguageModel[Any]
    units: Units
    reward: str  # of the groups, which is predicted; "" where none is asked
    max_length: int  # of prompt and response, in tokens; longer ones are left out
    rows: int = ROWS  # responses that are read side by side
    seed: int = 0  # of the bootstrap
    on: OnRows | None = None  # told after each batch

    def scores(
        self, responses: Sequence[tuple[Prompt, tuple[int, ...]]], at: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """What the guide says of each response's prefixes, of so many tokens as `at` says."""
        prompts, tokens = [p for p, _ in responses], [y for _, y in responses]
        every = [range(1, max(points) + 1) for points in at] if self.units.summed else at
        scores = prefix_scores(
            self.guide, self.lm, prompts, tokens, every, rows=self.rows, on=self.on
        )
        if not self.units.summed:
            return scores
        sums = [list(accumulate(of_tokens)) for of_tokens in scores]
        return [[total[i - 1] for i in points] for total, points in zip(sums, at, strict=True)]

    def labels(self, group: Group) -> list[tuple[tuple[int, ...], float]]:
        """The responses that have the reward, and its label."""
        rewards = [(r.tokens, float(r.rewards.get(self.reward, math.nan))) for r in group.responses]
        return [(ids, self.units.label(reward)) for ids, reward in rewards if math.isfinite(reward)]

    def fits(self, group: Group, tokens: Sequence[int]) -> bool:
        """Whether prompt, prefix and these tokens are short enough."""
        return len(group.prompt.ids) + len(group.prefix) + len(tokens) <= self.max_length


def without_center(guide: Guide[Any]) -> Guide[Any]:
    """The guide without `Center`, which makes a single candidate's score zero."""
    inner, transforms = unwrap(guide)
    kept = [transform for transform in transforms if transform["kind"] != "center"]
    return guide if len(kept) == len(transforms) else wrap(inner, kept)
