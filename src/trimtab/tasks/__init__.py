"""What is measured on: prompts with a reward and a judge that knows nothing of it.

A task is one small file with one function of its name; the list below is all that else knows it.
"""

from __future__ import annotations

from collections.abc import Callable

from trimtab.errors import UnknownNameError
from trimtab.protocols import Task
from trimtab.tasks.base import PromptTask, split_of
from trimtab.tasks.custom import read_samples, samples_of, task_from_file
from trimtab.tasks.detox import detox
from trimtab.tasks.sentiment import sentiment
from trimtab.tasks.verbosity import verbosity

__all__ = [
    "TASKS",
    "PromptTask",
    "read_samples",
    "samples_of",
    "split_of",
    "task",
    "task_from_file",
]

TASKS: dict[str, Callable[[], Task]] = {
    "detox": detox,
    "sentiment": sentiment,
    "verbosity": verbosity,
}


def task(name: str) -> Task:
    """Returns the task of that name.

    Raises:
        UnknownNameError: there is none; near names are offered.
    """
    if name not in TASKS:
        raise UnknownNameError("a task", name, TASKS, do="or bring your own file of prompts")
    return TASKS[name]()
