"""What is asked of a network, and what it is told while it runs: masks and attention.

Which of its layers see a sliding window, a chunk or everything only the architecture knows: its
config may carry a window that nothing uses, or keep it where we would not look. So we pass no mask.
Whenever a network asks transformers for one, with a function of a query's and a key's position, we
answer with that very function of the positions in the text (`within`).

transformers finds masks and attention by name, so ours stand under its names, and are its own but
for forwards inside `answering()`. Whether one is inside is known per thread: no network's config is
touched, and a forward of somebody else, in another thread on the same network, stays as it was.

Legend: B rows, H heads, Hkv key-value heads, Q queries of a row, W positions, D head size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import causal_mask_function, eager_mask, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trimtab.errors import PromptError

# --- its config ----------------------------------------------------------------------------------


def text_config(net: PreTrainedModel | PreTrainedConfig) -> Any:
    """The config of what reads and writes text: a part of the whole for a multimodal model."""
    config: Any = net if isinstance(net, PreTrainedConfig) else net.config
    try:
        return config.get_text_config()
    except ValueError:  # a model that also encodes text has two
        return config.get_text_config(decoder=True)


def text_decoder(net: PreTrainedModel) -> PreTrainedModel:
    """The decoder of text in a network: without towers for images or sound, and without a head."""
    inner: Any = net.base_model if text_config(net) is net.config else net.get_decoder()
    if inner is net and net.can_generate():  # whose class misnames its body
        inner = getattr(net, "model", net)
    return inner if isinstance(inner, PreTrainedModel) else net


@dataclass(frozen=True)
class Context:
    """How many tokens a row may have (None if unlimited), and why, where a config hides it."""

    tokens: int | None
    why: str = ""

    def hold(self, tokens: int) -> None:
        """Raise `PromptError` if a row of so many tokens does not fit."""
        if self.tokens is not None and tokens > self.tokens:
            raise PromptError(
                f"a row must fit the context of {self.tokens} tokens"
                + (f" ({self.why})" if self.why else ""),
                got=f"{tokens} tokens",
                do="shorten the prompt or the token budget",
            )


def context_of(net: PreTrainedModel | PreTrainedConfig) -> Context:
    """The longest row whose law depends on the row alone.

    Some networks change how they read at a length: longrope has other rotary frequencies for all
    tokens once any row of a forward is longer, and Llama 4 scales queries by the number of stored
    places. Beyond it a row's law would depend on the rows beside it and on when it was read.
    """
    config = text_config(net)
    longest = getattr(config, "max_position_embeddings", None)
    limits: list[tuple[Any, str]] = []
    if isinstance(longest, int) and longest > 0:
        limits.append((longest, ""))
    ropes = getattr(config, "rope_parameters", None) or {}
    # One set of parameters for each type of layer, where they differ.
    for rope in [value for value in ropes.values() if isinstance(value, dict)] or [ropes]:
        if rope.get("rope_type", rope.get("type")) == "longrope":
            switch = rope.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", longest
            )
            why = "its longrope changes the rotary frequencies of the whole text beyond"
            limits.append((switch, why))
    if getattr(config, "attn_temperature_tuning", False) and hasattr(config, "floor_scale"):
        why = "beyond, it scales queries by places in the cache"
        limits.append((int(config.floor_scale) - 1, why))
    known = [limit for limit in limits if limit[0] is not None]
    return Context(*min(known, key=lambda limit: limit[0], default=(None, "")))


# --- what it is told -----------------------------------------------------------------------------

Visible: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""transformers' mask function: of the indices of row, head, query and key to whether it sees."""

See: TypeAlias = Callable[[Visible], Bool[Tensor, "B 1 Q W"]]
"""From the architecture's mask function to who sees whom."""


def within(
    visible: Visible, query: Int[Tensor, "B Q"], key: Int[Tensor, "B #Q W"]
) -> Bool[Tensor, "B Q W"]:
    """What an architecture's mask function says of positions in the text."""
    row = torch.arange(len(query), device=query.device)[:, None, None]
    seen: Tensor = visible(row, torch.zeros_like(row), query[..., None], key)
    return seen.expand(*query.shape, key.shape[-1])


