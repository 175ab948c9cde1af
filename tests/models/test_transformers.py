"""TransformersLM: what pi_ref is, what prompts become, and what a generation_config may not do."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GenerationConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import trimtab as tt
from tests import toys
from trimtab.errors import (
    FetchError,
    IncompatibleError,
    PromptError,
    UnknownNameError,
    UsageError,
)
from trimtab.models.transformers import Codec
from trimtab.rng import Rng
from trimtab.types import Sample

CHATML = (
    "{{ bos_token }}{% for m in messages %} {{ m['role'] }} {{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} assistant{% endif %}"
)


def law(lm: tt.TransformersLM, prompt: tt.Prompt) -> torch.Tensor:
    """log pi_ref of the next token."""
    zero = torch.zeros(1, dtype=torch.int64)
    return lm.propose(lm.prefill([prompt]), tt.Vocabulary(), Rng(0, zero, zero)).logprobs[0]


def test_base_temperature_divides_the_logits() -> None:
    (prompt,) = toys.prompts(7)
    plain = law(toys.language_model(), prompt)
    cool = law(toys.language_model(base_temperature=0.5), prompt)
    torch.testing.assert_close(cool, (2 * plain).log_softmax(-1), rtol=1e-4, atol=1e-4)


def test_base_top_p_cuts_and_renormalises() -> None:
    (prompt,) = toys.prompts(7)
    plain = law(toys.language_model(), prompt)
    cut = law(toys.language_model(base_top_p=0.6), prompt)
    kept = ~torch.isneginf(cut)
    assert cut.exp().sum() == pytest.approx(1.0, abs=1e-5)
    assert plain[kept].exp().sum() >= 0.6 > plain[kept].exp().sum() - plain[kept].exp().min()
    torch.testing.assert_close(cut[kept], plain[kept].log_softmax(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"base_temperature": 0.0}, {"base_top_p": 0.0}])
def test_pi_ref_must_be_a_distribution(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="base_temperature must be above 0"):
        toys.language_model(**options)


def test_hidden_penalties_are_reported_and_not_applied(caplog: pytest.LogCaptureFixture) -> None:
    (prompt,) = toys.prompts(9)
    net = copy.deepcopy(toys.causal_lm())
    net.generation_config = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=2)
    with caplog.at_level(logging.WARNING, logger="trimtab"):
        lm = tt.TransformersLM(net, toys.tokenizer())
    assert lm.hidden_settings == {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}
    assert "is not applied" in caplog.text
    assert torch.equal(law(lm, prompt), law(toys.language_model(), prompt))


def chat_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = CHATML
    return tokenizer


def test_a_chat_template_is_applied_once_and_writes_the_only_bos() -> None:
    lm = tt.TransformersLM(toys.causal_lm(), chat_tokenizer())
    text = lm.encode("w5 w6")
    assert text.ids == lm.encode([{"role": "user", "content": "w5 w6"}]).ids
    assert text.ids.count(toys.BOS) == 1
    assert text.text == "w5 w6"
    assert text.messages == ({"role": "user", "content": "w5 w6"},)


def test_a_template_can_be_left_out() -> None:
    lm = tt.TransformersLM(toys.causal_lm(), chat_tokenizer(), template="none")
    assert lm.encode("w5 w6").ids == (5, 6)


def test_an_unfinished_assistant_turn_is_continued() -> None:
    lm = tt.TransformersLM(toys.causal_lm(), chat_tokenizer())
    turns = [{"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6 w7"}]
    assert lm.encode(turns).ids[-2:] == (6, 7)


PICKY = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %} {{ m['role'] }} {{ m['content'] | trim }} .{% endfor %}"
    "{% if add_generation_prompt %} assistant{% endif %}"
)
"""As Gemma's: trims, and refuses a role."""


@pytest.mark.parametrize("template", [CHATML, PICKY])
@pytest.mark.parametrize(
    ("begun", "ids"), [("w6 w7 ", (6, 7)), ("  w6 w7", (6, 7)), ("w6 w7", (6, 7))]
)
def test_spaces_around_a_beginning_do_no_harm(
    template: str, begun: str, ids: tuple[int, ...]
) -> None:
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = template
    lm = tt.TransformersLM(toys.causal_lm(), tokenizer)
    turns = [{"role": "user", "content": "w5"}, {"role": "assistant", "content": begun}]
    assert lm.encode(turns).ids[-2:] == ids


@pytest.mark.parametrize("template", [CHATML, PICKY])
def test_an_empty_beginning_begins_nothing(template: str) -> None:
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = template
    lm = tt.TransformersLM(toys.causal_lm(), tokenizer)
    ask = {"role": "user", "content": "w5"}
    begun = lm.encode([ask, {"role": "assistant", "content": ""}])
    assert begun.ids == lm.encode([ask]).ids


def test_what_a_conversation_asks_is_what_the_user_said_last() -> None:
    lm = tt.TransformersLM(toys.causal_lm(), chat_tokenizer())
    ask, begun = {"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6 w7"}
    for turns in ([ask], [ask, begun], [ask, begun, {"role": "user", "content": "w8"}, begun]):
        sample = Sample(tuple(turns), "topic")
        prompt = lm.encode(turns)
        assert (
            prompt.text == sample.text == [t for t in turns if t["role"] == "user"][-1]["content"]
        )
        assert prompt.messages == tuple(turns)
    system = [{"role": "system", "content": "w9"}]
    assert lm.encode(system).text == Sample(tuple(system), "topic").text == "w9"


