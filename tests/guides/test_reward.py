"""Reward models on prefixes: each way of reading against the model's own forward."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trimtab as tt
from tests import toys
from trimtab.errors import (
    FetchError,
    GuideError,
    IncompatibleError,
    PromptError,
    UnknownNameError,
    UsageError,
)
from trimtab.types import Candidates, Prompt

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@cache
def classifier(
    family: str, labels: int = 1, vocabulary: int = toys.VOCABULARY, **options: Any
) -> PreTrainedModel:
    """A tiny random classifier; decoders have EOS as pad."""
    if family in toys.SHAPES:
        config = toys.config(family, vocabulary)
    else:
        shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
        shape |= {"num_attention_heads": 4, "max_position_embeddings": 40, "type_vocab_size": 2}
        config = CONFIG_MAPPING[family](**shape, vocab_size=vocabulary, pad_token_id=0)
    config.num_labels = labels
    config.update(options)
    torch.manual_seed(11)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data.mul_(4.0)
    return model


def characters(chat: str | None = None, merges: int = 60) -> PreTrainedTokenizerFast:
    """BPE over letters with merges across many pairs, so that texts tokenise unlike their parts."""
    letters = [chr(c) for c in range(32, 127)]
    pairs = [(a, b) for a in "w12 3" for b in "w0123456789 "][:merges]
    words = {t: i + 3 for i, t in enumerate([*letters, *("".join(p) for p in pairs)])}
    special = {"<pad>": 0, "<s>": 1, "</s>": 2}
    inner = Tokenizer(models.BPE({**special, **words}, pairs, unk_token="<pad>"))
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tok = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tok.chat_template = chat
    return tok


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """Words, as an encoder reads them: [CLS] prompt [SEP] response [SEP]."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(93))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def candidates(tokens: list[list[int]]) -> Candidates:
    t = torch.tensor(tokens)[..., None]
    one = torch.ones(t.shape[:2], dtype=torch.int64)
    return Candidates(t, torch.full(t.shape[:2], -1.0), one, t[..., 0] == toys.EOS)


def last_logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """The model's own head at the last token, uncached; pad id or not."""
    with torch.no_grad():
        hidden = model.base_model(torch.tensor([ids])).last_hidden_state
        return model.score(hidden)[0, -1]


# --- shared ids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_shared_ids_give_the_models_own_logits(family: str) -> None:
    model = classifier(family)
    guide = tt.RewardGuide(model, toys.tokenizer(), toys.language_model())
    assert guide.way == "shared"
    prompts = toys.prompts(4, 11)
    state = guide.prefill(prompts)
    texts = [list(p.ids) for p in prompts]
    for step in ([[5, 6, 7], [8, 9, 10]], [[20, 21, 22], [23, 24, 25]]):
        got = guide.score(state, candidates(step))
        for text, many, row in zip(texts, step, got, strict=True):
            for token, score in zip(many, row, strict=True):
                with torch.no_grad():
                    want = model(torch.tensor([[*text, token]])).logits[0, 0]
                assert float(score) == pytest.approx(float(want), abs=1e-5)
        state = guide.extend(state, torch.tensor([[r[1]] for r in step]), torch.tensor([1, 1]))
        texts = [[*text, r[1]] for text, r in zip(texts, step, strict=True)]
    assert (guide.cost.scored, guide.cost.extended) == (12, 0)


def test_a_candidate_that_is_the_pad_token() -> None:
    model = classifier("llama")
    assert model.config.pad_token_id == toys.EOS
    guide = tt.RewardGuide(model, toys.tokenizer(), toys.language_model())
    prompt = toys.prompts(6)[0]
    got = guide.score(guide.prefill([prompt]), candidates([[toys.EOS, 9]]))
    want = last_logits(model, [*prompt.ids, toys.EOS])
    assert float(got[0, 0]) == pytest.approx(float(want), abs=1e-5)
    # transformers' pooling would have taken the token before it
    before = last_logits(model, list(prompt.ids))
    assert abs(float(got[0, 0]) - float(before)) > 1e-3


