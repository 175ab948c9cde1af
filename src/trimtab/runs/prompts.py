"""Where prompts come from: a task's split, a file, or a data set of the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trimtab.errors import UsageError, check_word
from trimtab.protocols import Reward, Task
from trimtab.runs.manifest import read_manifest
from trimtab.tasks import MAX_NEW_TOKENS, find, read_samples
from trimtab.types import Sample, Split, Template


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
    max_new_tokens: int = MAX_NEW_TOKENS
    template: Template = "auto"

    def __post_init__(self) -> None:
        check_word("template", self.template, Template)


def find_prompts(
    name: str | None, file: str | None, split: Split = "train", column: str | None = None
) -> Source:
    """The prompts of a split of a task, a file or a Hub data set.

    Args:
        name: of a task.
        file: instead, a file or a data set of the Hub, as for `trimtab.tasks.read_samples`.
        split: which of them.
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
        return _of_task(find(name), split)
    assert file is not None
    return Source(f"{file}/{split}", read_samples(file, column, split))


def _of_task(task: Task, split: Split) -> Source:
    samples, name = tuple(task.samples(split)), f"{task.name}/{split}"
    return Source(name, samples, task.reward, task.max_new_tokens, task.template)


def training_prompts(given: Task | str | Path) -> Source:
    """All prompts of a file or a data set of the Hub, or the training prompts of a task.

    Args:
        given: a file, `hub:DATASET[@SPLIT][#COLUMN]`, or a task or its name.

    Raises:
        UnknownNameError: neither a file nor a task.
        UsageError: the file cannot be read.
    """
    if isinstance(given, Task):
        return _of_task(given, "train")
    if f"{given}".startswith("hub:") or Path(given).is_file():
        return find_prompts(None, f"{given}", "all")
    return find_prompts(f"{given}", None)


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
        find(name).reward if name is not None else None,
        about.get("max_new_tokens", MAX_NEW_TOKENS),
        about.get("template", "auto"),
    )
