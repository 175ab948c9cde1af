"""How long a response is, how short, and how easily it is read.

`length` and `words` rise with the length, `conciseness` and `brevity` are their negatives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.assets import path_of
from trimtab.locks import lock_of
from trimtab.plugins import optional
from trimtab.types import Sample

_PIECE = re.compile(r"\w+|[^\w\s]")
_MARK = re.compile(r"[^\w\s]")
_SENTENCE = re.compile(r"\b[^.!?]+[.!?]*")


def words(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of words and punctuation marks, which is near that of tokens; 0 or more.

    Counted in the text and not by a tokenizer, so that it means the same for every base.
    """
    return [float(len(_PIECE.findall(response))) for response in responses]


def brevity(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Minus the number of words and punctuation marks; see `words`."""
    return [-count for count in words(samples, responses)]


def length(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of tokens, EOS not counted; 0 or more.

    By the embedded model's tokenizer whatever the base, so that one yardstick measures all; for
    that model it is the number it emitted, but for the rare text that it would split otherwise.
    """
    if not responses:
        return []
    tokenizer = _tokenizer()
    with lock_of(tokenizer):
        ids = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    return [float(len(row)) for row in ids]


def conciseness(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Minus the number of tokens; see `length`."""
    return [-count for count in length(samples, responses)]


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path_of("smollm2"))


def readability(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Flesch's reading ease, for English.

        206.835 - 1.015 * words / sentences - 84.6 * syllables / words

    0 to 30 is academic prose, 60 to 70 plain, above 90 a child's; at most 121.22. A text without a
    word is not easy to read: it has 0. Words, sentences and syllables are counted as textstat 0.7.3
    counts them (a syllable more than the places where TeX's patterns would hyphenate a word; a
    sentence of one or two words is none of its own), but its figure has both ratios rounded to one
    decimal, which makes steps of eight points.

    Source: R. Flesch, "A new readability yardstick", Journal of Applied Psychology 32, 1948.
    """
    return [_ease(response) for response in responses]


def _ease(text: str) -> float:
    words = _plain_words(text.lower())
    if not words:
        return 0.0
    sentences = max(1, sum(len(_plain_words(found)) > 2 for found in _SENTENCE.findall(text)))
    syllables = sum(len(_hyphens().positions(word)) + 1 for word in words)
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)


def _plain_words(text: str) -> list[str]:
    """What stands between blanks, without marks: "well-read" is one word."""
    return _MARK.sub("", text).split()


@cache
def _hyphens() -> Any:
    return optional("pyphen", "eval", user="the reward 'readability'").Pyphen(lang="en_US")
