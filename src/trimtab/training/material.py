"""From groups and pairs to what an objective learns from: examples, held-out examples, a scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trimtab.errors import DataError
from trimtab.training.examples import (
    Example,
    Row,
    labelled_prefixes,
    longest,
    responses,
    too_long,
)
from trimtab.training.objectives import Objective, Rad
from trimtab.training.tally import Tally, total
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
        counts: what became of what was read.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    labelled: tuple[Example, ...]
    scale: Scale
    reward: RewardStatistics | None
    counts: tuple[Tally, ...] = ()


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

    def ready(found: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(_aimed(found, target))

    parts = [responses(groups, reward, max_length, share) for groups in (train, validation)]
    learnt, held = (ready(part) for part, _ in parts)
    _check_classes(objective, learnt)
    halves, tally = labelled_prefixes(() if objective.labels else labelled, reward, max_length)
    counts = [total([tally for _, tally in parts])] + ([tally] if tally.read else [])
    return Material(
        _some(learnt, "train"), _some(held, "hold out"), ready(halves), scale, known, tuple(counts)
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
    parts = [tuple(map(_pair, groups)) for groups in (train, validation)]
    fit, held = (tuple(e for e in part if longest(e) <= max_length) for part in parts)
    learnt = _some(fit, "train")
    if subset is not None:
        lengths = [(len(e.rows[0].tokens), len(e.rows[1].tokens)) for e in learnt]
        drawn = zip(learnt, subset(lengths), strict=True)
        learnt = tuple(replace(e, prefixes=p) for e, p in drawn if p)
    left_out = {
        too_long(max_length): sum(map(len, parts)) - len(fit) - len(held),
        "of which no prefix was drawn": len(fit) - len(learnt),
    }
    counts = Tally("pairs", len(learnt) + len(held)).after(left_out)
    return Material(learnt, _some(held, "hold out"), (), Scale(), None, (counts,))


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
