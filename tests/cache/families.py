"""Every family that transformers' AutoModelForCausalLM opens, and how it can be read.

`python -m tests.cache.families` writes the page of them anew (docs/families.md).
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from trimtab.cache import trial
from trimtab.errors import IncompatibleError
from trimtab.files import write_atomic

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
WAYS = ("tree", "expanded")
PAGE = Path(__file__).parents[2] / "docs" / "families.md"

_AS_DECODERS = (
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert "
    "reformer roberta roberta-prelayernorm roc_bert roformer xlm-roberta xlm-roberta-xl xmod"
)
PUBLISHED: dict[str, dict[str, Any]] = {
    **{family: {"is_decoder": True} for family in _AS_DECODERS.split()},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 8, "rope_theta": 5e5, "clip_qkv": 8}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2},
    "gemma4_assistant": {
        "text_config": {
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 4,
        }
    },
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 16, "moe_topk": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 16},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
}
"""What the default config of a family leaves open, or what makes it a decoder."""

NEEDS = {"gemma3n": "timm"}
"""Packages without which a family's networks cannot be made; the page is of a machine without."""


def unborn(family: str) -> PreTrainedModel:
    """A network of a family as AutoModelForCausalLM would choose it, without any weights."""
    config: PreTrainedConfig = CONFIG_MAPPING[family](**PUBLISHED.get(family, {}))
    kind: Any = AutoModelForCausalLM._model_mapping[type(config)]
    if config.sub_configs.get("text_config") is kind.config_class:
        config = config.get_text_config()
    config._attn_implementation = "sdpa" if kind._supports_sdpa else "eager"
    net: PreTrainedModel = kind.__new__(kind)
    net.__dict__["config"] = config
    assert isinstance(net, PreTrainedModel)
    return net


def refusal(net: PreTrainedModel, way: str) -> IncompatibleError | None:
    """Why a network of this class and config is not opened in a way; None where it is."""
    wrong = trial.refusal(net, way)
    return IncompatibleError(**wrong) if wrong else None


def row(family: str) -> str:
    """A family's line of the table."""
    found = [refusal(unborn(family), way) for way in WAYS]
    said = ["" if error else "yes" for error in found]
    why = next((told(error.got) for error in found if error), "")
    if family in NEEDS:
        why = f"needs {NEEDS[family]}; tried where that is installed"
    return f"| {family} | {said[0]} | {said[1]} | {why} |"


def told(got: str) -> str:
    """What was got instead, without what differs from one machine to the next."""
    if got.startswith("outputs that differ"):
        return "reads otherwise in pieces, beside others or by branches"
    return got.split(" (", 1)[0].split(" with ", 1)[-1]


def listed() -> dict[str, tuple[bool, bool]]:
    """What the page says: for each family whether it is read by trees, and by expansion."""
    lines = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line[1:-1]] for line in lines]
    return {name: (tree == "yes", other == "yes") for name, tree, other, _ in rows[1:]}


def write_page() -> None:
    """The page's table, from what is true now; what is said above it stays."""
    logging.disable(logging.WARNING)
    above = PAGE.read_text().split("| family |")[0]
    above = re.sub(r"transformers [\d.]+", f"transformers {transformers.__version__}", above)
    head = "| family | tree | expanded | why not |\n|---|---|---|---|\n"
    write_atomic(PAGE, above + head + "\n".join(row(family) for family in FAMILIES) + "\n")


if __name__ == "__main__":
    write_page()
