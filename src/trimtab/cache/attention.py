"""Attention that reads a shared prefix once for all heads of a group.

transformers' sdpa copies keys and values once per query head of a group whenever a forward has
more than one query token. Here the heads of a group lie side by side as queries instead:
[B, H, Q, D] -> [B, Hkv, G Q, D] with the mask repeated, and nothing else is copied.

Legend: B rows, H heads, Hkv key-value heads, G = H / Hkv, Q queries, W positions, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "trimtab_packed"
_OTHERS = ("position_bias", "softcap", "cache", "output_attentions", "s_aux")
"""What some architectures ask of attention besides; they get transformers' own."""


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B Hkv W D"],
    value: Float[Tensor, "B Hkv W Dv"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """sdpa with grouped queries packed; what is not tree attention goes to transformers' own."""
    b, heads, queries, size = query.shape
    groups = heads // key.shape[1]
    odd = any(kwargs.get(other) is not None for other in _OTHERS)
    if groups == 1 or queries == 1 or odd or attention_mask is None or attention_mask.shape[1] > 1:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    out = scaled_dot_product_attention(
        query.reshape(b, key.shape[1], groups * queries, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    return out.reshape(b, heads, queries, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, packed_attention)


class Packing:
    """Lends a network our attention for one forward; its configs are as before after it."""

    def __init__(self, net: nn.Module) -> None:
        # A truncated backbone has a config of its own beside the one its layers hold.
        found = {id(c): c for m in net.modules() if (c := getattr(m, "config", None)) is not None}
        self._configs = [c for c in found.values() if c._attn_implementation == "sdpa"]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """While it lasts, the network's sdpa layers use `packed_attention`."""
        for config in self._configs:
            config._attn_implementation = NAME
        try:
            yield
        finally:
            for config in self._configs:
                config._attn_implementation = "sdpa"
