"""An explanation in one paragraph; the shorter, the better."""

from __future__ import annotations

from functools import partial

from trimtab.rewards import reward
from trimtab.tasks.base import PromptTask
from trimtab.tasks.topics import about_topics

PROMPT = "Please write a one paragraph explanation about the following topic: {topic}."


def verbosity() -> PromptTask:
    """Gold: minus the number of tokens. Judge: the similarity of prompt and response.

    A length can't be misjudged, but what it is bought with can: the judge falls where the response
    stops explaining the topic. The cap of 160 tokens leaves the base's habits visible; a smaller
    one would cut every response to the same length.
    """
    return PromptTask(
        name="verbosity",
        about="a one-paragraph explanation of a topic; the shorter, the better",
        prompts=partial(about_topics, PROMPT),
        reward=reward("conciseness"),
        judge=reward("similarity"),
        max_new_tokens=160,
    )
