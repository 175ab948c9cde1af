"""From groups and pairs to what an objective learns from: examples, held-out examples, a scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trimtab.errors import DataError
from trimtab.training.examples import Example, Row, labelled_prefixes, responses
from trimtab.training.objectives import Objective, Rad
from trimtab.training.targets import (
    RewardStatistics,
    Scale,
    labels,
    standard,
    statistics,
    unit_interval,
)
from trimtab.types import Group


@dataclass(frozen=True)
class Material:
    """What a run learns from.

    Attributes:
        train: examples to learn from.
        validation: held-out examples, of other topics.
        labelled: prefixes with labels, where there are some.
        scale: from the reward to the network's unit.
        reward: the reward's statistics on the training responses; None for human preferences.
        dropped: examples that were left out, by reason.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    labelled: tuple[Example, ...]
    scale: Scale
    reward: RewardStatistics | None
    dropped: dict[str, int]


def from_rewards(
    objective: Objective,
    train: Sequence[Group],
    validation: Sequence[Group],
    labelled: Sequence[Group],
    reward: str,
    *,
    max_length: int,
    threshold: float | None = None,
    softness: float | None = None,
    share: int = 4,
) -> Material:
    """Material of objectives that learn a reward of single responses.

    Args:
        objective: decides whether rewards become labels in [0, 1], or standard scores.
        train: groups to learn from.
        validation: groups of other topics.
        labelled: half responses, completed several times.
        reward: which of their rewards.
        max_length: tokens of a prompt and a response.
        threshold: see `trimtab.training.targets.labels`.
        softness: likewise.
        share: responses to one prompt that are read together.

    Raises:
        DataError: there is nothing to learn from.
    """
    known = statistics(train, reward)
    scale, target = Scale(), labels(known, threshold, softness)
    if not objective.labels:
        scale = standard(known)
        target = scale
    elif isinstance(objective, Rad):
        scale = unit_interval(known)
        target = scale
    dropped: dict[str, int] = {}

    def ready(found: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(_cut(_aimed(found, target), max_length, dropped))

    parts = ready(responses(train, reward, share)), ready(responses(validation, reward, share))
    _check_classes(objective, parts[0])
    halves = () if objective.labels else ready(labelled_prefixes(labelled, reward))
    return Material(
        _some(parts[0], "train"), _some(parts[1], "hold out"), halves, scale, known, dropped
    )


def from_pairs(
    train: Sequence[Group],
    validation: Sequence[Group],
    subset: Callable[[Sequence[tuple[int, int]]], Sequence[tuple[int, ...]]] | None,
    *,
    max_length: int,
) -> Material:
    """Material of objectives that learn from pairs: groups of two, the chosen one first.

    Args:
        train: pairs to learn from.
        validation: pairs of other topics; all of their prefixes are asked.
        subset: of the pairs' lengths, which prefixes of each are trained on; None is all.
        max_length: tokens of a prompt and a response.

    Raises:
        DataError: there is nothing to learn from.
    """
    dropped: dict[str, int] = {}
    parts = [
        tuple(_cut([_pair(g) for g in groups], max_length, dropped))
        for groups in (train, validation)
    ]
    learnt = _some(parts[0], "train")
    if subset is not None:
        lengths = [(len(e.rows[0].tokens), len(e.rows[1].tokens)) for e in learnt]
        drawn = zip(learnt, subset(lengths), strict=True)
        learnt = tuple(replace(e, prefixes=p) for e, p in drawn if p)
    return Material(learnt, _some(parts[1], "hold out"), (), Scale(), None, dropped)


def _pair(group: Group) -> Example:
    chosen, rejected = group.responses
    rows = (Row(group.prefix + chosen.tokens, 1.0), Row(group.prefix + rejected.tokens, 0.0))
    return Example(group.prompt.ids, rows)


def _aimed(examples: Sequence[Example], target: Callable[[float], float]) -> list[Example]:
    """Examples whose rewards have become targets."""
    return [
        replace(e, rows=tuple(Row(row.tokens, target(row.target)) for row in e.rows))
        for e in examples
    ]


def _cut(examples: Sequence[Example], most: int, dropped: dict[str, int]) -> list[Example]:
    """Examples without a row that is too long; they are counted."""

    def longest(example: Example) -> int:
        return len(example.prompt) + max(len(row.tokens) for row in example.rows)

    kept = [e for e in examples if longest(e) <= most]
    if gone := len(examples) - len(kept):
        dropped["too long"] = dropped.get("too long", 0) + gone
    return kept


def _some(examples: Sequence[Example], what: str) -> tuple[Example, ...]:
    if not examples:
        raise DataError(
            f"there must be examples to {what}", got="none", do="collect more, of more topics"
        )
    return tuple(examples)


def _check_classes(objective: Objective, examples: Sequence[Example]) -> None:
    """Raise `DataError` where a classifier would see one class only."""
    if not objective.labels:
        return
    found = {row.target for example in examples for row in example.rows}
    if len(found) == 1:
        raise DataError(
            "a classifier needs responses of both classes",
            got=f"{len(found)} label, {found.pop():g}, for all",
            do="choose another label_threshold",
        )
