"""Where prompts come from: a task's split, a file, or a data set of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab.errors import FetchError, UsageError, check_word
from trimtab.plugins import optional
from trimtab.protocols import Reward, Task
from trimtab.tasks import PromptTask, read_samples, task
from trimtab.tasks.rows import Row
from trimtab.training.manifest import read_manifest
from trimtab.types import Sample, Split, Template

HUB = "hub:"

LONGEST = 128
"""Token budget of a response where no task says one."""


@dataclass(frozen=True)
class Source:
    """Prompts, and what their task says of responses.

    Attributes:
        name: where they came from.
        samples: in their fixed order.
        reward: the task's own; None where there is no task.
        max_new_tokens: token budget of a response.
        template: "auto" asks by the base's chat template, where it has one; "none" has the base
            continue the text.
    """

    name: str
    samples: tuple[Sample, ...]
    reward: Reward | None = None
    max_new_tokens: int = LONGEST
    template: Template = "auto"

    def __post_init__(self) -> None:
        check_word("template", self.template, Template)


def find_prompts(
    name: str | None, file: str | None, split: Split = "train", column: str | None = None
) -> Source:
    """The prompts of a split of a task, a file or a Hub data set.

    Args:
        name: of a task.
        file: instead, a file as for `trimtab.tasks.read_samples`, or `hub:DATASET[:COLUMN]`.
        split: which of them. Rows of a file are split by topic, as everywhere; a data set of the
            Hub has splits of its own.
        column: where a row has its prompt, as for `trimtab.tasks.read_samples`.

    Raises:
        UnknownNameError: no such task.
        UsageError: neither or both are named, or the file or data set cannot be read.
        PromptError: a row is no prompt, or the split is empty.
        FetchError: the Hub cannot be reached, or has no such data set.
    """
    check_word("split", split, Split)
    if (name is None) == (file is None):
        got = "neither" if name is None else "both"
        raise UsageError("name a TASK, or prompts by --prompts", got=got, do="name one of the two")
    if name is not None:
        found: Task = task(name)
        samples = tuple(found.samples(split))
        source = f"{name}/{split}"
        return Source(source, samples, found.reward, found.max_new_tokens, found.template)
    assert file is not None
    if file.startswith(HUB):
        return Source(f"{file}/{split}", _from_hub(file.removeprefix(HUB), split, column))
    return Source(f"{file}/{split}", _from_file(Path(file), split, column))


def find_responses(folder: str | Path, name: str | None = None) -> Source:
    """What is known of a folder's responses that are to be cut.

    Args:
        folder: of groups.
        name: of the task that they answer, for its reward.

    Raises:
        DataError: the folder holds no groups.
        UnknownNameError: no such task.
    """
    about = read_manifest(folder)["about"]
    return Source(
        str(folder),
        (),
        task(name).reward if name is not None else None,
        about.get("max_new_tokens", LONGEST),
        about.get("template", "auto"),
    )


def _from_file(path: Path, split: Split, column: str | None) -> tuple[Sample, ...]:
    samples = read_samples(path, column)

    def given() -> Sequence[Sample]:
        return samples

    return PromptTask(path.stem, "", given, _no_reward, None, LONGEST).samples(split)


def _no_reward(samples: Sequence[Sample], responses: Sequence[str]) -> Sequence[float]:
    raise AssertionError("prompts from a file bring no reward")


def _from_hub(name: str, split: Split, column: str | None) -> tuple[Sample, ...]:
    dataset, _, named = name.partition(":")
    rows = _load(dataset, split)
    column = named or column or "prompt"
    if column not in rows.column_names:
        raise UsageError(
            f"{dataset} must have the column {column!r}",
            got=", ".join(rows.column_names),
            do=f"name another as {HUB}{dataset}:COLUMN",
        )
    return tuple(_sample(f"{dataset}, row {i}", row, column) for i, row in enumerate(rows))


def _load(dataset: str, split: Split) -> Any:
    hub = optional("datasets", "data", user="a data set of the Hub")
    try:
        wanted = "+".join(hub.get_dataset_split_names(dataset)) if split == "all" else split
        return hub.load_dataset(dataset, split=wanted)
    except Exception as error:  # the package raises whatever its parts raise
        raise FetchError(
            f"{dataset!r} must be a data set of the Hub with a split {split!r}",
            got=f"{type(error).__name__}: {f'{error}'.strip().partition(chr(10))[0]}",
            do="check the name, the split and the network, or save its rows as .jsonl or .parquet",
        ) from error


def _sample(place: str, values: dict[str, Any], column: str) -> Sample:
    """A row as a sample; its other columns are kept as `meta`, as for files."""
    row = Row(place, values)
    prompt = row.prompt(column)
    last = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    topic = row.text("topic") if values.get("topic") is not None else last
    return Sample(prompt, topic, {k: v for k, v in values.items() if k not in (column, "topic")})
