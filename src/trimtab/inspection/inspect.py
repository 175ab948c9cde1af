"""A guide from its name to its report: open it, read what it is measured on, audit, score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from trimtab.decoding.forced import ROWS
from trimtab.errors import UsageError
from trimtab.guides import Manifest, verify
from trimtab.guides.manifest import guide_folder
from trimtab.inspection.audit import Finding, audit_card, audit_data, sources
from trimtab.inspection.fit import (
    check_fits,
    check_pairs,
    fit_labels,
    fit_responses,
    pair_accuracy,
)
from trimtab.inspection.report import Inspection, facts_of
from trimtab.inspection.scores import Scoring, units_of, without_center
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide, Reward
from trimtab.runs.resolve import find_guide, guide_kind
from trimtab.training.data import Collected, chosen_reward, hold_out, is_folder, read_folders
from trimtab.training.preferences import clean, pairs_of, read_preferences
from trimtab.training.preferences.pairs import PREFERENCE
from trimtab.types import Group

MAX_LENGTH = 512
"""Most tokens of a prompt and a response, where a guide's card does not say what it was."""

PER_GROUP = 4
"""Pairs of a group, as in training."""

Source: TypeAlias = str | Path
Groups: TypeAlias = tuple[Group, ...]
OnProgress: TypeAlias = Callable[[int, int], object]
"""Called with responses that have been scored, and how many there are."""


def inspect_guide(
    guide: Source | Guide[Any] | Reward,
    lm: TransformersLM,
    *,
    data: Sequence[Source] = (),
    validation: Sequence[Source] = (),
    pairs: Sequence[Source] = (),
    learn: str | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    rows: int = ROWS,
    seed: int = 0,
    on: OnProgress | None = None,
) -> Inspection:
    """Audit a guide against a base, and measure it on what is given.

    Args:
        guide: a guide by any of its names (a folder, a shipped guide, a reward model, a reward that
            is read on prefixes), or itself.
        lm: the base that it is to steer, as it will decode.
        data: run folders: scores along responses against their rewards; for guides that rank, pairs
            are made of them too. Of several conditions, the one of plain sampling is taken.
        validation: folders of labels (`trimtab collect --validation`).
        pairs: files of preferences, or run folders.
        learn: a reward of the groups; None is the one that the guide was trained on, or the only
            one.
        limit: the first so many groups of each; None takes all.
        max_length: most tokens of a prompt and a response; None is what training had, or 512.
        rows: responses that are read side by side.
        seed: of bootstrap and pairs.
        on: told after each batch.

    Raises:
        CheckpointError: no guide there, or a broken one.
        DataError: data that is not there, or nothing to measure in it.
        UsageError: several rewards or labels, and none named.
        FetchError: a reward model that cannot be had.
    """
    name, card, opened, problems = _open(guide, lm)
    units = units_of(card)
    training: Mapping[str, Any] = card.objective.get("training", {}) if card is not None else {}
    longest = max_length or training.get("max_length") or MAX_LENGTH
    reader = _Reader(card, lm, learn or (card.data.get("reward") if card else None), longest, seed)
    responses, labelled, reward = reader.groups(data, validation)
    ranked = tuple(pair for source in pairs for pair in reader.pairs(str(source)))
    if units.pairs and not pairs and data:
        ranked, _ = pairs_of(responses[:limit], reward, per_group=PER_GROUP, seed=seed)
    responses, labelled, ranked = responses[:limit], labelled[:limit], ranked[:limit]
    findings = [
        *(audit_card(card, lm) if card is not None else ()),
        *problems,
        *audit_data(
            opened, lm, [g.prompt for g in (*responses, *ranked, *labelled)], responses or ranked
        ),
        *reader.findings,
    ]
    inspection = Inspection(name, facts_of(card, opened), tuple(findings))
    if opened is None or inspection.worst == "error":
        return inspection
    total = sum(len(group.responses) for group in (*responses, *ranked)) + len(labelled)
    counter = _counter(total, on) if on is not None else None
    scoring = Scoring(opened, lm, units, reward, longest, rows=rows, seed=seed, on=counter)
    values, prompt = fit_responses(responses, scoring) if responses else ((), None)
    labels = fit_labels(labelled, scoring) if labelled else ()
    accuracies = pair_accuracy(ranked, scoring) if ranked else ()
    findings += check_fits("labels", labels) if labels else []
    findings += check_fits("responses", values) if values else []
    findings += [check_pairs(accuracies, name)] if accuracies else []
    return replace(
        inspection,
        findings=tuple(findings),
        compared=units.text if values or labels or accuracies else "",
        reward=reward,
        values=values,
        prompt=prompt,
        labels=labels,
        pairs=accuracies,
    )


