"""Tiny networks with every kind of length: windows, chunks, rotary switches; multimodal ones."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tests import shapes
from tests.shapes import LLAMA, VISION
from trimtab.types import Prompt

VOCABULARY = 97

_SHAPE = LLAMA | {
    "max_position_embeddings": 256,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "eos_token_id": 0,
    "bos_token_id": 2,
}
_MIXED = {"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"] * 2}
_FEW: dict[str, dict[str, Any]] = {
    "gemma3n": {
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [48] * 4,
        "laurel_rank": 4,
    },
    "gemma4": {
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "global_head_dim": 16,
    },
}
LLAMA4 = {"attention_chunk_size": 32, "num_local_experts": 2, "intermediate_size_mlp": 48}


def shape(family: str, **changes: Any) -> Any:
    """The config of a tiny network."""
    text = _SHAPE | changes
    if family in ("phi3", "smollm3", "starcoder2", "phi"):
        text.pop("head_dim")
    few = _FEW.get(family.removesuffix("_text"), {})
    if family in ("gemma3_text", "gemma3n_text", "gemma4_text"):
        text = _SHAPE | _MIXED | few | changes
    if family in ("gemma3", "gemma4"):
        inner = _SHAPE | _MIXED | few | changes
        eyes = {"vision_config": VISION} if family == "gemma3" else {}
        return CONFIG_MAPPING[family](text_config=inner, **eyes, pad_token_id=0, eos_token_id=0)
    if family == "llama4":
        return CONFIG_MAPPING[family](text_config=_SHAPE | LLAMA4 | changes, pad_token_id=0)
    return CONFIG_MAPPING[family](**text)


def net(family: str, **changes: Any) -> PreTrainedModel:
    """A tiny causal LM with weights that make every token tell."""
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(shape(family, **changes)).float().eval()
    for weights in made.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.2)
    assert isinstance(made, PreTrainedModel)
    return made


def longrope(switch: int = 32, **changes: Any) -> PreTrainedModel:
    """Phi-3's way to a long context."""
    return net("phi3", **shapes.longrope(switch), **changes)


def text(length: int, seed: int = 1) -> Prompt:
    """A random prompt of ordinary tokens."""
    generator = torch.Generator().manual_seed(seed)
    return Prompt(tuple(torch.randint(8, VOCABULARY - 8, (length,), generator=generator).tolist()))


@torch.inference_mode()
def plain(model: PreTrainedModel, ids: Any) -> torch.Tensor:
    """The law of the next token by a plain forward of the whole text."""
    out = model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    law: torch.Tensor = out.logits[0, -1].double().log_softmax(-1)
    return law


def apart(law: torch.Tensor, other: torch.Tensor) -> float:
    """The total variation between two laws, as logarithms."""
    return float((law.double().exp() - other.double().exp()).abs().sum() / 2)
