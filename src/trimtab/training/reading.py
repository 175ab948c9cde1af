"""What a config's data is, read and made ready: folders of groups, or files of preferences."""

from __future__ import annotations

from collections.abc import Mapping
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
from trimtab.types import Group

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
    labelled: tuple[Group, ...] = ()
    if config.validation is not None:
        labelled, _ = chosen_reward(collected([config.validation]).groups, reward)
        apart = {group.topic for group in labelled}
        groups = tuple(group for group in groups if group.topic not in apart)
    learnt, kept = held_out(groups, config.held_out)
    facts = {
        "groups": len(learnt),
        "responses": sum(len(g.responses) for g in learnt),
        "reward": reward,
        "sources": list(found.about),
    }
    if goal.pairs:
        from trimtab.training.preferences import pairs_of

        pair = partial(
            pairs_of,
            reward=reward,
            margin=config.margin,
            per_group=config.pairs_per_group,
            seed=config.seed,
        )
        material = from_pairs(
            pair(learnt)[0], pair(kept)[0], _subset(goal, config), max_length=config.max_length
        )
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
    return Data(material, base_temperature(found.about), facts)


def _from_preferences(goal: Objective, config: TrainConfig, lm: TransformersLM) -> Data:
    from trimtab.training.preferences import clean, read_preferences, split

    read = [read_preferences(source, lm) for source in config.data]
    groups = [group for found, _ in read for group in found]
    kept, cleaned = clean(groups, max_tokens=config.max_length)
    dropped = reduce(add, (lost for _, lost in read)).then(cleaned)
    learnt, validation = split(kept, config.held_out, seed=config.seed)
    material = from_pairs(learnt, validation, _subset(goal, config), max_length=config.max_length)
    material = replace(material, dropped={**dropped.as_dict(), **material.dropped})
    return Data(material, None, {"pairs": len(learnt), "sources": list(config.data)})


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
