"""How easily a response is read: Flesch's reading ease, for English.

    206.835 - 1.015 * words / sentences - 84.6 * syllables / words

Source: R. Flesch, "A new readability yardstick", Journal of Applied Psychology 32, 1948. Words,
sentences and syllables are counted as textstat 0.7.3 counts them (a syllable more than the places
where TeX's patterns would hyphenate a word; a sentence of one or two words is none of its own), but
its figure has both ratios rounded to one decimal, which makes steps of eight points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.plugins import optional
from trimtab.types import Sample

_MARK = re.compile(r"[^\w\s]")
_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")


def readability(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Reading ease: 0 to 30 is academic prose, 60 to 70 plain, above 90 a child's; at most 121.22.

    A text without a word is not easy to read: it has 0.

    Raises:
        UsageError: pyphen is not installed.
    """
    return [_ease(response) for response in responses]


def _ease(text: str) -> float:
    words = _words(text.lower())
    if not words:
        return 0.0
    syllables = sum(map(_syllables, words))
    return 206.835 - 1.015 * len(words) / _sentences(text) - 84.6 * syllables / len(words)


def _words(text: str) -> list[str]:
    """What stands between blanks, without marks: "well-read" is one word."""
    return _MARK.sub("", text).split()


def _sentences(text: str) -> int:
    return max(1, sum(len(_words(found)) > 2 for found in _SENTENCE.findall(text)))


def _syllables(word: str) -> int:
    return len(_hyphens().positions(word)) + 1


@cache
def _hyphens() -> Any:
    return optional("pyphen", "eval", user="the reward 'readability'").Pyphen(lang="en_US")
