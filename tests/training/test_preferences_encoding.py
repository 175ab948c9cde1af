"""Prompt ids and response ids are the whole conversation's, on real tokenizers and toys."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import trimtab as tt
from tests import toys
from tests.needs import needs_asset
from tests.training.preferences_world import CHATML, chat_model, said
from trimtab.training.preferences import read_preferences
from trimtab.training.preferences.reading import response_ids
from trimtab.types import Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ASKED = TEXT.filter(lambda t: bool(t.strip()) and "<|" not in t)
ANSWERED = TEXT.filter(lambda t: "<|" not in t)


@cache
def model(name: str, **options: Any) -> tt.TransformersLM:
    return tt.TransformersLM(name, device="cpu", **options)


def rendered(lm: tt.TransformersLM, messages: list[Message]) -> tuple[int, ...]:
    ids = lm.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    assert isinstance(ids, list)
    return tuple(ids)


def check_law(lm: tt.TransformersLM, messages: list[Message], text: str) -> None:
    """The whole conversation's ids are the prompt's, the response's, and at most blanks."""
    prompt = lm.encode(messages)
    ids = response_ids(lm, prompt, text)
    whole = rendered(lm, [*messages, {"role": "assistant", "content": text}])
    if ids is None:  # only where tokens merge across the border
        assert whole[: len(prompt.ids)] != prompt.ids
        assert text[:1].isspace()
        return
    assert whole[: len(prompt.ids) + len(ids)] == prompt.ids + ids
    assert not lm.decode(whole[len(prompt.ids) + len(ids) :]).strip()
    assert ids[-1] in lm.eos_ids
    assert not set(ids[:-1]) & lm.eos_ids
    said_alone = lm.tokenizer.encode(text, add_special_tokens=False)
    assert lm.decode(ids) == lm.decode(said_alone)


@needs_asset("smollm2")
@settings(deadline=None, max_examples=40)
@given(st.lists(ASKED, min_size=1, max_size=3), ANSWERED)
def test_the_law_on_smollm2(asked: list[str], text: str) -> None:
    turns = [turn for question in asked for turn in (question, "Yes.")][:-1]
    check_law(model("smollm2"), list(said(*turns)), text)


@needs_asset("smollm2")
@settings(deadline=None, max_examples=40)
@given(st.lists(ASKED, min_size=1, max_size=2))
def test_on_smollm2_an_answer_that_begins_with_a_letter_is_never_dropped(asked: list[str]) -> None:
    lm = model("smollm2")
    turns = [turn for question in asked for turn in (question, "Yes.")][:-1]
    prompt = lm.encode(said(*turns))
    ids = response_ids(lm, prompt, "No, never.")
    assert ids is not None
    assert lm.decode(ids) == "No, never."


def check_text(lm: tt.TransformersLM, asked: str, text: str) -> None:
    """Without a template: prompt and response decode to the whole text, with one BOS, one EOS."""
    prompt = lm.encode(asked)
    ids = response_ids(lm, prompt, text)
    assert ids is not None
    whole = lm.codec.encode(asked + text).ids
    assert lm.decode(prompt.ids + ids) == lm.decode(whole)
    assert ids[-1] == lm.tokenizer.eos_token_id
    assert not set(ids[:-1]) & {*lm.eos_ids, lm.tokenizer.bos_token_id}


PLAIN = [("Is it?", " Yes."), ("Is it? ", "Yes."), ("TL;DR:", "\nShort."), ("Hel", "lo"), ("a", "")]


@needs_asset("smollm2")
@pytest.mark.parametrize(("asked", "text"), PLAIN)
def test_texts_on_smollm2(asked: str, text: str) -> None:
    check_text(model("smollm2", template="none"), asked, text)


@needs_asset("gemma3-270m")
@pytest.mark.parametrize(("asked", "text"), PLAIN)
def test_texts_on_gemma_which_wants_one_bos(asked: str, text: str) -> None:
    lm = model("gemma3-270m")
    check_text(lm, asked, text)
    assert lm.encode(asked).ids.count(lm.tokenizer.bos_token_id) == 1


def test_sentencepiece_adds_no_space_of_its_own() -> None:
    """Alone, "b" would be " b" to such a tokenizer."""
    words = {"w0": 0, "w1": 1, "w2": 2, "▁a": 3, "▁b": 4, "b": 5, "a": 6, "▁": 7}
    inner = Tokenizer(models.BPE(words, [("▁", "a"), ("▁", "b")]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="w0", bos_token="w1")
    lm = tt.TransformersLM(toys.causal_lm(), tokenizer)
    assert response_ids(lm, lm.encode("a"), "b") == (5, 0)
    assert response_ids(lm, lm.encode("a"), " b") == (4, 0)


# --- toys ----------------------------------------------------------------------------------------

WORDS = st.lists(st.integers(20, 90).map("w{}".format), min_size=1, max_size=4).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=5).filter(lambda t: len(t) % 2), WORDS)
def test_the_law_on_a_toy(turns: list[str], text: str) -> None:
    check_law(chat_model(), list(said(*turns)), text)


def count_of(template: str, *rows: dict[str, Any]) -> str:
    good = {"prompt": "w3", "chosen": "w4", "rejected": "w5"}
    one = {k: said("w9", v)[1:] for k, v in good.items() if k != "prompt"}
    _, dropped = read_preferences([{"prompt": said("w3"), **one}, *rows], chat_model(template))
    return str(dropped)


def row(*turns: str, chosen: str = "w4") -> dict[str, Any]:
    answers = {"chosen": said("", chosen)[1:], "rejected": said("", "w5")[1:]}
    return {"prompt": said(*turns), **answers}


ONE = "1 of 2 pairs; left out: 1 not prompt + response in tokens"


def test_a_template_that_writes_the_history_anew_is_counted() -> None:
    """As templates do that drop earlier thoughts once there is an answer."""
    forgets = "{% if messages|length > 3 %}{% set messages = messages[2:] %}{% endif %}" + CHATML
    assert count_of(forgets, row("w6", "w7", "w8")) == ONE
    assert count_of(forgets, row("w6")) == "all 2 pairs"


def test_a_template_that_refuses_is_counted() -> None:
    refuses = "{% if messages|length > 2 %}{{ raise_exception('two turns') }}{% endif %}" + CHATML
    assert count_of(refuses, row("w6", "w7", "w8")) == ONE


def test_a_response_with_an_eos_inside_is_counted() -> None:
    assert count_of(CHATML, row("w6", chosen="w4 w0 w5")) == ONE


def test_a_written_eos_is_not_doubled() -> None:
    rows = [{"prompt": "w3", "chosen": " w4 w0", "rejected": " w5"}]
    for lm in (chat_model(), toys.language_model()):
        (group,), _ = read_preferences(rows, lm)
        assert group.responses[0].tokens == (4, 0)
        assert group.responses[0].text == " w4 "


def test_a_template_without_eos_gets_the_tokenizers() -> None:
    lm = chat_model(CHATML.replace(" w0", ""))
    prompt = lm.encode("w3")
    assert response_ids(lm, prompt, "w4") == (4, 0)
    assert (*prompt.ids, 4) == rendered(lm, list(said("w3", "w4")))


def test_a_text_that_brings_its_bos_has_one() -> None:
    lm = copy.copy(toys.language_model())
    (group,), _ = read_preferences([{"prompt": "w1 w3", "chosen": " w4", "rejected": " w5"}], lm)
    assert group.prompt.ids == (1, 3)
    assert group.responses[0].tokens == (4, 0)
