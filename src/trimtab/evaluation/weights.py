"""The weights of a network that one token of text meets.

All of the text model but lookup tables; of a mixture of experts the k that the router chooses, the
router itself, and experts that all tokens share. Towers for images and sound read no text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

log = logging.getLogger("trimtab")

_CHOSEN = ("top_k", "num_experts_per_tok", "top_k_experts")
"""What transformers calls k, in modules and configurations."""

_OTHER_SENSES = ("vision", "visual", "audio", "image")


def met(net: PreTrainedModel) -> int:
    """Numbers that one token of text is multiplied with.

    A table that doubles as the vocabulary head counts once.
    """
    sizes = {id(w): float(w.numel()) for w in _text(net)}
    for path, module in net.named_modules():
        if isinstance(module, nn.Embedding):
            sizes[id(module.weight)] = _rows(net, path, module) * module.weight.shape[1]
        for weight, share in _chosen(net, path, module):
            sizes[id(weight)] = share * weight.numel()
    head = net.get_output_embeddings()
    if head is not None:
        sizes[id(head.weight)] = head.weight.numel()
    wanted = {id(w) for w in _text(net)} | ({id(head.weight)} if head is not None else set())
    return round(sum(size for at, size in sizes.items() if at in wanted))


def _text(net: PreTrainedModel) -> Iterator[nn.Parameter]:
    """The weights that text passes: of a composite model its decoder, and the heads on top."""
    if net.config.get_text_config() is net.config:
        yield from net.parameters()
        return
    inside = {id(w) for w in net.base_model.parameters()}
    decoder: nn.Module = net.get_decoder()
    if net.base_model is not net:
        yield from (w for w in net.parameters() if id(w) not in inside)
    for name, weight in decoder.named_parameters():
        if not any(sense in part for part in name.split(".") for sense in _OTHER_SENSES):
            yield weight


# --- mixtures of experts -------------------------------------------------------------------------


def _chosen(net: PreTrainedModel, path: str, module: nn.Module) -> Iterator[tuple[Any, float]]:
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
    k = _number(_CHOSEN, (module, parent, *parent.children(), net.config.get_text_config()))
    if k is None:
        log.warning("no word of how many experts a token meets in %s: all are counted", path)
        return
    for weight in stacked:
        yield weight, k / len(weight)
    count = _count(module, inner)
    for name, weight in inner:
        if not _holds_experts(*_owner(module, name)):  # it speaks for itself
            yield weight, k / (len(weight) if weight.dim() > 2 else count)


def _rows(net: PreTrainedModel, path: str, table: nn.Embedding) -> int:
    """Rows of a table that a token is multiplied with: none, but where a table holds experts."""
    parent = net.get_submodule(path.rpartition(".")[0])
    experts = getattr(parent, "num_experts", None) == len(table.weight)
    return (_number(_CHOSEN, (parent,)) or 0) if experts else 0


def _holds_experts(path: str, module: nn.Module) -> bool:
    last, kind = path.rpartition(".")[2], type(module).__name__
    return "shared" not in last and (last == "experts" or "Experts" in kind)


def _is_router(name: str) -> bool:
    parts = name.split(".")
    return any("router" in part or "shared" in part or part == "gate" for part in parts)


def _owner(module: nn.Module, name: str) -> tuple[str, nn.Module]:
    path = name.rpartition(".")[0]
    return path, module.get_submodule(path)


def _count(module: nn.Module, inner: Sequence[tuple[str, Any]]) -> int:
    """How many experts there are: as the module says, or as many as it has children."""
    said = _number(("num_experts", "num_local_experts", "n_routed_experts"), (module,))
    return said or max(1, len({name.partition(".")[0] for name, _ in inner}))


def _number(names: Sequence[str], things: Sequence[object]) -> int | None:
    """The first of these attributes that is a number."""
    for thing in things:
        for name in names:
            value = getattr(thing, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return None