def test_its_own_chat_template() -> None:
    tok = toys.tokenizer().__class__(
        tokenizer_object=toys.tokenizer().backend_tokenizer, eos_token="w0", bos_token="w1"
    )
    tok.chat_template = (
        "w1 {% for m in messages %}w90 {{ m.content }} w91 {% endfor %}"
        "{% if add_generation_prompt %}w92{% endif %}"
    )
    model = classifier("llama")
    guide = tt.RewardGuide(model, tok, toys.language_model())
    prompt = Prompt((50, 51), text="w50 w51")
    got = guide.score(guide.prefill([prompt]), candidates([[7, 8]]))
    want = last_logits(model, [1, 90, 50, 51, 91, 92, 8])
    assert guide.way == "shared"
    assert float(got[0, 1]) == pytest.approx(float(want), abs=1e-5)


def test_labels() -> None:
    lm, tok = toys.language_model(), toys.tokenizer()
    model = classifier("llama", 3)
    model.config.id2label = {0: "bad", 1: "good", 2: "neither"}
    prompt = toys.prompts(5)[0]

    def score(**options: Any) -> float:
        guide = tt.RewardGuide(model, tok, lm, **options)
        return float(guide.score(guide.prefill([prompt]), candidates([[7]])))

    want = last_logits(model, [*prompt.ids, 7])
    odds = want.log_softmax(-1)[1] - (1 - want.softmax(-1)[1]).log()
    assert score(label="good") == score(label=1) == pytest.approx(float(odds), abs=1e-4)
    model.config.problem_type = "multi_label_classification"
    assert score(label="good") == pytest.approx(float(want[1]), abs=1e-5)
    with pytest.raises(UsageError, match="must be named; got none of bad, good, neither"):
        score()
    with pytest.raises(UnknownNameError, match="did you mean good"):
        score(label="goood")
    assert score(label="1") == score(label="good")
    with pytest.raises(UsageError, match="label must be below 3"):
        score(label=3)


# --- another tokenizer ---------------------------------------------------------------------------


def oracle(model: PreTrainedModel, tok: PreTrainedTokenizerFast, text: str) -> float:
    ids = tok.encode(text, add_special_tokens=False)
    return float(last_logits(model, ids if text.startswith("<s>") else [1, *ids]))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("merges", [0, 60])
def test_another_tokenizer(family: str, merges: int) -> None:
    tok = characters(merges=merges)
    model = classifier(family, vocabulary=len(tok))
    lm = toys.language_model()
    guide = tt.RewardGuide(model, tok, lm, way=None)
    assert guide.way == "retokenised"
    prompts = [Prompt((50,), "w5 ask"), Prompt((51,), "a longer w17 one")]
    state = guide.prefill(prompts)
    texts: list[list[int]] = [[], []]
    for step in ([[11, 12, 13], [3, 33, 34]], [[10, 3, 31], [2, 22, 0]], [[5, 6, 7], [8, 9, 10]]):
        cand = candidates(step)
        got, again = guide.score(state, cand), guide.score(state, cand)
        torch.testing.assert_close(got, again)
        for prompt, text, many, row in zip(prompts, texts, step, got, strict=True):
            for token, score in zip(many, row, strict=True):
                whole = f"{prompt.text}{lm.decode([*text, token])}"
                end = "</s>" if token == toys.EOS else ""
                assert float(score) == pytest.approx(oracle(model, tok, whole + end), abs=1e-4)
        chosen = [r[2] if r[2] != toys.EOS else r[1] for r in step]
        state = guide.extend(state, torch.tensor(chosen)[:, None], torch.tensor([1, 1]))
        texts = [[*t, c] for t, c in zip(texts, chosen, strict=True)]
        order = torch.tensor([1, 0])
        state = guide.join([guide.select(state, order[:1]), guide.select(state, order[1:])])
        prompts, texts = prompts[::-1], texts[::-1]


