"""What a decode costs: floating-point operations by two formulas, and wall time.

`kaplan` is the formula that the papers report by; `forward` counts a real network. Both are per
token that a network reads, so what a decode costs is these times the tokens that the counters saw.
One multiply-add is two operations. Wall times differ from run to run, so they never enter a table.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from trimtab.cache.networks import text_config
from trimtab.guides.cached import ValueGuide, VocabularyGuide
from trimtab.guides.reward import RewardGuide
from trimtab.guides.transforms import Transform
from trimtab.models.transformers import TransformersLM
from trimtab.runs.batches import Facts
from trimtab.runs.store import Store
from trimtab.types import Completion

log = logging.getLogger("trimtab")


# --- operations per token ------------------------------------------------------------------------


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
            vocabulary head included; of experts those that a token is sent to.
        query_widths: for each layer heads times head dimension.
        windows: for each layer the most keys that it attends to; None where all.
    """

    weights: int
    query_widths: tuple[int, ...]
    windows: tuple[int | None, ...]

    @classmethod
    def read(cls, values: Mapping[str, Any] | None) -> Shape | None:
        """The shape that a condition's file holds; None where it holds none."""
        if values is None:
            return None
        widths, windows = tuple(values["query_widths"]), tuple(values["windows"])
        return cls(values["weights"], widths, windows)

    @classmethod
    def of(cls, net: PreTrainedModel, head: nn.Module | None = None) -> Shape:
        """The shape of a transformers model, and of a guide's own head on top of it."""
        config = text_config(net)
        d_model, n_layer = config.hidden_size, config.num_hidden_layers
        layers = getattr(config, "per_layer_config", None) or [config] * n_layer
        own_head = sum(w.numel() for w in head.parameters()) if head else 0
        return cls(
            weights=_weights_per_token(net) + own_head,
            query_widths=tuple(_query_width(layer, d_model) for layer in layers),
            windows=tuple(_windows(config, n_layer)),
        )


def shape_of(reader: object) -> Shape | None:
    """The shape of a language model or a guide; None where it reads with no network of its own."""
    while isinstance(reader, Transform):  # of the user's own, too
        reader = reader.guide
    if isinstance(reader, TransformersLM | RewardGuide):
        return Shape.of(reader.model)
    if isinstance(reader, ValueGuide | VocabularyGuide):
        return Shape.of(reader.backbone, reader.head)
    return None


