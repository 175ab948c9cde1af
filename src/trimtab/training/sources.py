"""Where training data comes from: folders of groups, files of preferences, a reward by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from trimtab.errors import DataError, IncompatibleError, UsageError
from trimtab.rewards import parse
from trimtab.tasks import split_of
from trimtab.training.store import read_groups, read_manifest
from trimtab.types import Group, Vocab


@dataclass(frozen=True)
class Collected:
    """Groups of several folders, and what made them.

    Attributes:
        groups: all of them.
        about: what their manifests say of the job, folder by folder.
    """

    groups: tuple[Group, ...]
    about: tuple[Mapping[str, Any], ...]


def collected(folders: Sequence[str]) -> Collected:
    """The groups of folders that `trimtab collect` wrote.

    Raises:
        DataError: a folder is not there, or not complete.
    """
    groups: list[Group] = []
    about = []
    for folder in folders:
        groups += read_groups(folder)
        about.append(read_manifest(folder)["about"])
    return Collected(tuple(groups), tuple(about))


def is_folder(source: str) -> bool:
    """Whether a source is a folder of groups; else it is a file of preferences."""
    return (Path(source) / "manifest.json").is_file()


def chosen_reward(groups: Sequence[Group], asked: str | None) -> tuple[tuple[Group, ...], str]:
    """The groups with the reward that is learnt, and its name.

    Args:
        groups: with rewards.
        asked: one of them, or a sum such as "sentiment + 0.5*similarity", which is added to every
            response that has all of its terms; None is the only one.

    Raises:
        UsageError: several rewards and none was named.
    """
    known = sorted({name for group in groups for r in group.responses for name in r.rewards})
    if asked is None:
        if len(known) == 1:
            return tuple(groups), known[0]
        raise UsageError(
            "the reward to learn must be named where there is not exactly one",
            got=", ".join(known) or "no reward at all",
            do="add --reward NAME, or a sum such as --reward 'sentiment + 0.5*similarity'",
        )
    total = parse(asked)
    if asked in known or total is None:
        return tuple(groups), asked
    missing = [name for _, name in total.terms if name not in known]
    if missing:
        raise DataError(
            f"every term of {asked!r} must be a reward of the groups",
            got=f"no {', '.join(missing)} among {', '.join(known)}",
            do="add it with `trimtab collect --relabel`",
        )
    return tuple(_with_sum(group, total.terms, asked) for group in groups), asked


def _with_sum(group: Group, terms: Sequence[tuple[float, str]], name: str) -> Group:
    responses = []
    for response in group.responses:
        rewards = dict(response.rewards)
        if all(term in rewards for _, term in terms):
            rewards[name] = sum(weight * rewards[term] for weight, term in terms)
        responses.append(replace(response, rewards=rewards))
    return replace(group, responses=tuple(responses))


def held_out(groups: Sequence[Group], share: float) -> tuple[tuple[Group, ...], tuple[Group, ...]]:
    """Groups to learn from and groups to validate on, apart by topic.

    Topics that a task keeps for validation are held out as they are; where there are none, a share
    of all topics is, by their hash.

    Raises:
        DataError: one side would be empty.
    """
    named = {g.topic for g in groups if split_of(g.topic) == "validation"}
    rest = {g.topic for g in groups} - named
    if not named or not rest:
        order = sorted({g.topic for g in groups}, key=_order)
        named = set(order[: max(1, round(share * len(order)))])
        rest = set(order) - named
    if not rest:
        raise DataError(
            "groups must be of two topics at least, to hold one out",
            got="one topic",
            do="collect more prompts",
        )
    train = tuple(g for g in groups if g.topic in rest)
    return train, tuple(g for g in groups if g.topic in named)


def _order(topic: str) -> bytes:
    """As good as random, and not the hash that tasks split by."""
    return sha256(b"held out:" + topic.encode()).digest()


def base_temperature(about: Sequence[Mapping[str, Any]]) -> float | None:
    """The temperature of the policy that wrote the groups; None where it is not known.

    Raises:
        DataError: the folders are of different policies.
    """
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
