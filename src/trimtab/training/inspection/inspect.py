"""Everything about a guide, measured: facts, audit, values, pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.decoding.forced import ROWS
from trimtab.errors import IncompatibleError
from trimtab.models.transformers import TransformersLM
from trimtab.training.inspection.audit import audit_card
from trimtab.training.inspection.comparison import compare
from trimtab.training.inspection.enough import better_than_constant, prompts_enough
from trimtab.training.inspection.facts import Facts, facts_of
from trimtab.training.inspection.findings import Finding, Level, worst
from trimtab.training.inspection.fits import Figure, Fit
from trimtab.training.inspection.material import Measured, read
from trimtab.training.inspection.opened import Opened, open_guide
from trimtab.training.inspection.pairs import Accuracy, of_pairs, verdict
from trimtab.training.inspection.prompts import bos, encoding, eos
from trimtab.training.inspection.values import Measuring, of_labels, of_responses

MAX_LENGTH = 512
"""Most tokens of a prompt and a response, where a guide's card does not say what it was."""

OnProgress = Callable[[int, int], object]
"""Called with responses that have been scored, and how many there are."""


@dataclass(frozen=True)
class Inspection:
    """What is known of a guide.

    Attributes:
        name: the guide's.
        facts: what its card says, most telling first.
        findings: the audit.
        compared: what its scores were compared with, in words; "" where nothing was.
        reward: which; "" of pairs of people only.
        values: fit at each place of plain responses.
        prompt: R2 that knowing the prompt alone gives a perfect value; None where unknown.
        labels: fit on labelled prefixes: all, and quarters by length.
        pairs: accuracy at each place.
    """

    name: str
    facts: Facts
    findings: tuple[Finding, ...]
    compared: str = ""
    reward: str = ""
    values: tuple[Fit, ...] = ()
    prompt: Figure | None = None
    labels: tuple[Fit, ...] = ()
    pairs: tuple[Accuracy, ...] = ()

    @property
    def worst(self) -> Level:
        """The worst finding."""
        return worst(self.findings)

    @property
    def measured(self) -> bool:
        """Whether anything was."""
        return bool(self.values or self.labels or self.pairs)


def inspect_guide(
    guide: str | Path,
    lm: TransformersLM,
    *,
    data: Sequence[str | Path] = (),
    validation: Sequence[str | Path] = (),
    pairs: Sequence[str | Path] = (),
    reward: str | None = None,
    label: int | str | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    rows: int = ROWS,
    seed: int = 0,
    on: OnProgress | None = None,
) -> Inspection:
    """Audit a guide against a base, and measure it on what is given.

    Args:
        guide: a folder that `save_guide` or `train` wrote, or a reward model of transformers.
        lm: the base that it is to steer, as it will decode.
        data: folders of groups: scores along responses against their rewards; for guides that
            rank, pairs are made of them too.
        validation: folders of labels (`trimtab collect --validation`).
        pairs: files of preferences, or folders of groups.
        reward: of the groups; None is the one that the guide was trained on, or the only one.
        label: of a reward model with several labels.
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
    opened = open_guide(guide, lm, label=label)
    card, compared = opened.card, compare(opened.card)
    training: Mapping[str, Any] = card.objective.get("training", {}) if card is not None else {}
    most = max_length or training.get("max_length") or MAX_LENGTH
    found = read(
        card,
        lm,
        ranked=compared.pairs,
        data=[str(d) for d in data],
        validation=[str(v) for v in validation],
        pairs=[str(p) for p in pairs],
        reward=reward,
        limit=limit,
        max_length=most,
        seed=seed,
    )
    findings = _audit(opened, lm, found)
    facts = facts_of(card, opened.guide)
    if opened.guide is None or worst(findings) == "error":
        return Inspection(opened.name, facts, tuple(findings))
    how = Measuring(
        opened.guide,
        lm,
        compared,
        found.reward,
        most,
        rows=rows,
        seed=seed,
        on=_counter(found, on),
    )
    return _measure(opened, facts, findings, found, how)


def _audit(opened: Opened, lm: TransformersLM, found: Measured) -> list[Finding]:
    """Everything that can be said without a figure."""
    groups = (*found.groups, *found.pairs)
    prompts = [group.prompt for group in (*groups, *found.labels)]
    findings = audit_card(opened.card, lm) if opened.card is not None else []
    findings += [opened.problem] if opened.problem is not None else []
    findings += [*encoding(prompts, lm), *bos(prompts, lm)]
    if opened.guide is not None:
        try:
            findings += eos(opened.guide, lm, prompts, found.groups or found.pairs)
        except IncompatibleError as error:
            findings.append(Finding("error", "EOS", error.got, error.do))
    return [*findings, *found.findings]


def _measure(
    opened: Opened, facts: Facts, findings: list[Finding], found: Measured, how: Measuring
) -> Inspection:
    values, prompt = of_responses(found.groups, how) if found.groups else ((), None)
    labels = of_labels(found.labels, how) if found.labels else ()
    pairs = of_pairs(found.pairs, how) if found.pairs else ()
    for about, fits in (("labels", labels), ("responses", values)):
        if fits:
            enough = prompts_enough(about, fits[0].prompts)
            findings = [*findings, *better_than_constant(about, fits), *enough]
    if pairs:
        findings = [*findings, verdict(pairs, opened.name)]
    compared = how.compared.said if values or labels or pairs else ""
    return Inspection(
        opened.name,
        facts,
        tuple(findings),
        compared,
        found.reward,
        values,
        prompt,
        labels,
        pairs,
    )


def _counter(found: Measured, on: OnProgress | None) -> Callable[[int], object] | None:
    """Adds up what single batches report."""
    if on is None:
        return None
    total = sum(len(group.responses) for group in found.groups)
    total += len(found.labels) + 2 * len(found.pairs)
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        on(done, total)

    return more
