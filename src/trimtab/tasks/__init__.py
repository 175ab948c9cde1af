"""What is measured on: prompts with a reward and a judge that knows nothing of it.

>>> from trimtab import tasks
>>> detox = tasks.find("detox")
>>> detox.max_new_tokens, detox.template, len(detox.samples("validation"))
(20, 'none', 22)
"""

from __future__ import annotations

from collections.abc import Callable

from trimtab.errors import IncompatibleError, UnknownNameError
from trimtab.plugins import PYTHON, entry_points, load_object
from trimtab.protocols import Task
from trimtab.tasks.base import (
    MAX_NEW_TOKENS,
    PromptTask,
    in_split,
    read_samples,
    samples_of,
    split_of,
    task_from_file,
)
from trimtab.tasks.builtin import detox, sentiment, verbosity
from trimtab.tasks.files import HubData

__all__ = [
    "MAX_NEW_TOKENS",
    "TASKS",
    "HubData",
    "PromptTask",
    "find",
    "in_split",
    "read_samples",
    "samples_of",
    "split_of",
    "task_from_file",
]

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
    if name.startswith(PYTHON):
        found = load_object(name, "a task")
    elif (plugins := entry_points("trimtab.tasks")) and name in plugins:
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
