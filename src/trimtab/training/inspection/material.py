"""What a guide is measured on: folders of groups, labels and pairs, and whether it saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.guides import Manifest
from trimtab.models.transformers import TransformersLM
from trimtab.training.data import Collected, chosen_reward, hold_out, is_folder, read_folders
from trimtab.training.inspection.audit import sources
from trimtab.training.inspection.findings import Finding
from trimtab.training.preferences import clean, pairs_of, read_preferences
from trimtab.training.preferences.pairs import PREFERENCE
from trimtab.types import Group

PER_GROUP = 4
"""Pairs of a group, as in training."""


@dataclass(frozen=True)
class Measured:
    """What was read.

    Attributes:
        groups: plain responses.
        labels: labelled prefixes.
        pairs: the better response first.
        reward: which is predicted; "" where there are pairs of people only.
        findings: what is to be known of the data.
    """

    groups: tuple[Group, ...] = ()
    labels: tuple[Group, ...] = ()
    pairs: tuple[Group, ...] = ()
    reward: str = ""
    findings: tuple[Finding, ...] = ()


def read(
    card: Manifest | None,
    lm: TransformersLM,
    *,
    ranked: bool,
    data: Sequence[str],
    validation: Sequence[str],
    pairs: Sequence[str],
    reward: str | None,
    limit: int | None,
    max_length: int,
    seed: int,
) -> Measured:
    """Read what a guide is measured on.

    Args:
        card: of the guide.
        lm: the base, which encodes preferences.
        ranked: whether pairs are made of `data` where none are given.
        data: folders of groups.
        validation: folders of labels.
        pairs: files of preferences, or folders of groups.
        reward: which is predicted; None is the one that the guide was trained on.
        limit: the first so many groups of each.
        max_length: most tokens of a pair.
        seed: of the pairs.

    Raises:
        DataError: a folder is not there, or holds nothing to measure.
        UsageError: several rewards and none named.
    """
    asked = reward or (card.data.get("reward") if card is not None else None)
    groups: tuple[Group, ...] = ()
    labels: tuple[Group, ...] = ()
    findings: list[Finding] = []
    name = ""
    if data:
        found = read_folders(data)
        groups, name = chosen_reward(found.groups, asked)
        groups, seen = unseen(card, found, groups)
        findings += seen
    if validation:
        labels, name = chosen_reward(read_folders(validation).groups, asked or name or None)
    groups, labels = groups[:limit], labels[:limit]
    both: list[Group] = []
    for source in pairs:
        both += _pairs(source, lm, asked, card, findings, max_length, seed)
    if ranked and not pairs and groups:
        both += pairs_of(groups, name, per_group=PER_GROUP, seed=seed)[0]
    return Measured(groups, labels, tuple(both[:limit]), name, tuple(findings))


def unseen(
    card: Manifest | None, found: Collected, groups: tuple[Group, ...]
) -> tuple[tuple[Group, ...], list[Finding]]:
    """The groups that a guide was not trained on, as far as that can be told.

    Training that held topics out of this very data held them out by their names alone, so they are
    found again; where other folders had a say in it, all groups are kept, with a warning.
    """
    learnt = list(sources(card)) if card is not None else []
    if card is None or not any(about in learnt for about in found.about):
        return groups, []
    training: Mapping[str, Any] = card.objective.get("training", {})
    alone = len(learnt) == len(found.about) and all(about in learnt for about in found.about)
    if alone and training.get("validation") is None and "held_out" in training:
        kept = hold_out(groups, training["held_out"], seed=training.get("seed", 0))[1]
        said = f"the guide was trained on these: only the {len(kept)} of {len(groups)} groups that "
        return kept, [Finding("ok", "data", said + "it was validated on are measured")]
    said = "the guide was trained on some of these groups, so its figures are flattering"
    do = "measure it on groups of other prompts"
    return groups, [Finding("warning", "data", said, do)]


def _pairs(
    source: str,
    lm: TransformersLM,
    reward: str | None,
    card: Manifest | None,
    findings: list[Finding],
    max_length: int,
    seed: int,
) -> tuple[Group, ...]:
    """Pairs of one source, cleaned as for training."""
    if not is_folder(source):
        groups, dropped = read_preferences(source, lm)
        kept, cleaned = clean(groups, max_tokens=max_length)
        findings.append(Finding("ok", "pairs read", f"{source}: {cleaned.after(dropped.left_out)}"))
        return kept
    found = read_folders([source])
    names = {name for group in found.groups for r in group.responses for name in r.rewards}
    asked = reward if reward is not None else (PREFERENCE if PREFERENCE in names else None)
    groups, name = chosen_reward(found.groups, asked)
    groups, seen = unseen(card, found, groups)
    findings += seen
    made, dropped = pairs_of(groups, name, per_group=PER_GROUP, seed=seed)
    findings.append(Finding("ok", "pairs read", f"{source} by {name}: {dropped}"))
    return made