def test_what_texts_share_is_read_once() -> None:
    tok = characters(merges=0)
    guide = tt.RewardGuide(classifier("llama", vocabulary=len(tok)), tok, toys.language_model())
    state = guide.prefill([Prompt((50,), "x" * 20)])
    assert guide.cost.prefill == 21
    guide.score(state, candidates([[11, 12, 13]]))
    # "w1" is shared and read once; the last letters differ and are read for each
    assert (guide.cost.extended, guide.cost.scored) == (2, 3)
    state = guide.extend(state, torch.tensor([[12]]), torch.tensor([1]))
    guide.score(state, candidates([[11, 12, 13]]))
    assert (guide.cost.extended, guide.cost.scored) == (2 + 4, 3 + 3)


def test_another_tokenizer_and_its_chat_template() -> None:
    tok = characters("<s>" + CHAT)
    model = classifier("llama", vocabulary=len(tok))
    guide = tt.RewardGuide(model, tok, toys.language_model())
    talk = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"})
    prompts = [Prompt((50,), "ask"), Prompt((51,), "Ho", talk)]
    got = guide.score(guide.prefill(prompts), candidates([[11, 0], [11, 0]]))
    want = [
        ["<s><user>ask</s><assistant>w11", "<s><user>ask</s><assistant></s>"],
        ["<s><user>Hi</s><assistant>How11", "<s><user>Hi</s><assistant>Ho</s>"],
    ]
    for row, texts in zip(got, want, strict=True):
        for score, text in zip(row, texts, strict=True):
            assert float(score) == pytest.approx(oracle(model, tok, text), abs=1e-4)


def test_a_template_of_ones_own() -> None:
    tok = characters()
    model = classifier("llama", vocabulary=len(tok))
    guide = tt.RewardGuide(
        model, tok, toys.language_model(), template=lambda p: f"Human: {p.text} Assistant: "
    )
    got = guide.score(guide.prefill([Prompt((50,), "ask")]), candidates([[11]]))
    want = oracle(model, tok, "Human: ask Assistant: w11")
    assert float(got) == pytest.approx(want, abs=1e-4)


def test_decoding_with_another_tokenizer_is_the_same_batched() -> None:
    tok, lm = characters(), toys.language_model()
    model = classifier("llama", vocabulary=len(tok))
    prompts = [Prompt((50, 4), "ask"), Prompt((51, 7, 9), "tell me")]
    method = tt.vas(4.0, k=4)

    def decode(prompts: list[Prompt]) -> list[tuple[int, ...]]:
        guide = tt.RewardGuide(model, tok, lm)
        done = tt.decode(lm, guide, method, prompts, max_new_tokens=6, n=2, stop_at_eos=False)
        return [c.tokens for c in done]

    assert decode(prompts) == decode(prompts[:1]) + decode(prompts[1:])


def test_longer_than_its_context() -> None:
    tok = characters(merges=0)
    guide = tt.RewardGuide(classifier("llama", vocabulary=len(tok)), tok, toys.language_model())
    with pytest.raises(PromptError, match="context of 128 tokens; got 131"):
        guide.prefill([Prompt((50,), "x" * 130)])


# --- encoders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "roberta"])
def test_encoders_read_pairs(family: str) -> None:
    model, tok, lm = classifier(family), pair_tokenizer(), toys.language_model()
    guide = tt.RewardGuide(model, tok, lm, batch_size=3)
    assert guide.way == "pairs"
    assert guide.vocab is None
    prompts = [Prompt((50,), "w5 w6"), Prompt((51,), "w7")]
    state = guide.prefill(prompts)
    state = guide.extend(state, torch.tensor([[20], [21]]), torch.tensor([1, 1]))
    got = guide.score(state, candidates([[11, 12], [0, 14]]))
    want = [[("w5 w6", "w20 w11"), ("w5 w6", "w20 w12")], [("w7", "w21"), ("w7", "w21 w14")]]
    for row, pairs in zip(got, want, strict=True):
        for score, (prompt, text) in zip(row, pairs, strict=True):
            with torch.no_grad():
                logits = model(**tok(prompt, text, return_tensors="pt")).logits
            assert float(score) == pytest.approx(float(logits[0, 0]), abs=1e-5)
    assert guide.cost.scored == 7 + 7 + 5 + 6
    assert guide.cost.forwards == 2


