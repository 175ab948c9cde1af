"""What a config's data is, read and made ready: folders of groups, or files of preferences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from hashlib import sha256
from operator import add
from pathlib import Path
from typing import Any

from trimtab.errors import DataError, IncompatibleError, UsageError
from trimtab.models.transformers import TransformersLM
from trimtab.rewards import parse
from trimtab.runs.groups import read_groups
from trimtab.runs.record import read_manifest
from trimtab.tasks import split_of
from trimtab.training.config import TrainConfig
from trimtab.training.examples import KeptCounts, Material, SplitGroups
from trimtab.training.objectives import Objective
from trimtab.training.preferences import clean, read_preferences
from trimtab.types import Group, Vocab

LABELLED = "of topics that the labels are of"
"""Why groups are left out where labels are given: their topics are for validation."""


def read_data(objective: Objective, config: TrainConfig, lm: TransformersLM) -> Material:
    """Read what an objective learns from.

    Raises:
        UsageError: preferences for an objective that learns rewards, or no reward named.
        DataError: nothing to learn from.
    """
    # Beyond its context a network is not the one that will be steered, and may have no positions.
    length = config.max_length if lm.context is None else min(config.max_length, lm.context)
    folders = [source for source in config.data if is_folder(source)]
    if len(folders) == len(config.data):
        return _from_groups(objective, config, lm.vocab, length)
    if folders or not objective.pairs:
        raise UsageError(
            "data must be folders of groups"
            + (", or files of preferences, not both" if objective.pairs else ""),
            got=", ".join(config.data),
            do="train on one kind of them" if objective.pairs else "`trimtab collect` makes groups",
        )
    return _from_preferences(objective, config, lm, length)


def _from_groups(objective: Objective, config: TrainConfig, vocab: Vocab, length: int) -> Material:
    collected = read_folders(config.data)
    check_tokenizer(collected.about, vocab)
    groups, reward = chosen_reward(collected.groups, config.learn)
    labelled: tuple[Group, ...] = ()
    if config.validation is not None:
        labelled, _ = chosen_reward(read_folders([config.validation]).groups, reward)
    others, gone = _apart(groups, {group.topic for group in labelled})
    train, validation = hold_out(others, config.held_out, seed=config.seed)
    material = objective.prepare(
        SplitGroups(train, validation, labelled, reward, length, config.seed)
    )
    lost = len(gone) if objective.pairs else sum(len(group.responses) for group in gone)
    first, *rest = material.counts
    responses = sum(len(example.rows) for example in material.train)
    learnt = {"pairs": len(material.train)} if objective.pairs else {"responses": responses}
    sources = list(collected.about)
    return replace(
        material,
        counts=(KeptCounts(first.what, 0, {LABELLED: lost}) + first, *rest),
        temperature=base_temperature(collected.about),
        facts={"groups": len(train), "reward": reward, "sources": sources, **learnt},
    )


def _from_preferences(
    objective: Objective, config: TrainConfig, lm: TransformersLM, length: int
) -> Material:
    read = [read_preferences(source, lm) for source in config.data]
    of_rows = reduce(add, (counts for _, counts in read))
    pairs, of_pairs = clean([pair for part, _ in read for pair in part], max_tokens=length)
    train, validation = split(pairs, config.held_out, seed=config.seed)
    material = objective.prepare(
        SplitGroups(train, validation, max_length=length, seed=config.seed)
    )
    (counts,) = material.counts
    counts = counts.after(of_pairs.after(of_rows.left_out).left_out)
    facts = {"pairs": len(material.train), "sources": list(config.data)}
    return replace(material, counts=(counts,), facts=facts)


# --- folders of groups ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Collected:
    """Groups of several folders, and what their manifests say of the job, folder by folder."""

    groups: tuple[Group, ...]
    about: tuple[Mapping[str, Any], ...]


def is_folder(source: str) -> bool:
    """Whether a source is a folder of groups; else it is a file of preferences."""
    return (Path(source) / "manifest.json").is_file()


def read_folders(folders: Sequence[str]) -> Collected:
    """The groups of folders; a `DataError` where one is not there, or not complete."""
    groups = tuple(group for folder in folders for group in read_groups(folder, ledger=False))
    return Collected(groups, tuple(read_manifest(folder)["about"] for folder in folders))


def chosen_reward(groups: Sequence[Group], name: str | None) -> tuple[tuple[Group, ...], str]:
    """The groups with the reward that is learnt, and its name.

    A sum such as "sentiment + 0.5*similarity" is added to every response that has all of its terms;
    None is the only reward that there is.
    """
    names = sorted({name for group in groups for r in group.responses for name in r.rewards})
    if name is None:
        if len(names) == 1:
            return tuple(groups), names[0]
        raise UsageError(
            "the reward to learn must be named where there is not exactly one",
            got=", ".join(names) or "no reward at all",
            do="add --learn NAME, or a sum such as --learn 'sentiment + 0.5*similarity'",
        )
    total = parse(name)
    if name in names or total is None:
        return tuple(groups), name
    missing = [term for _, term in total.terms if term not in names]
    if missing:
        raise DataError(
            f"every term of {name!r} must be a reward of the groups",
            got=f"no {', '.join(missing)} among {', '.join(names)}",
            do="add it with `trimtab collect --relabel`",
        )
    return tuple(_with_sum(group, total.terms, name) for group in groups), name


def _with_sum(group: Group, terms: Sequence[tuple[float, str]], name: str) -> Group:
    responses = []
    for response in group.responses:
        rewards = dict(response.rewards)
        if all(term in rewards for _, term in terms):
            rewards[name] = sum(weight * rewards[term] for weight, term in terms)
        responses.append(replace(response, rewards=rewards))
    return replace(group, responses=tuple(responses))


def base_temperature(about: Sequence[Mapping[str, Any]]) -> float | None:
    """The temperature of the one policy that wrote the groups; None where it is not known."""
    found = {a.get("model", {}).get("base_temperature") for a in about} - {None}
    if len(found) > 1:
        raise DataError(
            "a value is of one policy: all rollouts must be of the same base temperature",
            got=", ".join(map(str, sorted(found))),
            do="train on folders of one temperature",
        )
    return found.pop() if found else None


def check_tokenizer(about: Sequence[Mapping[str, Any]], vocab: Vocab) -> None:
    """Raise `IncompatibleError` unless the groups' ids mean the base's tokens."""
    for job in about:
        theirs = job.get("model", {}).get("tokenizer")
        if theirs and vocab.fingerprint and theirs != vocab.fingerprint:
            raise IncompatibleError(
                "groups must be of the tokenizer of the base that the guide is made from",
                got=f"fingerprint {theirs} against the base's {vocab.fingerprint}",
                do="name the model that wrote them with --model, or collect anew",
            )


# --- what is held out ----------------------------------------------------------------------------

Sides = tuple[tuple[Group, ...], tuple[Group, ...]]


def hold_out(groups: Sequence[Group], share: float, *, seed: int = 0) -> Sides:
    """Groups to learn from and groups to validate on, apart by topic.

    Topics that a task keeps for validation are held out as they are; where there are none, or no
    others, a share of all topics is.
    """
    topics = {group.topic for group in groups}
    named = {topic for topic in topics if split_of(topic) == "validation"}
    return _apart(groups, named) if named and named != topics else split(groups, share, seed=seed)


def split(groups: Sequence[Group], share: float = 0.1, *, seed: int = 0) -> Sides:
    """Groups to learn from and groups to validate on, apart by the hash of their topics.

    Where a topic goes depends on the topic and the seed alone: it stays when others come or go, and
    the share is met on average. Only where a side would be empty, the one topic whose hash is
    nearest to the border goes there.

    Args:
        groups: any, pairs or not.
        share: of topics to validate on, between 0 and 1.
        seed: another one gives another split.

    Raises:
        DataError: there are not two topics.
        UsageError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise UsageError(
            "the share of validation must be between 0 and 1", got=f"{share}", do="pass 0.1"
        )
    places = {group.topic: _place(group.topic, seed) for group in groups}
    if len(places) < 2:
        raise DataError(
            "groups must be of two topics at least, to hold one out",
            got="one topic" if places else "none",
            do="bring groups of more topics",
        )
    border = min(max(share, min(places.values())), math.nextafter(max(places.values()), 0))
    return _apart(groups, {topic for topic, place in places.items() if place <= border})


def _apart(groups: Sequence[Group], topics: set[str]) -> Sides:
    """The groups of other topics, and those of these."""
    others = tuple(group for group in groups if group.topic not in topics)
    return others, tuple(group for group in groups if group.topic in topics)


def _place(topic: str, seed: int) -> float:
    """A number in [0, 1), even over topics."""
    digest = sha256(f"{seed}\n{topic}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
