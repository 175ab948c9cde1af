"""Reward models of transformers on finished texts, against the model called by hand, unpadded."""

from __future__ import annotations

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

from tests import toys
from tests.toys import samples
from trimtab import rewards
from trimtab.errors import FetchError, RewardError, UnknownNameError, UsageError
from trimtab.rewards import ask
from trimtab.rewards.classifier import Classifier
from trimtab.runs.resolve import find_reward
from trimtab.types import Sample

CHAT = (
    "{% for m in messages %}w3 {{ m.role == 'user' and 'w4' or 'w5' }} {{ m.content }} w0 "
    "{% endfor %}{% if add_generation_prompt %}w3 w5 {% endif %}"
)
PROMPTS = ["w10 w11", "w12", "w13 w14 w15 w16"]
RESPONSES = ["w20", "w21 w22 w23 w24 w25", "w26 w27"]


def saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> str:
    for weights in model.parameters():
        if weights.dim() > 1:
            weights.data.mul_(4.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def decoder(folder: Path, labels: int = 1, chat: str | None = None, **options: Any) -> str:
    """A tiny Llama whose pad token is EOS, which closes every text."""
    config = toys.config("llama")
    config.num_labels = labels
    config.update(options)
    torch.manual_seed(5)
    tokenizer = toys.tokenizer().__class__.from_pretrained(_copy(folder))
    tokenizer.chat_template = chat
    return saved(folder, AutoModelForSequenceClassification.from_config(config), tokenizer)


def _copy(folder: Path) -> Path:
    toys.tokenizer().save_pretrained(folder / "words")
    return folder / "words"


def encoder(folder: Path) -> str:
    """A tiny BERT that reads pairs of at most 24 tokens."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(93))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "max_position_embeddings": 24}
    torch.manual_seed(5)
    config = CONFIG_MAPPING["bert"](**shape, vocab_size=len(words), num_labels=1)
    return saved(folder, AutoModelForSequenceClassification.from_config(config), tokenizer)


def by_hand(folder: str, text: str, pair: str | None = None, **options: Any) -> torch.Tensor:
    """The model's own logits of one text; without a pad token it pools at the last."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    if pair is None:
        model.config.pad_token_id = None
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.no_grad():
        batch = tokenizer(text, pair, return_tensors="pt", **options)
        logits: torch.Tensor = model(**batch).logits[0]
    return logits


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_decoder_gives_its_own_logit_at_the_end_of_the_text(
    tmp_path: Path, batch_size: int
) -> None:
    folder = decoder(tmp_path)
    got = Classifier(folder, batch_size=batch_size)(samples(*PROMPTS), RESPONSES)
    for prompt, response, score in zip(PROMPTS, RESPONSES, got, strict=True):
        rows = toys.tokenizer()(f"{prompt}{response}w0", add_special_tokens=False)["input_ids"]
        text = toys.tokenizer().decode(rows)
        want = by_hand(folder, text, add_special_tokens=False)
        assert score == pytest.approx(want.item(), abs=1e-4)


def test_a_decoder_reads_its_own_chat_template(tmp_path: Path) -> None:
    folder = decoder(tmp_path, chat=CHAT)
    got = rewards.find(f"hf:{folder}")(samples(*PROMPTS), RESPONSES)
    for prompt, response, score in zip(PROMPTS, RESPONSES, got, strict=True):
        text = f"w3 w4 {prompt} w0 w3 w5 {response} w0"
        want = by_hand(folder, text, add_special_tokens=False)
        assert score == pytest.approx(want.item(), abs=1e-4)


def test_a_conversation_is_read_whole(tmp_path: Path) -> None:
    folder = decoder(tmp_path, chat=CHAT)
    turns = [("user", "w10"), ("assistant", "w11"), ("user", "w12")]
    sample = Sample(tuple({"role": r, "content": c} for r, c in turns), "t")
    (score,) = rewards.find(f"hf:{folder}")([sample], ["w13"])
    text = "w3 w4 w10 w0 w3 w5 w11 w0 w3 w4 w12 w0 w3 w5 w13 w0"
    want = by_hand(folder, text, add_special_tokens=False)
    assert score == pytest.approx(want.item(), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_an_encoder_gives_its_own_logit_of_each_pair(tmp_path: Path, batch_size: int) -> None:
    folder = encoder(tmp_path)
    got = Classifier(folder, batch_size=batch_size)(samples(*PROMPTS), RESPONSES)
    for prompt, response, score in zip(PROMPTS, RESPONSES, got, strict=True):
        assert score == pytest.approx(by_hand(folder, prompt, response).item(), abs=1e-4)


def test_labels_that_exclude_each_other_give_log_odds(tmp_path: Path) -> None:
    folder = decoder(tmp_path, labels=3, chat=CHAT, id2label={0: "bad", 1: "so", 2: "good"})
    asked, text = samples("w10"), "w3 w4 w10 w0 w3 w5 w20 w0"
    p = by_hand(folder, text, add_special_tokens=False).double().softmax(0)
    (named,), (numbered,) = (
        rewards.find(f"hf:{folder}#{x}")(asked, ["w20"]) for x in ("good", "2")
    )
    assert named == numbered == pytest.approx((p[2] / (1 - p[2])).log().item(), abs=1e-3)
    with pytest.raises(UsageError, match="none of bad, so, good; write MODEL#LABEL"):
        rewards.find(f"hf:{folder}")(asked, ["w20"])
    with pytest.raises(UnknownNameError, match="did you mean good"):
        rewards.find(f"hf:{folder}#goood")(asked, ["w20"])


def test_what_is_too_long_costs_only_itself(tmp_path: Path) -> None:
    long = "w20 " * 200
    for folder in (decoder(tmp_path / "decoder", chat=CHAT), encoder(tmp_path / "encoder")):
        first, second = ask(rewards.find(f"hf:{folder}"), samples("w10", "w10"), [long, "w20"])
        assert isinstance(second, float)
        assert "tokens that the reward model reads" in str(first)
        with pytest.raises(RewardError, match="lower max_new_tokens"):
            rewards.find(f"hf:{folder}")(samples("w10"), [long])


def test_a_scorer_knows_a_model_by_its_weights(tmp_path: Path) -> None:
    one, two = decoder(tmp_path / "one" / "m"), decoder(tmp_path / "two" / "m", labels=2)
    scorers = [find_reward(f"hf:{one}"), find_reward(f"hf:{two}#1"), find_reward(f"hf:{two}#0")]
    assert [s.name for s in scorers] == ["m", "m#1", "m#0"]
    assert len({s.fingerprint for s in scorers}) == 3


def test_a_model_that_cannot_be_had_is_said(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="reward model must be a folder"):
        rewards.find(f"hf:{tmp_path}")(samples("x"), ["y"])
    with pytest.raises(UsageError, match="a folder must be there"):
        rewards.find(f"hf:{tmp_path}/none")(samples("x"), ["y"])
    with pytest.raises(UsageError, match="must be hf:FOLDER"):
        rewards.find("hf:#good")
    assert Classifier("never/loaded")([], []) == []