def test_long_prompts_lose_their_beginning(caplog: pytest.LogCaptureFixture) -> None:
    model, tok, lm = classifier("bert"), pair_tokenizer(), toys.language_model()
    guide = tt.RewardGuide(model, tok, lm)
    words = [f"w{i}" for i in range(60)]
    state = guide.prefill([Prompt((50,), " ".join(words))])
    with caplog.at_level(logging.WARNING, "trimtab"):
        got = guide.score(state, candidates([[11, 12]]))
        guide.score(state, candidates([[11, 12]]))
    assert len(caplog.records) == 1
    assert "64 tokens and the reward model reads 40" in caplog.text
    kept = tok(" ".join(words[-36:]), "w11", return_tensors="pt")
    assert kept["input_ids"].shape[1] == 40
    with torch.no_grad():
        want = model(**kept).logits[0, 0]
    assert float(got[0, 0]) == pytest.approx(float(want), abs=1e-5)
    assert tok.truncation_side == "right"


def test_a_response_that_is_too_long() -> None:
    guide = tt.RewardGuide(classifier("bert"), pair_tokenizer(), toys.language_model())
    state = guide.prefill([Prompt((50,), "w5")])
    state = guide.extend(state, torch.full((1, 37), 9), torch.tensor([37]))
    with pytest.raises(GuideError, match="must fit the 37 tokens .* got 38"):
        guide.score(state, candidates([[11]]))


def test_an_encoder_steers() -> None:
    lm = toys.language_model()
    guide = tt.RewardGuide(classifier("bert"), pair_tokenizer(), lm)
    done = tt.decode(lm, guide, tt.args(5.0, k=5), toys.prompts(3, 6), max_new_tokens=4)
    assert len(done) == 2


# --- choosing and loading ------------------------------------------------------------------------


def test_ways_that_do_not_fit() -> None:
    lm = toys.language_model()
    with pytest.raises(IncompatibleError, match="needs an encoder"):
        tt.RewardGuide(classifier("llama"), toys.tokenizer(), lm, way="pairs")
    with pytest.raises(IncompatibleError, match="needs a decoder"):
        tt.RewardGuide(classifier("bert"), pair_tokenizer(), lm, way="shared")


def test_load(tmp_path: Path) -> None:
    lm, folder = toys.language_model(), tmp_path / "rm-small"
    classifier("llama").save_pretrained(folder)
    toys.tokenizer().save_pretrained(folder)
    guide = tt.RewardGuide.load(str(folder), lm)
    assert repr(guide) == "RewardGuide('rm-small', llama, way='shared')"
    prompt, cand = toys.prompts(5), candidates([[7, 8]])
    direct = tt.RewardGuide(classifier("llama"), toys.tokenizer(), lm)
    got = guide.score(guide.prefill(prompt), cand)
    assert torch.equal(got, direct.score(direct.prefill(prompt), cand))


def test_load_refuses_a_model_without_a_head(tmp_path: Path) -> None:
    toys.causal_lm("llama").save_pretrained(tmp_path)
    toys.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(IncompatibleError, match="classification head; got .* without score"):
        tt.RewardGuide.load(str(tmp_path), toys.language_model())


def test_load_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder must be there; got nothing at .*no'"):
        tt.RewardGuide.load(str(tmp_path / "no"), toys.language_model())
    with pytest.raises(FetchError, match="reward model must be a folder"):
        tt.RewardGuide.load(str(tmp_path), toys.language_model())
