"""How a response ends, and how its text streams: through the public loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import trimtab as tt
from tests import toys
from trimtab.types import Completion, Prompt, Step, Vocab


class Script(tt.TableLM):
    """Always says the same tokens, then EOS: a table whose rows are point masses."""

    def __init__(self, tokens: Sequence[int], size: int, context: int | None = None) -> None:
        super().__init__(size, context=context)
        self.script = tuple(tokens)

    def next_logprobs(self, prefix: Sequence[int]) -> torch.Tensor:
        at = len(prefix) - 1  # every prompt here is one token
        token = self.script[at] if at < len(self.script) else 0
        law = torch.full((self.vocab.size,), -30.0, dtype=torch.float64)
        law[token] = 0.0
        return law.log_softmax(-1)


class Spoken(Script):
    """A script in the tokens of a real tokenizer."""

    def __init__(self, tokens: Sequence[int], tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__(tokens, len(tokenizer))
        self.vocab = Vocab(len(tokenizer))
        self.tokenizer = tokenizer

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def letters(text: str) -> list[int]:
    return [ord(letter) - ord("a") + 1 for letter in text]


def say(text: str, **options: Any) -> Completion:
    """Greedy decode of a base that says `text`, letter by letter."""
    return speak(Script(letters(text), 27), **options)


def speak(lm: Any, **options: Any) -> Completion:
    options = {"max_new_tokens": 64, **options}
    (done,) = tt.decode(lm, None, tt.greedy(), [Prompt((1,))], **options)
    return done


def pieces(done: Completion) -> list[str]:
    return [step.text for step in done.steps]


# --- why a response ends -------------------------------------------------------------------------


def test_eos_ends_a_response_and_leaves_no_text() -> None:
    done = say("abc")
    assert (done.text, done.finish, done.tokens) == ("abc", "eos", (1, 2, 3, 0))


def test_eos_as_the_last_token_of_the_budget_counts_as_eos() -> None:
    assert say("abc", max_new_tokens=4).finish == "eos"


def test_the_budget_ends_a_response() -> None:
    done = say("abcdef", max_new_tokens=4)
    assert (done.text, done.finish, len(done.tokens)) == ("abcd", "length", 4)


def test_only_the_last_step_says_why_it_ended() -> None:
    reasons = [step.finish for step in say("abc").steps]
    assert reasons == [None, None, None, "eos"]


def test_going_on_after_eos() -> None:
    lm = Script([1, 0, 2, 0, 3], 27)
    done = speak(lm, stop_at_eos=False, max_new_tokens=5)
    assert (done.tokens, done.text, done.finish) == ((1, 0, 2, 0, 3), "abc", "length")


def test_the_context_bounds_each_row_by_its_own_prompt() -> None:
    lm = tt.TableLM(4, context=6)
    prompts = [Prompt((1,) * n) for n in (1, 3, 5)]
    done = tt.decode(lm, None, tt.greedy(), prompts, max_new_tokens=20, stop_at_eos=False)
    assert [len(r.tokens) for r in done] == [5, 3, 1]
    assert {r.finish for r in done} == {"length"}


def test_a_transformer_fills_its_context_to_the_last_token() -> None:
    lm, guide = toys.language_model(), toys.value_guide()
    assert lm.context == 128
    prompts = toys.prompts(120, 126)
    done = tt.decode(lm, guide, tt.args(k=4), prompts, max_new_tokens=50, stop_at_eos=False)
    assert [len(r.tokens) for r in done] == [8, 2]


# --- stop strings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "stop", "text"),
    [
        ("abcdef", ["c"], "ab"),
        ("abcdef", ["cd"], "ab"),
        ("abcdef", ["a"], ""),
        ("aabaac", ["aac"], "aab"),  # begins twice before it comes
        ("ababac", ["abac"], "ab"),
        ("abcdef", ["def", "cd"], "ab"),
        ("abcdef", ["bcd", "c"], "ab"),  # the one that is complete first
        ("abcdef", ["x", "xyz"], "abcdef"),
    ],
)
def test_stop_strings_are_cut(said: str, stop: list[str], text: str) -> None:
    done = say(said, stop=stop)
    assert done.text == text
    assert done.finish == ("eos" if text == said else "stop")


def test_one_stop_string_needs_no_list() -> None:
    for said, stop in (("abcdef", "de"), ("abcdef", "ed"), ("abcdef", "e")):
        assert say(said, stop=stop) == say(said, stop=[stop])


def test_a_stop_string_keeps_its_tokens() -> None:
    assert say("abcdef", stop=["cd"]).tokens == (1, 2, 3, 4)


@pytest.mark.parametrize("stop", ["c", "bd", "abcabd", "cabd", "bcabd"])
def test_streamed_text_never_shows_a_part_of_a_stop_string(stop: str) -> None:
    said = "abcabcabdef"
    shown = list(itertools.accumulate(pieces(say(said, stop=[stop]))))
    end = said.index(stop)
    assert shown[-1] == said[:end]
    assert all(said[:end].startswith(text) for text in shown)


def test_what_might_have_become_a_stop_string_is_given_out_in_the_end() -> None:
    assert say("abab", stop=["abx"]).text == "abab"
    assert say("abab", stop=["abx"], max_new_tokens=4).text == "abab"


def test_a_stop_string_in_the_middle_of_a_block() -> None:
    done = tt.decode(
        Script(letters("abcdef"), 27),
        toys.TableGuide(),
        tt.cd_blockwise(n=2, length=3),
        [Prompt((1,))],
        max_new_tokens=9,
        stop=["b"],
    )[0]
    assert (done.text, done.finish, done.tokens) == ("a", "stop", (1, 2, 3))


def test_rows_stop_for_themselves() -> None:
    lm = tt.TableLM(5, seed=4)
    options = {"n": 20, "max_new_tokens": 12}
    free = tt.decode(lm, None, tt.sampling(), ["a"], **options)
    held = tt.decode(lm, None, tt.sampling(), ["a"], stop=["bc"], **options)
    assert [r.text.split("bc")[0] for r in free] == [r.text for r in held]
    assert {r.finish for r in held} >= {"eos", "stop"}


# --- characters that span tokens -----------------------------------------------------------------


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, as in byte-level BPE without merges; id 0 is EOS."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<eos>": 0} | {letter: i + 1 for i, letter in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(vocab=words, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", clean_up_tokenization_spaces=False
    )


def spell(text: str, **options: Any) -> Completion:
    """A base that says `text` byte by byte."""
    ids = byte_tokenizer().encode(text, add_special_tokens=False)
    assert len(ids) == len(text.encode())
    return speak(Spoken(ids, byte_tokenizer()), **options)


TEXTS = ["plain", "déjà vu", "日本語", "a 🙂 b 👩‍🚀", "über\n\n日", "ab  c "]


@pytest.mark.parametrize("text", TEXTS)
def test_characters_come_whole(text: str) -> None:
    done = spell(text, max_new_tokens=200)
    assert done.text == text
    assert all("\ufffd" not in piece for piece in pieces(done))


@pytest.mark.parametrize("text", TEXTS)
def test_stop_strings_of_wide_characters(text: str) -> None:
    last = text[-1]
    assert spell(text, stop=[last], max_new_tokens=200).text == text[: text.index(last)]


def test_a_character_cut_by_the_budget_is_shown_as_broken() -> None:
    done = spell("a日", max_new_tokens=3)
    assert done.text == "a\ufffd"


def test_a_broken_character_inside_a_text_does_not_stop_it() -> None:
    broken = byte_tokenizer().encode("日", add_special_tokens=False)[:2]
    ids = [*broken, *byte_tokenizer().encode("ok", add_special_tokens=False)]
    assert speak(Spoken(ids, byte_tokenizer())).text == "\ufffdok"


# --- streams -------------------------------------------------------------------------------------


def streamed(lm: Any, guide: Any, method: tt.Method, prompts: list[Prompt], **options: Any) -> Any:
    steps: dict[int, list[Step]] = {}
    for step in tt.decode_steps(lm, guide, method, prompts, **options):
        steps.setdefault(step.row, []).append(step)
    return [steps[row] for row in sorted(steps)]


@pytest.mark.parametrize("stop_at_eos", [True, False])
def test_streams_join_to_the_completion_and_to_the_text_of_its_tokens(stop_at_eos: bool) -> None:
    # The word tokenizer puts a space between words, so a token's text depends on its neighbours,
    # and special tokens in the middle (`stop_at_eos=False`) have no text at all.
    lm = toys.language_model(vocabulary=6)
    options: dict[str, Any] = {"max_new_tokens": 24, "n": 6, "stop_at_eos": stop_at_eos}
    prompts = toys.prompts(3, 5, vocabulary=6)
    done = tt.decode(lm, None, tt.sampling(1.5), prompts, **options)
    rows = streamed(lm, None, tt.sampling(1.5), prompts, **options)
    for response, steps in zip(done, rows, strict=True):
        assert "".join(step.text for step in steps) == response.text
        assert response.text == lm.decode(response.tokens)


@pytest.mark.assets
def test_streams_of_a_real_tokenizer() -> None:
    tokenizer = tt.TransformersLM("smollm2").tokenizer
    text = "It's 20 °C, naïve café, 日本語 and 👩‍🚀!\n\n  def f(x):\n\treturn x  # ok"
    ids = tokenizer.encode(text, add_special_tokens=False)
    lm = Spoken(ids, tokenizer)
    lm.eos_ids = frozenset({tokenizer.eos_token_id})
    done = speak(lm, max_new_tokens=len(ids))
    assert done.text == text