def _query_width(layer: Any, d_model: int) -> int:
    heads: int = layer.num_attention_heads
    return heads * int(getattr(layer, "head_dim", None) or d_model // heads)


def _windows(config: object, n_layer: int) -> Sequence[int | None]:
    """Each layer's sliding window; a config may hold one that its family does not know of."""
    declared = hasattr(type(config), "sliding_window")
    window = getattr(config, "sliding_window", None) if declared else None
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


# --- weights that one token of text meets --------------------------------------------------------

_ROUTED = ("top_k", "num_experts_per_tok", "top_k_experts")
"""What transformers calls the number of experts that a token meets, in modules and configs."""

_OTHER_SENSES = ("vision", "visual", "audio", "image")


def _weights_per_token(net: PreTrainedModel) -> int:
    """Numbers that one token of text is multiplied with.

    All of the text model but lookup tables; of a mixture of experts the k that the router chooses,
    the router itself, and experts that all tokens share. Towers for images and sound read no text.
    A table that doubles as the vocabulary head counts once.
    """
    text = {id(w): float(w.numel()) for w in _text_weights(net)}
    sizes = dict(text)
    for path, module in net.named_modules():
        if isinstance(module, nn.Embedding):
            sizes[id(module.weight)] = _rows_read(net, path, module) * module.weight.shape[1]
        for weight, share in _routed(net, path, module):
            sizes[id(weight)] = share * weight.numel()
    head = net.get_output_embeddings()
    if head is not None:
        sizes[id(head.weight)] = text[id(head.weight)] = head.weight.numel()
    return round(sum(sizes[key] for key in text))


def _text_weights(net: PreTrainedModel) -> Iterator[nn.Parameter]:
    """The weights that text passes: of a composite model its decoder, and the heads on top."""
    if text_config(net) is net.config:
        yield from net.parameters()
        return
    inside = {id(w) for w in net.base_model.parameters()}
    decoder: nn.Module = net.get_decoder()
    if net.base_model is not net:
        yield from (w for w in net.parameters() if id(w) not in inside)
    for name, weight in decoder.named_parameters():
        if not any(sense in part for part in name.split(".") for sense in _OTHER_SENSES):
            yield weight


def _routed(net: PreTrainedModel, path: str, module: nn.Module) -> Iterator[tuple[Any, float]]:
    """A module's weights that belong to experts, and the share of each that a token meets."""
    if not _holds_experts(path, module):
        return
    parent = net.get_submodule(path.rpartition(".")[0])
    stacked = [w for w in module.parameters(recurse=False) if w.dim() > 1]
    named = path.rpartition(".")[2] == "experts"
    inner = [
        (name, w)
        for name, w in module.named_parameters()
        if named and w.dim() > 1 and "." in name and not _is_router(name)
    ]
    if not stacked and not inner:
        return
    k = _number(_ROUTED, (module, parent, *parent.children(), text_config(net)))
    if k is None:
        log.warning("no word of how many experts a token meets in %s: all are counted", path)
        return
    for weight in stacked:
        yield weight, k / len(weight)
    told = _number(("num_experts", "num_local_experts", "n_routed_experts"), (module,))
    count = told or max(1, len({name.partition(".")[0] for name, _ in inner}))
    for name, weight in inner:
        owner = name.rpartition(".")[0]
        if not _holds_experts(owner, module.get_submodule(owner)):  # else it has its own turn
            yield weight, k / (len(weight) if weight.dim() > 2 else count)


def _rows_read(net: PreTrainedModel, path: str, table: nn.Embedding) -> int:
    """Rows of a table that a token is multiplied with: none, but where a table holds experts."""
    parent = net.get_submodule(path.rpartition(".")[0])
    experts = getattr(parent, "num_experts", None) == len(table.weight)
    return (_number(_ROUTED, (parent,)) or 0) if experts else 0


def _holds_experts(path: str, module: nn.Module) -> bool:
    last, kind = path.rpartition(".")[2], type(module).__name__
    return "shared" not in last and (last == "experts" or "Experts" in kind)


def _is_router(name: str) -> bool:
    parts = name.split(".")
    return any("router" in part or "shared" in part or part == "gate" for part in parts)


def _number(names: Sequence[str], owners: Sequence[object]) -> int | None:
    """The first of these attributes that is a number."""
    values = [getattr(owner, name, None) for owner in owners for name in names]
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


# --- operations of a decode ----------------------------------------------------------------------


@dataclass(frozen=True)
class Flops:
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


def spent(completions: Sequence[Completion], base: float, guide: float = 0.0) -> Flops:
    """The operations of a run, from the tokens that base and guide were counted to read.

    Prompts are left out: every method reads them once. A response's last token is chosen and not
    read, so a response of L tokens costs the base alone L - 1.
    """
    return Flops(
        base * sum(c.base_tokens for c in completions),
        guide * sum(c.guide_tokens for c in completions),
        base * sum(len(c.tokens) - 1 for c in completions),
    )


# --- of a condition ------------------------------------------------------------------------------


def cost_per_token(
    completions: Sequence[Completion],
    shape: Mapping[str, Any] | None,
    guide_shape: Mapping[str, Any] | None,
) -> dict[str, float | None]:
    """Tokens read per emitted token, and operations against the base decoding alone."""
    emitted = sum(len(c.tokens) for c in completions)
    base, guide = Shape.read(shape), Shape.read(guide_shape)
    context = round(float(np.mean([len(c.prompt.ids) + len(c.tokens) / 2 for c in completions])))
    flops = None
    if base is not None:
        per_guide_token = forward(guide, context) if guide else 0.0
        flops = spent(completions, forward(base, context), per_guide_token).relative
    return {
        "base_tokens": sum(c.base_tokens for c in completions) / emitted,
        "guide_tokens": sum(c.guide_tokens for c in completions) / emitted,
        "flops": flops if flops is None or math.isfinite(flops) else None,
    }


@dataclass(frozen=True)
class WallTime:
    """How long one row's decoding took, as it ran."""

    name: str  # the method, and what guides it
    seconds: float | None  # per emitted token, rows side by side sharing the clock
    relative: float | None  # in multiples of the base's; None without a base in the run
    base: str | None  # name of the base's row


def seconds_per_token(store: Store, condition: Facts) -> float | None:
    """Of decoding, from the folder's `times/`; None where a time was not kept."""
    times = [store.time(key) for key in condition.batches]
    kept = [time for time in times if time is not None]
    tokens = sum(time["tokens"] for time in kept)
    if len(kept) < len(times) or not tokens:
        return None
    return float(sum(time["seconds"] for time in kept) / tokens)


def wall_times(store: Store, conditions: Sequence[Facts]) -> tuple[WallTime, ...]:
    """The wall time of every condition, against the base decoding alone in the same run."""

    def part(condition: Facts, name: str) -> str | None:
        kind: str | None = (condition.method or {}).get(name, {}).get("kind")
        return kind

    alone = [c for c in conditions if not c.guide and part(c, "proposal") == "Vocabulary"]
    base = min(alone, key=lambda c: part(c, "sampler") != "Stochastic", default=None)
    unit = seconds_per_token(store, base) if base is not None else None
    times = []
    for condition in conditions:
        own = seconds_per_token(store, condition)
        relative = own / unit if own is not None and unit else None
        times.append(WallTime(condition.title, own, relative, base.label if base else None))
    return tuple(times)
