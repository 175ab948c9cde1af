"""A task of your own: a file of prompts, any reward, perhaps a judge."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from trimtab.errors import PromptError, check_word
from trimtab.protocols import Reward
from trimtab.rewards import reward as reward_named
from trimtab.tasks.base import PromptTask
from trimtab.tasks.rows import Row, rows_of
from trimtab.types import Sample, Template


def task_from_file(
    path: str | Path,
    reward: Reward | str,
    judge: Reward | str | None = None,
    *,
    column: str | None = None,
    max_new_tokens: int = 128,
    template: Template = "auto",
) -> PromptTask:
    """A task from a file of prompts; it bears the file's name.

    Args:
        path: as for `read_samples`. It is read, and checked, at once.
        reward: the gold reward, or its name.
        judge: a held-out reward, or its name.
        column: where a row's prompt is, as for `read_samples`.
        max_new_tokens: the longest response worth asking for.
        template: "auto" asks by the base's chat template, where it has one; "none" has the base
            continue the text.

    Raises:
        PromptError: a row is no prompt; the message names the file and line.
        UsageError: the file can't be read, or is of no known kind.
    """
    check_word("template", template, Template)
    samples = read_samples(path, column)
    return PromptTask(
        name=Path(path).stem,
        about=f"{len(samples)} prompts of {Path(path).name}",
        prompts=partial(_given, samples),
        reward=_resolve(reward),
        judge=None if judge is None else _resolve(judge),
        max_new_tokens=max_new_tokens,
        template=template,
    )


def read_samples(path: str | Path, column: str | None = None) -> tuple[Sample, ...]:
    """Reads a file of prompts.

    In a text file (.txt) each line is a prompt. In JSON lines (.jsonl, or a list in .json), CSV
    (.csv, .tsv; its first line names the columns) and Parquet (.parquet) each row has a `prompt` (a
    text) or `messages` (`[{"role": "user", "content": "..."}]`); it may have a `topic`, which
    decides its split, or a `split` of its own. All other columns are kept as `meta`; `reference`, a
    text or a list of texts, is what some rewards compare a response with.

    Args:
        path: the file; its ending says what it holds.
        column: where a row's prompt is, if neither in `prompt` nor in `messages`.

    Raises:
        PromptError: a row is no prompt; the message names the file and line.
        UsageError: the file can't be read, or is of no known kind.
    """
    return samples_of(rows_of(path), str(path), column)


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


def _given(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    return samples


def _resolve(reward: Reward | str) -> Reward:
    return reward_named(reward) if isinstance(reward, str) else reward


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
        row.one_of("split", ("train", "validation", "test"))
    last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return Sample(prompt, topic or last, meta)
