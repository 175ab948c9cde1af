"""One question about each of 300 topics: everyday nouns of WordNet 3.0."""

from __future__ import annotations

from functools import cache

from trimtab.tasks.base import DATA
from trimtab.types import Sample


@cache
def topics() -> tuple[str, ...]:
    """The nouns, in alphabetical order."""
    return tuple((DATA / "topics.txt").read_text(encoding="utf-8").split())


def about_topics(template: str) -> tuple[Sample, ...]:
    """The template, filled with each topic in turn.

    Args:
        template: with `{topic}` in it.
    """
    return tuple(Sample(template.format(topic=topic), topic) for topic in topics())
