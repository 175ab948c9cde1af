"""Models by a named shape with random weights, so that nothing has to be downloaded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

import trimtab as tt
from trimtab.guides import ScalarHead, VocabularyHead

# vocabulary, hidden, intermediate, layers, heads, key-value heads, tied embeddings
SHAPES = {
    "tiny": (1024, 64, 128, 8, 4, 2, True),
    "smollm2-135m": (49152, 576, 1536, 30, 9, 3, True),
    "llama-1b": (128256, 2048, 8192, 16, 32, 8, True),
    "llama-7b": (32000, 4096, 11008, 32, 32, 32, False),
}

GUIDES = ("same", "6-layer", "vocabulary")


@dataclass(frozen=True)
class Bench:
    """Everything that one run measures on; readers are made anew for every row of the table."""

    model: PreTrainedModel
    tokenizer: Any
    backbone: PreTrainedModel
    scalar: nn.Module
    vocabulary: nn.Module

    def lm(self) -> tt.TransformersLM:
        """The base model with an empty cache."""
        return tt.TransformersLM(self.model, self.tokenizer)

    def guide(self, kind: str) -> tt.ValueGuide | tt.VocabularyGuide:
        """A guide with an empty cache."""
        vocab = self.lm().vocab
        if kind == "vocabulary":
            return tt.VocabularyGuide(self.backbone, self.vocabulary, vocab=vocab)
        layers = 6 if kind == "6-layer" else None
        return tt.ValueGuide(self.backbone, self.scalar, layers=layers, vocab=vocab)


def config_of(shape: str, positions: int = 8192) -> LlamaConfig:
    """The Llama configuration of a named shape."""
    vocab, hidden, inner, layers, heads, kv, tied = SHAPES[shape]
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=0,
        pad_token_id=0,
    )


def words(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` made-up words."""
    vocab = {f"w{i}": i for i in range(size)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocab, unk_token="w2")), eos_token="w0", bos_token="w1"
    )


def build(shape: str, model: str | None, device: torch.device, dtype: torch.dtype) -> Bench:
    """A base model and a guide's backbone of its size, with weights of their own."""
    torch.manual_seed(0)
    if model is None:
        config = config_of(shape)
        base, guide = (_random(config, device, dtype) for _ in range(2))
        tokenizer: Any = words(config.vocab_size)
        backbone = cast("PreTrainedModel", guide.base_model)
    else:
        lm = tt.TransformersLM(model, dtype=dtype, device=device)
        base, tokenizer = lm.model, lm.tokenizer
        backbone = cast("PreTrainedModel", copy.deepcopy(base.base_model))
    text = base.config.get_text_config()
    scalar = _randomised(ScalarHead(text.hidden_size), device, dtype)
    vocabulary = _randomised(VocabularyHead(text.hidden_size, text.vocab_size), device, dtype)
    return Bench(base, tokenizer, backbone, scalar, vocabulary)


def _random(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Random weights, made on the device and in the dtype that are used."""
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation="sdpa"
        )
    return model.eval()


def _randomised(head: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A head whose scores differ; heads start at zero."""
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.02)
    return head.to(device=device, dtype=dtype).eval()
