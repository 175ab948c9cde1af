"""Attention that reads a shared prefix once for all heads of a group.

transformers' sdpa copies keys and values once per query head of a group whenever a forward has
more than one query token. Here the heads of a group lie side by side as queries instead:
[B, H, Q, D] -> [B, Hkv, G Q, D] with the mask repeated, and nothing else is copied.

transformers finds its "sdpa" by name, so ours stands under that name and is transformers' own
but for forwards inside `packed()`. Whether one is inside is known per thread: no network's config
is touched, and a forward of somebody else, in another thread on the same network, stays as it was.

Legend: B rows, H heads, Hkv key-value heads, G = H / Hkv, Q queries, W positions, D head size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_OTHERS = ("position_bias", "softcap", "cache", "output_attentions", "s_aux")
"""What some architectures ask of attention besides; they get transformers' own."""

_sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]


class _Inside(threading.local):
    """Whether this thread is inside `packed()`."""

    yes = False


_inside = _Inside()


@contextmanager
def packed() -> Iterator[None]:
    """While it lasts, sdpa layers that run in this thread use packed attention."""
    before, _inside.yes = _inside.yes, True
    try:
        yield
    finally:
        _inside.yes = before


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
        return _sdpa(  # type: ignore[no-any-return]  # transformers' table of functions is untyped
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


def _attention(module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """transformers' own, or ours inside `packed()`."""
    return (packed_attention if _inside.yes else _sdpa)(module, *args, **kwargs)


AttentionInterface.register("sdpa", _attention)
