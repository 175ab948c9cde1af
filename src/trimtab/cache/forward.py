"""One forward over a tree: our masks, our cache, and attention that reads a prefix once.

transformers' sdpa copies keys and values once per query head of a group whenever a forward has
more than one query token. In `packed_attention` the heads of a group
lie side by side as queries instead: [B, H, Q, D] -> [B, Hkv, G Q, D] with the mask repeated, and
nothing else is copied.

transformers finds its "sdpa" by name, so ours stands under that name and is transformers' own
but for forwards inside `packed()`. Whether one is inside is known per thread: no network's config
is touched, and a forward of somebody else, in another thread on the same network, stays as it was.

Legend: B rows, H heads, Hkv key-value heads, G = H / Hkv, Q queries, W positions, D head size.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trimtab.cache.masks import QueryLayout, answering, see
from trimtab.cache.slots import Recorder, SlotStore
from trimtab.errors import IncompatibleError

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


class TreeForward:
    """Forwards of a network whose queries are lanes of a tree.

    Args:
        net: a transformers decoder.
        store: where its keys and values go.
        arguments: more arguments of each forward.
    """

    def __init__(
        self, net: PreTrainedModel, store: SlotStore, arguments: Mapping[str, Any]
    ) -> None:
        self.net, self.store, self._arguments = net, store, arguments

    def lay_out(self) -> None:
        """Show the store the shape of every layer's keys and values, by one token."""
        recorder = Recorder()
        zero = torch.zeros(1, 1, dtype=torch.int64, device=self.net.device)
        self(zero, QueryLayout(zero[0], zero, zero, zero == 0), 1, recorder)
        self.store.lay_out(recorder.seen)

    def __call__(
        self, tokens: Int[Tensor, "B Q"], lanes: QueryLayout, width: int, cache: Any
    ) -> Any:
        """What the network says of all lanes, or of the last where the arguments say so.

        Args:
            tokens: one for each lane.
            lanes: where they stand.
            width: how many stored positions are read.
            cache: a view of the store.

        Raises:
            IncompatibleError: the network makes its own masks.
        """
        with packed(), answering(partial(see, lanes, width), self.net.dtype) as answers:
            out = self.net(
                input_ids=tokens,
                position_ids=lanes.position,
                past_key_values=cache,
                use_cache=True,
                **self._arguments,
            )
        if not answers.count:
            raise IncompatibleError(
                "a tree needs a network that asks transformers for its masks",
                got=f"{self.net.config.model_type} with masks of its own making",
                do='pass attention="expanded"',
            )
        return out
