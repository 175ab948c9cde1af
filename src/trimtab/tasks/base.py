"""A task from its parts, and the one way in which prompts are split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from trimtab.errors import PromptError, check_word
from trimtab.protocols import Reward
from trimtab.types import Sample, Split, Template

DATA = Path(__file__).with_name("data")

_TRAIN, _VALIDATION = 0.60, 0.75  # the ends of their shares; the rest is for the test


def split_of(topic: str) -> Split:
    """Which split a topic is in: 60 % train, 15 % validation, 25 % test.

    It depends on the topic alone, so it stays where it is when others come or go, and a topic that
    two tasks share is in the same split of both: a guide trained on one may be tested on the other.
    """
    digest = hashlib.sha256(topic.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if share < _TRAIN else "validation" if share < _VALIDATION else "test"


@dataclass(frozen=True)
class PromptTask:
    """A task: a way to get its prompts, a reward, a judge.

    Attributes:
        name: what the command line and tables call it.
        about: one line on what is asked and what is rewarded.
        prompts: reads all samples, in their fixed order.
        reward: gold; what guides are trained or steered to raise.
        judge: a second opinion on the responses; None if there is none.
        max_new_tokens: the longest response worth asking for.
        template: "auto" asks by the base's chat template, where it has one; "none" has the base
            continue the text.
    """

    name: str
    about: str
    prompts: Callable[[], Sequence[Sample]] = field(repr=False)
    reward: Reward
    judge: Reward | None
    max_new_tokens: int
    template: Template = "auto"

    def __post_init__(self) -> None:
        check_word("template", self.template, Template)

    def samples(self, split: str) -> tuple[Sample, ...]:
        """The prompts of one split, always in the same order.

        Args:
            split: one of `Split`.

        Raises:
            UnknownNameError: there is no such split.
            PromptError: nothing is in it.
        """
        check_word("split", split, Split)
        found = tuple(s for s in self.prompts() if split in ("all", _split(s)))
        if not found:
            raise PromptError(
                f"the split {split!r} of {self.name!r} must hold prompts",
                got="none",
                do="take another split, or more prompts",
            )
        return found


def _split(sample: Sample) -> Split:
    """The split that the sample names itself, else its topic's."""
    named: Split | None = sample.meta.get("split")
    if named is None:
        return split_of(sample.topic)
    check_word(
        "the split of a sample", named, [split for split in get_args(Split) if split != "all"]
    )
    return named
