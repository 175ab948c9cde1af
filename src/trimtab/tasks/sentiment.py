"""An opinion in one sentence; the more positive, the better."""

from __future__ import annotations

from functools import partial

from trimtab.rewards import reward
from trimtab.tasks.base import PromptTask
from trimtab.tasks.topics import about_topics

PROMPT = "Write a one sentence opinion about the following topic: {topic}."


def sentiment() -> PromptTask:
    """Gold: VADER's compound score, by lexicon and rules. Judge: a ridge on human ratings.

    The two share neither words nor method. What steers into VADER's favourite words raises the gold
    reward alone; what is kinder in a reader's eyes raises both.
    """
    return PromptTask(
        name="sentiment",
        about="a one-sentence opinion on a topic; the more positive, the better",
        prompts=partial(about_topics, PROMPT),
        reward=reward("sentiment"),
        judge=reward("rated-sentiment"),
        max_new_tokens=48,
    )