def test_guides_on_prefixes_and_judges_of_texts_see_the_same() -> None:
    """Of a conversation that ends with a beginning: the question, and what was written after it."""
    lm = tt.TransformersLM(toys.causal_lm(), chat_tokenizer())
    turns = ({"role": "user", "content": "w5"}, {"role": "assistant", "content": "w6 w7"})
    seen: list[tuple[str, str]] = []

    def score(prompts: list[str], texts: list[str]) -> list[float]:
        seen.extend(zip(prompts, texts, strict=True))
        return [0.0] * len(texts)

    guide = tt.TextGuide(score, lm.decode)
    (done,) = tt.decode(lm, guide, tt.args(k=3), [turns], max_new_tokens=3, stop_at_eos=False)
    assert (Sample(turns, "topic").text, done.text) in seen
    assert {prompt for prompt, _ in seen} == {"w5"}
    assert "w6 w7" not in done.text


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "system", "content": "w5"}, {"role": "user", "content": "w6"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"content": "w5"}],
    ],
    ids=str,
)
def test_a_conversation_that_the_template_cannot_write_is_one_clear_line(turns: Any) -> None:
    tokenizer = copy.deepcopy(toys.tokenizer())
    tokenizer.chat_template = PICKY
    with pytest.raises(PromptError) as caught:  # TemplateError is one
        Codec(tokenizer).encode(turns)
    assert "\n" not in str(caught.value)


def test_messages_need_a_template() -> None:
    with pytest.raises(PromptError, match="chat template"):
        toys.language_model().encode([{"role": "user", "content": "w5"}])


@pytest.mark.parametrize("empty", ["", []])
def test_empty_prompts_are_refused(empty: str | list[dict[str, str]]) -> None:
    with pytest.raises(PromptError, match="must not be empty"):
        toys.language_model().encode(empty)


def test_an_unknown_model_is_one_clear_line() -> None:
    with pytest.raises(FetchError, match="no/such-model") as raised:
        tt.TransformersLM("no/such-model")
    assert "\n" not in str(raised.value)


def test_loading_options_need_a_name() -> None:
    with pytest.raises(UsageError, match="loading options"):
        tt.TransformersLM(toys.causal_lm(), toys.tokenizer(), dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_decode(dtype: torch.dtype) -> None:
    net = copy.deepcopy(toys.causal_lm()).to(dtype)
    lm = tt.TransformersLM(net, toys.tokenizer())
    (done,) = tt.decode(lm, None, tt.sampling(), toys.prompts(6), max_new_tokens=5)
    assert len(done.tokens) <= 5
    assert lm.prefill(toys.prompts(6)).last.dtype == torch.float32, "pi_ref is kept in float32"


@pytest.mark.parametrize(
    ("loading", "says"),
    [
        ({"dtype": "flaot32"}, "dtype must be a known name; got 'flaot32'; did you mean float32"),
        ({"dtype": "bf16"}, "dtype must be a known name; got 'bf16'"),
        ({"device": "cdua"}, "device must be a known name; got 'cdua'; did you mean cuda"),
        ({"device_mapp": "auto"}, "got 'device_mapp'; did you mean device_map"),
    ],
    ids=str,
)
def test_words_of_loading_are_checked(
    loading: dict[str, str], says: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("llama")
    toys.causal_lm().save_pretrained(folder)
    with pytest.raises(UnknownNameError) as caught:
        tt.TransformersLM(str(folder), toys.tokenizer(), **loading)
    assert says in str(caught.value)


def _t5() -> Any:
    sizes = {"d_model": 32, "d_ff": 32, "num_layers": 2, "num_heads": 4, "d_kv": 8}
    return T5ForConditionalGeneration(T5Config(vocab_size=toys.VOCABULARY, **sizes))


def _bert(decoder: bool = False) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    config = BertConfig(
        vocab_size=toys.VOCABULARY, num_attention_heads=4, is_decoder=decoder, **sizes
    )
    return BertLMHeadModel(config).eval()


@pytest.mark.parametrize("attention", ["tree", "expanded"])
@pytest.mark.parametrize(
    ("make", "says"), [(_t5, "t5, an encoder and a decoder"), (_bert, "bert that sees the next")]
)
def test_what_is_no_decoder_is_refused_at_opening(make: Any, says: str, attention: Any) -> None:
    with pytest.raises(IncompatibleError) as caught:
        tt.TransformersLM(make(), toys.tokenizer(), attention=attention)
    assert says in str(caught.value)
    assert "decoder-only" in str(caught.value)


def test_a_kind_that_transformers_opens_as_no_causal_model_is_said_so(tmp_path: Path) -> None:
    _t5().save_pretrained(tmp_path)
    with pytest.raises(IncompatibleError, match="decoder-only"):
        tt.TransformersLM(str(tmp_path), toys.tokenizer())


def test_an_encoder_that_was_made_a_decoder_is_one() -> None:
    assert tt.TransformersLM(_bert(decoder=True), toys.tokenizer()).model.config.is_decoder
