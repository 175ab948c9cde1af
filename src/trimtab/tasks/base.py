"""Tasks from their parts, prompts from files and the Hub, and the one split by topic."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from trimtab.errors import PromptError, UsageError, check_word
from trimtab.protocols import Reward
from trimtab.rewards import find as find_reward
from trimtab.tasks.files import HubData, Row, rows_of
from trimtab.types import Sample, Split, Template

_TRAIN, _VALIDATION = 0.60, 0.75  # the ends of their shares; the rest is for the test
_SPLITS = tuple(split for split in get_args(Split) if split != "all")

MAX_NEW_TOKENS = 128
"""Token budget of a response where no task says one."""


def split_of(topic: str) -> Split:
    """Which split a topic is in: 60 % train, 15 % validation, 25 % test.

    It depends on the topic alone, so it stays where it is when others come or go, and a topic that
    two tasks share is in the same split of both: a guide trained on one may be tested on the other.

    >>> split_of("coffee"), split_of("fog"), split_of("bag")
    ('train', 'validation', 'test')
    """
    digest = hashlib.sha256(topic.encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if share < _TRAIN else "validation" if share < _VALIDATION else "test"


def in_split(samples: Iterable[Sample], split: str, name: str) -> tuple[Sample, ...]:
    """The samples of one split, in their order: the split that a sample names, else its topic's.

    Args:
        samples: of all splits.
        split: one of `Split`.
        name: what errors call the samples' task or file.

    Raises:
        UnknownNameError: there is no such split.
        PromptError: nothing is in it.
    """
    check_word("split", split, Split)
    chosen = tuple(s for s in samples if split in ("all", s.meta.get("split") or split_of(s.topic)))
    if not chosen:
        raise PromptError(
            f"the split {split!r} of {name!r} must hold prompts",
            got="none",
            do="take another split, or more prompts",
        )
    return chosen


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
        return in_split(self.prompts(), split, self.name)


def task_from_file(
    source: str | Path,
    reward: Reward | str,
    judge: Reward | str | None = None,
    *,
    column: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    template: Template = "auto",
) -> PromptTask:
    """A task from a file of prompts, or a data set of the Hub; it bears its name.

    Args:
        source: as for `read_samples`. It is read, and checked, at once.
        reward: the gold reward, or its name.
        judge: a held-out reward, or its name.
        column: where a row's prompt is, as for `read_samples`.
        max_new_tokens: the longest response worth asking for.
        template: "auto" asks by the base's chat template, where it has one; "none" has the base
            continue the text.

    Raises:
        PromptError: a row is no prompt; the message names the file and line.
        UsageError: the file can't be read, or is of no known kind.
        FetchError: the data set can't be had.
    """
    check_word("template", template, Template)
    samples, name = read_samples(source, column), _name(source)
    return PromptTask(
        name=name,
        about=f"{len(samples)} prompts of {name}",
        prompts=partial(tuple, samples),
        reward=find_reward(reward) if isinstance(reward, str) else reward,
        judge=find_reward(judge) if isinstance(judge, str) else judge,
        max_new_tokens=max_new_tokens,
        template=template,
    )


def read_samples(
    source: str | Path, column: str | None = None, split: str = "all"
) -> tuple[Sample, ...]:
    """Reads the prompts of a file, or of a data set of the Hub.

    In a text file (.txt) each line is a prompt. In JSON lines (.jsonl, or a list in .json), CSV
    (.csv, .tsv; its first line names the columns), Parquet (.parquet) and on the Hub each row has a
    `prompt` (a text) or `messages` (`[{"role": "user", "content": "..."}]`); it may have a `topic`,
    which decides its split, or a `split` of its own. All other columns are kept as `meta`;
    `reference`, a text or a list of texts, is what some rewards compare a response with.

    `hub:DATASET` has the splits of the data set. The rows of `hub:DATASET@SPLIT` are split by topic
    like those of a file, so that splits of any name can be used.

    Args:
        source: the file, whose ending says what it holds, or `hub:DATASET[@SPLIT][#COLUMN]`.
        column: where a row's prompt is, if neither in `prompt` nor in `messages`.
        split: which of them: "train", "validation", "test" or "all".

    Raises:
        PromptError: a row is no prompt (the message names the file and line), or the split is
            empty.
        UsageError: the file can't be read, or is of no known kind.
        FetchError: the data set can't be had.
    """
    check_word("split", split, Split)
    hub = HubData.parse(source)
    if hub is None:
        samples = samples_of(rows_of(source), str(source), column)
    else:
        samples = _from_hub(hub, column, split)
    return in_split(samples, split, _name(source))


def samples_of(rows: Iterable[Row], name: str, column: str | None = None) -> tuple[Sample, ...]:
    """Rows as samples, each checked.

    Args:
        rows: of a file.
        name: what errors call the file.
        column: as for `read_samples`.

    Raises:
        PromptError: a row is no prompt, or there is none.
    """
    samples = tuple(_sample(row, column) for row in rows)
    if not samples:
        raise PromptError(f"{name} must hold prompts", got="none", do="write one per line")
    return samples


def _name(source: str | Path) -> str:
    return str(source) if HubData.parse(source) else Path(source).stem


def _from_hub(hub: HubData, column: str | None, split: str) -> tuple[Sample, ...]:
    """The samples of a data set: of the split that it names, else of its own splits, marked so."""
    if column and hub.column and column != hub.column:
        raise UsageError(
            "the column of the prompts must be named once",
            got=f"#{hub.column} and {column!r}",
            do="drop one of them",
        )
    column = hub.column or column
    if hub.split is not None:
        return samples_of(hub.rows(hub.split), hub.dataset, column)
    samples: list[Sample] = []
    for part in hub.splits() if split == "all" else (split,):
        own = {"split": part} if part in _SPLITS else {}
        read = samples_of(hub.rows(part), f"{hub.dataset} ({part})", column)
        samples += [replace(sample, meta={**sample.meta, **own}) for sample in read]
    return tuple(samples)


def _sample(row: Row, column: str | None) -> Sample:
    """A checked row as a sample; its text is its topic where it names none."""
    prompt = row.prompt(column)
    if row.values.get("reference") is not None:
        row.texts("reference")
    topic = row.text("topic") if row.values.get("topic") is not None else None
    meta = {k: v for k, v in row.values.items() if k not in ("prompt", "messages", "topic", column)}
    if meta.get("split") is None:
        meta.pop("split", None)
    else:
        row.one_of("split", _SPLITS)
    last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return Sample(prompt, topic or last, meta)
