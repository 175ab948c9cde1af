"""What `evaluate` and `sweep` share: the task, the model, methods, guides, progress, tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.errors import UsageError

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.evaluation.cost import WallTime
    from trimtab.evaluation.metrics import Metric
    from trimtab.evaluation.table import Table
    from trimtab.evaluation.work import OnProgress, OpenModel, Progress
    from trimtab.protocols import LanguageModel, Task
    from trimtab.runs.resolve import GuideSource

METHODS = ("greedy", "sampling", "args", "vas")
BETAS = (0.5, 1.0, 2.0, 4.0, 8.0)


def find_methods(
    names: Sequence[str], betas: Sequence[float], ks: Sequence[int], settings: Sequence[str]
) -> list[Method]:
    """Every method with every combination of the parameters that it takes.

    Raises:
        UnknownNameError: no such method; near names are offered.
        UsageError: a parameter that none of the methods takes.
    """
    import json

    from trimtab.runs import resolve

    axes: dict[str, list[object]] = {"beta": list(betas), "k": list(ks)}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UsageError("--set must be NAME=VALUE", got=repr(setting), do="try --set n=16")
        try:
            value = json.loads(text)
        except ValueError:  # a word, such as tail=drop
            value = text
        axes.setdefault(name, []).append(value)
    return resolve.find_methods(names, axes)


def find_task(
    name: str | None,
    file: Path | None,
    reward: str | None,
    judge: str | None,
    max_new_tokens: int | None,
    column: str | None = None,
) -> Task:
    """A task by name, perhaps with another reward or judge, or one from a file of prompts.

    Raises:
        UnknownNameError: no such task or reward; near names are offered.
        UsageError: neither or both were named, or a file without a reward.
    """
    from dataclasses import replace

    from trimtab.runs.resolve import NamedReward, find_reward
    from trimtab.tasks import PromptTask, find, task_from_file

    for given in (reward, judge):
        if given is not None:
            find_reward(given)  # a name that is not known is said before anything is loaded
    if column and file is None:
        raise UsageError("--column names a column of --prompts", got="no --prompts", do="add it")
    if (name is None) == (file is None):
        got = "neither" if name is None else "both"
        raise UsageError("name a TASK, or a file by --prompts", got=got, do="name one of the two")
    gold = NamedReward(reward) if reward else None
    second = NamedReward(judge) if judge else None
    if file is not None:
        if gold is None:
            raise UsageError("--prompts needs a reward", got="none", do="add --reward")
        return task_from_file(
            file, gold, second, column=column, max_new_tokens=max_new_tokens or 128
        )
    assert name is not None
    found = find(name)
    if not isinstance(found, PromptTask):
        return found
    return replace(found, reward=gold or found.reward, judge=second or found.judge)


def opener(
    model: str,
    task: Task,
    *,
    device: str | None,
    dtype: str,
    base_temperature: float,
    base_top_p: float,
) -> OpenModel:
    """A function that opens the base as the task wants it; it can be sent to workers."""
    from trimtab.cli.building import check_spelling

    check_spelling(model)
    from transformers.utils import logging

    from trimtab.models.transformers import TransformersLM

    logging.disable_progress_bar()  # a line per model load says nothing here
    loading: dict[str, Any] = {"dtype": dtype} | ({"device": device} if device else {})
    return partial(
        TransformersLM,
        model,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
        template=task.template,
        **loading,
    )


def open_model(open_lm: OpenModel, threads: int | None) -> LanguageModel[Any]:
    """The base in this process."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return open_lm()


def find_guides(names: Sequence[str], task: Task, lm: LanguageModel[Any]) -> list[GuideSource]:
    """The guides that were named, or the task's own reward read on prefixes."""
    from trimtab.runs.resolve import GuideSource, find_guide, find_reward

    if not names:
        return [GuideSource.on_prefixes(find_reward(task.reward))]
    return [find_guide(name, lm) for name in names]


def find_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """The metrics that were named, their packages and encoders at hand.

    Raises:
        UnknownNameError: no such metric; near names are offered.
    """
    from trimtab.evaluation.metrics import find_metrics

    return find_metrics(names)


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar on stderr with the time that is left, when somebody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    stages = {"unit": "decoding", "start": "decoding", "score": "scoring"}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Bar(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        shown = bar.add_task("", total=None)

        def on(progress: Progress) -> None:
            bar.update(
                shown,
                description=stages[progress.stage],
                completed=progress.done,
                total=progress.total,
            )

        yield on


def print_table(table: Table) -> None:
    """The table on stdout: drawn where somebody reads it, as Markdown in a pipe."""
    from rich.console import Console
    from rich.table import Table as Grid

    if not sys.stdout.isatty():
        print(table.to_markdown(), end="")
        return
    shown = table.readable()
    grid = Grid(*shown.head, box=None, header_style="bold")
    for row in shown.rows:
        grid.add_row(*row)
    Console().print(grid)


def print_times(times: Sequence[WallTime]) -> None:
    """Wall time per token against the base, on stderr: no two runs take the same."""
    known = [clock for clock in times if clock.relative is not None]
    if len(known) < 2:  # the base alone
        return
    print(f"wall time per token, in multiples of {known[0].base}:", file=sys.stderr)
    width = max(len(clock.name) for clock in known)
    for clock in known:
        print(f"  {clock.name:{width}}  {clock.relative:6.2f}", file=sys.stderr)


def print_counts(computed: int, reused: int, folder: Path) -> None:
    """What the run cost, on stderr."""
    print(f"{computed} units computed, {reused} reused; results in {folder}", file=sys.stderr)