def base_named(guide: str) -> str | None:
    """The base that a guide's card names; None where there is no card, or none is named."""
    guide_kind(guide)
    folder = guide_folder(guide)
    return None if folder is None else verify(folder).base


def _open(
    given: Source | Guide[Any] | Reward, lm: TransformersLM
) -> tuple[str, Manifest | None, Guide[Any] | None, list[Finding]]:
    """Name, card and guide; one that does not fit is a finding, so that the rest is said."""
    folder = guide_folder(given) if isinstance(given, str | Path) else None
    if folder is None:
        source = find_guide(given, lm)
        return source.name, None, without_center(source.open(lm)), []
    card = verify(folder)
    if not card.vocab.same(lm.vocab):  # the audit of the tokenizer says it
        return card.name, card, None, []
    try:
        return card.name, card, without_center(find_guide(folder, lm).open(lm)), []
    except UsageError as error:
        return card.name, card, None, [Finding("error", "loading", str(error), error.do)]


def _counter(total: int, on: OnProgress) -> Callable[[int], object]:
    """Adds up what single batches report."""
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        on(done, total)

    return more


@dataclass
class _Reader:
    """Reads run folders and preferences, and notes what is to be known of them."""

    card: Manifest | None
    lm: TransformersLM
    reward: str | None
    longest: int
    seed: int
    findings: list[Finding] = field(default_factory=list)

    def groups(
        self, data: Sequence[Source], validation: Sequence[Source]
    ) -> tuple[Groups, Groups, str]:
        """Plain responses, labelled prefixes, and the reward of both."""
        responses: Groups = ()
        labelled: Groups = ()
        name = ""
        if data:
            responses, name = self._unseen(read_folders([str(f) for f in data]), self.reward)
        if validation:
            collected = read_folders([str(folder) for folder in validation])
            labelled, name = chosen_reward(collected.groups, self.reward or name or None)
        return responses, labelled, name

    def pairs(self, source: str) -> Groups:
        """Pairs of one source, the better response first, cleaned as for training."""
        if not is_folder(source):
            read, dropped = read_preferences(source, self.lm)
            pairs, cleaned = clean(read, max_tokens=self.longest)
            message = f"{source}: {cleaned.after(dropped.left_out)}"
        else:
            collected = read_folders([source])
            names = {n for group in collected.groups for r in group.responses for n in r.rewards}
            reward = self.reward or (PREFERENCE if PREFERENCE in names else None)
            groups, reward = self._unseen(collected, reward)
            pairs, counts = pairs_of(groups, reward, per_group=PER_GROUP, seed=self.seed)
            message = f"{source} by {reward}: {counts}"
        self.findings.append(Finding("ok", "pairs read", message))
        return pairs

    def _unseen(self, collected: Collected, reward: str | None) -> tuple[Groups, str]:
        """The groups with that reward that the guide was not trained on, as far as can be told.

        Training that held topics out of this very data held them out by their names alone, so they
        are found again; where other folders had a say in it, all groups are kept, with a warning.
        """
        groups, name = chosen_reward(collected.groups, reward)
        learnt = sources(self.card) if self.card is not None else []
        seen = [about in learnt for about in collected.about]
        if self.card is None or not any(seen):
            return groups, name
        training: Mapping[str, Any] = self.card.objective.get("training", {})
        alone = all(seen) and len(learnt) == len(seen)
        if alone and training.get("validation") is None and "held_out" in training:
            kept = hold_out(groups, training["held_out"], seed=training.get("seed", 0))[1]
            message = f"the guide was trained on these: only the {len(kept)} of {len(groups)} "
            message += "groups that it was validated on are measured"
            self.findings.append(Finding("ok", "data", message))
            return kept, name
        message = "the guide was trained on some of these groups, so its figures are flattering"
        do = "measure it on groups of other prompts"
        self.findings.append(Finding("warning", "data", message, do))
        return groups, name
