"""Shapes of tiny networks: what configs of the same family have in common, wherever they are tried.

`toys` makes networks for most tests of them, `cache.nets` those with every kind of length, and
`fuzz.worlds` those that random decodes meet.
"""

from __future__ import annotations

from typing import Any

LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128}
PLAIN: dict[str, Any] = {
    name: value for name, value in LLAMA.items() if name not in ("num_key_value_heads", "head_dim")
}
"""Of families without grouped heads."""

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
"""The tower of a multimodal model."""


def longrope(switch: int) -> dict[str, Any]:
    """Other rotary frequencies for all tokens of a text of more than `switch`."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": switch,
    }
    return {"original_max_position_embeddings": switch, "rope_parameters": rope}


def dynamic(switch: int) -> dict[str, Any]:
    """Rotary frequencies that follow the length of a text of more than `switch` tokens."""
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    return {"max_position_embeddings": switch, "rope_parameters": rope}
