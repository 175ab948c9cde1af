"""What is measured on: prompts with a reward and a judge that knows nothing of it.

>>> from trimtab import tasks
>>> detox = tasks.find("detox")
>>> detox.max_new_tokens, detox.template, len(detox.samples("validation"))
(20, 'none', 22)
"""

from trimtab.tasks.builtin import MAX_NEW_TOKENS, TASKS, PromptTask, find, task_from_file
from trimtab.tasks.files import HubData, in_split, read_samples, samples_of, split_of

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
