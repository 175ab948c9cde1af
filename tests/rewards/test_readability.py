"""Flesch's formula, with textstat's counts of words, sentences and syllables."""

from __future__ import annotations

import pytest

from tests.toys import samples
from trimtab.rewards import reward

COUNTED = {
    "The cat sat on the mat. It was happy.": (9, 2, 10),
    "No. Yes! The committee's interpretation of constitutional responsibilities was, regrettably, "
    "insufficient.": (11, 1, 31),
    "Don't stop; I'm well-read (mostly). What a day it has been!": (11, 2, 13),
    "Playing games has always been thought to be important to the development of well-balanced and "
    "creative children. However, what part, if any, they should play in the lives of adults has "
    "never been researched that deeply.": (36, 2, 51),
}
"""Words, sentences and syllables by textstat 0.7.3."""


@pytest.mark.parametrize(("text", "counts"), COUNTED.items())
def test_reading_ease_is_the_formula_of_textstats_counts(
    text: str, counts: tuple[int, int, int]
) -> None:
    words, sentences, syllables = counts
    want = 206.835 - 1.015 * words / sentences - 84.6 * syllables / words
    assert reward("readability")(samples("x"), [text]) == [pytest.approx(want)]


def test_nothing_is_not_easy_to_read() -> None:
    assert reward("readability")(samples(*"abc"), ["", " \n", "?!"]) == [0.0, 0.0, 0.0]


def test_the_easiest_text_has_the_formulas_highest_value() -> None:
    assert reward("readability")(samples("x"), ["Go!"]) == [pytest.approx(121.22)]