@dataclass(frozen=True)
class QueryLayout:
    """Where the query tokens (lanes) of one forward stand.

    A lane sees the row's prefix and its own chain up to itself; a chain is one candidate, or the
    single continuation of an `extend`.
    """

    prefix: Int[Tensor, "B"]  # tokens already stored, per row
    start: Int[Tensor, "B Q"]  # storage position of the lane's chain
    at: Int[Tensor, "B Q"]  # storage position of the lane itself; out of reach for padding
    real: Bool[Tensor, "B Q"]  # False for padding

    @classmethod
    def of_candidates(cls, prefix: Int[Tensor, "B"], k: int, length: int) -> QueryLayout:
        """k chains of as many tokens each, side by side behind each row's prefix."""
        lane = torch.arange(k * length, device=prefix.device).expand(len(prefix), -1)
        start = prefix[:, None] + lane // length * length
        return cls(prefix, start, prefix[:, None] + lane, torch.ones_like(lane, dtype=torch.bool))

    @property
    def position(self) -> Int[Tensor, "B Q"]:
        """Position in the text: every chain begins right after the prefix."""
        return (self.prefix[:, None] + self.at - self.start).masked_fill(~self.real, 0)

    def see(self, width: int, visible: Visible) -> Bool[Tensor, "B 1 Q W"]:
        """True where a lane attends to one of the first `width` stored positions.

        Padding stands beyond the width and sees whatever is there: nobody reads what comes of it,
        and attention over nothing would be NaN. `visible` is what the architecture lets a token
        see of its own text.
        """
        s = torch.arange(width, device=self.at.device)
        prefix, start, at = self.prefix[:, None, None], self.start[..., None], self.at[..., None]
        chain = (s >= start) & (s <= at)
        mask = (s < prefix) | chain
        if visible is not causal_mask_function:
            mask &= within(visible, self.position, torch.where(chain, prefix + s - start, s))
        return mask[:, None]


@dataclass
class Answers:
    """What a network is told during one forward; see `answering`."""

    see: See
    dtype: torch.dtype | None
    packed: bool
    count: int = 0  # how often it asked for a mask; a network that never does was never told

    def mask(self, visible: Visible) -> Tensor:
        """The mask, as a term of the scores, or boolean where there is no dtype."""
        self.count += 1
        mask = self.see(visible)
        if self.dtype is None:
            return mask
        least = torch.finfo(self.dtype).min
        return torch.zeros_like(mask, dtype=self.dtype).masked_fill_(~mask, least)


class _Thread(threading.local):
    answers: Answers | None = None


_thread = _Thread()


@contextmanager
def answering(see: See, dtype: torch.dtype | None, *, packed: bool = False) -> Iterator[Answers]:
    """While it lasts, masks that a network asks for in this thread are ours.

    Args:
        see: who sees whom.
        dtype: of the mask as a term of the scores (sdpa would turn a boolean mask into one in
            every layer); None keeps it boolean.
        packed: whether sdpa layers read keys and values of grouped queries once.
    """
    before, _thread.answers = _thread.answers, Answers(see, dtype, packed)
    try:
        yield _thread.answers
    finally:
        _thread.answers = before


def _or_ours(theirs: Callable[..., Any]) -> Callable[..., Any]:
    """transformers' own way to make a mask, unless this thread is answering."""

    def make(*args: Any, **kwargs: Any) -> Any:
        answers = _thread.answers
        return answers.mask(kwargs["mask_function"]) if answers else theirs(*args, **kwargs)

    return make


_OTHERS = ("position_bias", "softcap", "cache", "output_attentions", "s_aux")
"""What some architectures ask of attention besides; they get transformers' own."""

_sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"]


def _attention(
    module: nn.Module,
    query: Float[Tensor, "B H Q D"],
    key: Float[Tensor, "B Hkv W D"],
    value: Float[Tensor, "B Hkv W Dv"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' own sdpa, or one that packs grouped queries where this thread says so.

    transformers' copies keys and values once per query head of a group whenever a forward has more
    than one query token. Packed, the heads of a group lie side by side as queries instead:
    [B, H, Q, D] -> [B, Hkv, H / Hkv * Q, D] with the mask repeated, and nothing else is copied.
    """
    b, heads, queries, size = query.shape
    groups = heads // key.shape[1]
    ours = _thread.answers is not None and _thread.answers.packed
    plain = groups == 1 or queries == 1 or attention_mask is None or attention_mask.shape[1] > 1
    if not ours or plain or any(kwargs.get(other) is not None for other in _OTHERS):
        return _sdpa(  # type: ignore[no-any-return]  # transformers' table of functions is untyped
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    assert attention_mask is not None
    out = scaled_dot_product_attention(
        query.reshape(b, key.shape[1], groups * queries, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1),
        dropout_p=dropout,
        scale=scaling,
    )
    return out.reshape(b, heads, queries, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register("sdpa", _attention)
for _name, _theirs in (("sdpa", sdpa_mask), ("eager", eager_mask)):
    AttentionMaskInterface.register(_name, _or_ours(_theirs))
