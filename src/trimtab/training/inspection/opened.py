"""A guide by its folder, its name or its model's name, with its card where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import CheckpointError, UsageError
from trimtab.guides import Manifest, RewardGuide, load_guide, verify
from trimtab.guides.shipped import check_name, guide_folder
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.inspection.comparison import without_center
from trimtab.training.inspection.findings import Finding


@dataclass(frozen=True)
class Opened:
    """A guide beside a base.

    Attributes:
        name: what it is called.
        card: of a folder that `save_guide` wrote; None of a reward model of transformers.
        guide: as decoding reads it; None where it does not fit the base.
        problem: why it does not.
    """

    name: str
    card: Manifest | None
    guide: Guide[Any] | None
    problem: Finding | None = None


def open_guide(name: str | Path, lm: TransformersLM, *, label: int | str | None = None) -> Opened:
    """Open a guide; one that does not fit is a finding and not an error, so that the rest is said.

    Args:
        name: a guide's folder, a shipped guide, or a folder or Hub id of a reward model.
        lm: the base.
        label: of a reward model with several, which is the reward.

    Raises:
        CheckpointError: a folder that is neither, or a guide that is not whole.
        FetchError: a reward model that cannot be had.
        UsageError: a reward model of several labels and none named.
    """
    at = guide_folder(name)
    if at is None:
        place = Path(name)
        if place.is_dir() and not (place / "config.json").is_file():
            raise CheckpointError(
                "a guide must be a folder with guide.json, or a model's with config.json",
                got=f"{place} with neither",
                do="check the path",
            )
        guide = RewardGuide.load(str(name), lm, label=label)
        return Opened(guide.name, None, guide)
    card = verify(at)
    if not card.vocab.same(lm.vocab):
        return Opened(card.name, card, None)  # the audit of the tokenizer says it
    try:
        return Opened(card.name, card, without_center(load_guide(at, lm=lm)))
    except UsageError as error:
        return Opened(card.name, card, None, Finding("error", "loading", str(error), error.do))


def base_named(name: str | Path) -> str | None:
    """The base that a guide's card names; None where there is no card, or none is named.

    Raises:
        CheckpointError: a card that is broken.
        UnknownNameError: a name that can be no guide's.
    """
    check_name(str(name))
    at = guide_folder(name)
    return None if at is None else verify(at).base
