"""What a decode costs in floating-point operations, by two formulas.

`kaplan` is the formula that the papers report by; `forward` counts a real network. Both are per
token that a network reads, so a bill is these times the tokens that the counters saw. One
multiply-add is two operations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from trimtab.evaluation.weights import met
from trimtab.guides import RewardGuide, Transform, ValueGuide, VocabularyGuide
from trimtab.models.transformers import TransformersLM
from trimtab.types import Completion


def kaplan(n_layer: int, d_model: int, n_ctx: int = 0) -> float:
    """Operations per token by Kaplan et al. 2020 (Table 1), as PARGS counts them.

        C = 2 N + 2 n_layer n_ctx d_model,   N = 12 n_layer d_model^2

    N assumes a feed-forward layer of width 4 d_model and full multi-head attention, and leaves
    out the vocabulary head. Attention over the context counts its scores but not the sum of
    values, which would double the second term.
    """
    return 2.0 * 12 * n_layer * d_model**2 + 2.0 * n_layer * n_ctx * d_model


@dataclass(frozen=True)
class Shape:
    """What a network's cost depends on.

    Attributes:
        weights: parameters that a token of text meets: all of the text model but lookup tables,
            vocabulary head included; of experts those that a token is sent to (see `weights`).
        query_widths: for each layer heads times head dimension.
        windows: for each layer the most keys that it attends to; None where all.
        n_layer: layers.
        d_model: width of the residual stream.
    """

    weights: int
    query_widths: tuple[int, ...]
    windows: tuple[int | None, ...]
    n_layer: int
    d_model: int

    @classmethod
    def of(cls, net: PreTrainedModel, head: nn.Module | None = None) -> Shape:
        """The shape of a transformers model, and of a guide's own head on top of it."""
        config = net.config.get_text_config()
        d_model, n_layer = config.hidden_size, config.num_hidden_layers
        return cls(
            weights=met(net) + (sum(w.numel() for w in head.parameters()) if head else 0),
            query_widths=tuple(_width(layer, d_model) for layer in _layers(config, n_layer)),
            windows=tuple(_windows(config, n_layer)),
            n_layer=n_layer,
            d_model=d_model,
        )


def shape_of(reader: object) -> Shape | None:
    """The shape of a language model or a guide; None where it reads with no network of its own."""
    inner = reader
    while isinstance(inner, Transform):  # of the user's own, too
        inner = inner.guide
    if isinstance(inner, TransformersLM | RewardGuide):
        return Shape.of(inner.model)
    if isinstance(inner, ValueGuide | VocabularyGuide):
        return Shape.of(inner.backbone, inner.head)
    return None


def _layers(config: Any, n_layer: int) -> Sequence[Any]:
    """What holds for each layer: a family may have layers of different widths."""
    return getattr(config, "per_layer_config", None) or [config] * n_layer


def _width(layer: Any, d_model: int) -> int:
    heads: int = layer.num_attention_heads
    return heads * int(getattr(layer, "head_dim", None) or d_model // heads)


def _windows(config: object, n_layer: int) -> Sequence[int | None]:
    """Each layer's sliding window, where its family has one."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return [window] * n_layer
    return [window if kind == "sliding_attention" else None for kind in kinds]


def forward(shape: Shape, n_ctx: int = 0) -> float:
    """Operations per token of a real network whose token sees n_ctx keys.

        C = 2 weights + 4 sum_layers query_width min(n_ctx, window)

    Scores and the sum of values cost 2 query_width n_ctx each. Grouped queries save keys' and
    values' projections (they are in `weights`) and memory, but none of these operations.
    """
    seen = [n_ctx if window is None else min(n_ctx, window) for window in shape.windows]
    widths = zip(shape.query_widths, seen, strict=True)
    return 2.0 * shape.weights + 4.0 * sum(width * keys for width, keys in widths)


# --- bills ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bill:
    """The operations of a decode.

    Attributes:
        base: by the base model.
        guide: by the guide or the reward model.
        alone: by the base had it decoded the same tokens unguided.
    """

    base: float
    guide: float
    alone: float

    @property
    def total(self) -> float:
        """Base and guide together."""
        return self.base + self.guide

    @property
    def relative(self) -> float:
        """In multiples of the base alone; inf where that reads nothing (one-token responses)."""
        return self.total / self.alone if self.alone else math.inf

    @property
    def overhead(self) -> float:
        """What was spent beyond the base alone, in multiples of it; 0 is free."""
        return self.relative - 1.0


def guided(base: float, guide: float, k: int = 1) -> Bill:
    """Per emitted token: the base reads it once, the guide k times.

    Args:
        base: the base's operations per token, by `kaplan` or `forward`.
        guide: the guide's.
        k: candidates of a scalar guide; 1 for a guide that scores the whole vocabulary.
    """
    return Bill(base, k * guide, base)


def best_of_n(base: float, reward: float, n: int) -> Bill:
    """Per emitted token: n responses are decoded and each is read by the reward model once.

    PARGS leaves the reward model out (reward = 0): an overhead of 9 for n = 10.
    """
    return Bill(n * base, n * reward, base)


def spent(completions: Sequence[Completion], base: float, guide: float = 0.0) -> Bill:
    """The operations of a run, from the tokens that base and guide were counted to read.

    Prompts are left out: every method reads them once. A response's last token is chosen and not
    read, so a response of L tokens costs the base alone L - 1.
    """
    return Bill(
        base * sum(c.base_tokens for c in completions),
        guide * sum(c.guide_tokens for c in completions),
        base * sum(len(c.tokens) - 1 for c in completions),
    )
