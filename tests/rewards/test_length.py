"""Length, in words and in tokens; Flesch's formula, with textstat's counts."""

from __future__ import annotations

import pytest

import trimtab as tt
from tests.needs import needs_asset
from tests.toys import samples
from trimtab import rewards
from trimtab.errors import NotFetchedError
from trimtab.rewards.length import _tokenizer


def test_brevity_counts_words_and_marks() -> None:
    assert rewards.find("words")(samples("", ""), ["Well, yes.", ""]) == [4.0, 0.0]
    assert rewards.find("brevity")(samples("", ""), ["Well, yes.", ""]) == [-4.0, 0.0]


@needs_asset("smollm2")
def test_conciseness_is_minus_the_tokens_that_the_embedded_model_emitted() -> None:
    lm = tt.TransformersLM("smollm2", device="cpu", base_temperature=0.7)
    done = tt.decode(lm, None, tt.sampling(), ["Why is the sea salt?"], n=4, max_new_tokens=24)
    emitted = [len(c.tokens) - (c.finish == "eos") for c in done]
    texts = [c.text for c in done]
    assert rewards.find("length")(samples(*texts), texts) == [float(n) for n in emitted]
    assert rewards.find("conciseness")(samples(*texts), texts) == [-float(n) for n in emitted]
    assert list(rewards.find("conciseness")([], [])) == []


def test_without_the_model_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    _tokenizer.cache_clear()
    with pytest.raises(NotFetchedError, match="trimtab assets fetch smollm2"):
        rewards.find("conciseness")(samples("x"), ["some text"])


# --- readability ----------------------------------------------------------------------------------

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
    assert rewards.find("readability")(samples("x"), [text]) == [pytest.approx(want)]


def test_nothing_is_not_easy_to_read() -> None:
    assert rewards.find("readability")(samples(*"abc"), ["", " \n", "?!"]) == [0.0, 0.0, 0.0]


def test_the_easiest_text_has_the_formulas_highest_value() -> None:
    assert rewards.find("readability")(samples("x"), ["Go!"]) == [pytest.approx(121.22)]
