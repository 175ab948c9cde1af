"""What a config's data is, read and made ready: folders of groups, or files of preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

from trimtab.errors import UsageError
from trimtab.models.transformers import TransformersLM
from trimtab.training.config import TrainConfig
from trimtab.training.material import Material, from_pairs, from_rewards
from trimtab.training.objectives import Objective, PartialBradleyTerry
from trimtab.training.sources import (
    Collected,
    base_temperature,
    check_tokenizer,
    chosen_reward,
    collected,
    held_out,
    is_folder,
)
from trimtab.training.tally import Tally
from trimtab.types import Group

LABELLED = "of topics that the labels are of"
"""Why groups are left out where labels are given: their topics are for validation."""

SHARE = 4
"""Responses to a prompt that share its reading; more would make an update of few prompts."""


@dataclass(frozen=True)
class Data:
    """What was read.

    Attributes:
        material: examples.
        temperature: of the base policy that wrote the rollouts; None for texts of others.
        facts: what the guide's card says of it, as plain JSON types.
    """

    material: Material
    temperature: float | None
    facts: Mapping[str, Any]


def read_data(goal: Objective, config: TrainConfig, lm: TransformersLM) -> Data:
    """Read what an objective learns from.

    Raises:
        UsageError: preferences for an objective that learns rewards, or no reward named.
        DataError: nothing to learn from.
    """
    # Beyond its context a network is not the one that will be steered, and may have no positions.
    most = config.max_length if lm.context is None else min(config.max_length, lm.context)
    config = replace(config, max_length=most)
    folders = [source for source in config.data if is_folder(source)]
    if len(folders) == len(config.data):
        found = collected(config.data)
        check_tokenizer(found.about, lm.vocab)
        return _from_groups(goal, config, found)
    if folders or not goal.pairs:
        raise UsageError(
            "data must be folders of groups"
            + (", or files of preferences, not both" if goal.pairs else ""),
            got=", ".join(config.data),
            do="`trimtab collect` makes groups" if not goal.pairs else "train on one kind of them",
        )
    return _from_preferences(goal, config, lm)


def _from_groups(goal: Objective, config: TrainConfig, found: Collected) -> Data:
    groups, reward = chosen_reward(found.groups, config.reward)
    apart: set[str] = set()
    labelled: tuple[Group, ...] = ()
    if config.validation is not None:
        labelled, _ = chosen_reward(collected([config.validation]).groups, reward)
        apart = {group.topic for group in labelled}
    gone = [group for group in groups if group.topic in apart]
    learnt, kept = held_out([g for g in groups if g.topic not in apart], config.held_out)
    facts = {"groups": len(learnt), "reward": reward, "sources": list(found.about)}
    if goal.pairs:
        material = _made_pairs(goal, config, learnt, kept, reward)
        facts["pairs"] = len(material.train)
        lost = len(gone)
    else:
        material = from_rewards(
            goal,
            learnt,
            kept,
            labelled,
            reward,
            max_length=config.max_length,
            threshold=config.label_threshold,
            softness=config.label_softness,
            share=SHARE,
        )
        facts["responses"] = sum(len(example.rows) for example in material.train)
        lost = sum(len(group.responses) for group in gone)
    first, *others = material.counts
    counts = (first.after({LABELLED: lost}), *others)
    return Data(replace(material, counts=counts), base_temperature(found.about), facts)


def _made_pairs(
    goal: Objective,
    config: TrainConfig,
    learnt: Sequence[Group],
    kept: Sequence[Group],
    reward: str,
) -> Material:
    """Pairs by the margin of a reward; first counted is which groups gave some."""
    from trimtab.training.preferences import pairs_of

    pair = partial(
        pairs_of,
        reward=reward,
        margin=config.margin,
        per_group=config.pairs_per_group,
        seed=config.seed,
    )
    (train, some), (validation, others) = pair(learnt), pair(kept)
    of_groups = Tally("groups", some.kept + others.kept, (some + others).left_out)
    material = from_pairs(train, validation, _subset(goal, config), max_length=config.max_length)
    return replace(material, counts=(of_groups, *material.counts))


def _from_preferences(goal: Objective, config: TrainConfig, lm: TransformersLM) -> Data:
    from trimtab.training.preferences import clean, read_preferences, split

    read = [read_preferences(source, lm) for source in config.data]
    groups = [group for found, _ in read for group in found]
    kept, cleaned = clean(groups, max_tokens=config.max_length)
    dropped = reduce(add, (lost for _, lost in read)).then(cleaned)
    learnt, validation = split(kept, config.held_out, seed=config.seed)
    material = from_pairs(learnt, validation, _subset(goal, config), max_length=config.max_length)
    (of_pairs,) = material.counts
    material = replace(material, counts=(of_pairs.after(dropped.left_out),))
    return Data(material, None, {"pairs": len(material.train), "sources": list(config.data)})


def _subset(goal: Objective, config: TrainConfig) -> Any:
    """Which prefixes partial Bradley-Terry learns from; others learn from whole responses."""
    if not isinstance(goal, PartialBradleyTerry) or config.prefixes == "all":
        return None
    from trimtab.training.preferences import prefix_subset

    return partial(
        prefix_subset,
        multiple=config.prefixes,
        seed=config.seed,
        by_row=config.prefixes_by_row,
    )
