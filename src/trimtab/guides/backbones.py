"""Where a saved guide's backbone comes from: its own folder, or the base's first layers."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from trimtab.cache.configs import text_config, text_decoder
from trimtab.errors import CheckpointError, IncompatibleError, UsageError
from trimtab.guides.card import Card
from trimtab.guides.heads import truncated
from trimtab.models.loading import from_pretrained
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import LanguageModel

BUFFERS = "buffers.safetensors"
ALIGNMENT = 64
"""Bytes; what torch's CPU allocator gives."""


def load_net(card: Card, source: str, **options: Any) -> PreTrainedModel:
    """A network from a folder, or the base from its id; every weight must be there."""
    net, info = from_pretrained(
        AutoModelForCausalLM if card.causal else AutoModel,
        source,
        "backbone",
        dtype=getattr(torch, card.dtype),
        attn_implementation=card.implementation,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **options,
    )
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"{source} must hold every weight", got=f"no {missing[0]}", do="save the guide again"
        )
    assert isinstance(net, PreTrainedModel)
    aligned(net)
    buffers = Path(source) / BUFFERS
    for name, value in load_file(buffers).items() if buffers.is_file() else ():
        net.get_buffer(name).data = value.to(net.device)
    return net


def save_net(net: PreTrainedModel, folder: Path) -> None:
    """A network's config and weights, and the buffers that transformers leaves out.

    Those are made anew on loading (rotary frequencies, in float32); a network that was cast as a
    whole has them in its own precision, and would not score the same without them.
    """
    net.save_pretrained(folder)
    kept = net.state_dict()
    buffers = {
        name: buffer.detach().cpu().clone()
        for name, buffer in net.named_buffers()
        if name not in kept and buffer.is_floating_point()
    }
    if buffers:
        save_file(buffers, folder / BUFFERS)


def aligned(module: nn.Module) -> nn.Module:
    """Weights at the addresses that an allocator gives them, in place.

    A loaded safetensors file is mapped as it lies on the disk, and matrix products round
    differently at addresses that no vector instruction likes (about 1e-7 in float32).
    """
    for weights in module.parameters():
        if weights.device.type == "cpu" and weights.data_ptr() % ALIGNMENT:
            weights.data = weights.data.clone()
    return module


def find_base(
    at: Path, card: Card, lm: LanguageModel[Any] | None, backbone: PreTrainedModel | None
) -> PreTrainedModel:
    """The network that a guide stored on top of its base stands on."""
    if backbone is not None:
        return backbone
    if isinstance(lm, TransformersLM):
        return lm.model
    if card.base is None:
        raise UsageError(
            f"{at} stands on its base's layers", got="no base", do="pass lm=... or backbone=..."
        )
    return load_net(card, card.base, **({"revision": card.revision} if card.revision else {}))


def from_base(at: Path, card: Card, base: PreTrainedModel) -> PreTrainedModel:
    """The base's first layers with the guide's adapter merged into a copy of them."""
    base = base if card.causal else text_decoder(base)
    config = text_config(base)
    found = {"model_type": config.model_type, "hidden": config.hidden_size}
    for name, value in found.items():
        if value != getattr(card, name):
            raise IncompatibleError(
                f"{at} stands on a base with {name} {getattr(card, name)!r}",
                got=f"one with {value!r}",
                do="pass the base that it was trained on",
            )
    net = truncated(base, card.layers)
    if not card.adapter:
        return net
    from peft import PeftModel

    with warnings.catch_warnings():
        # peft asks transformers for an attribute under its former name
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
        )
        try:
            adapted = PeftModel.from_pretrained(copy.deepcopy(net), str(at / "adapter"))
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{at / 'adapter'} must be an adapter that peft can put on the base",
                got=" ".join(str(error).split())[:200],
                do="save the guide again",
            ) from error
    merged = adapted.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged


def check_vocab(at: Path, card: Card, lm: LanguageModel[Any]) -> None:
    """Raise `IncompatibleError` unless the guide reads the base's ids, saying what differs."""
    mine, theirs = card.vocab, lm.vocab
    if mine.reads(theirs):
        return
    by_print = mine.fingerprint and theirs.fingerprint
    raise IncompatibleError(
        f"the guide in {at} must read the base's token ids",
        got=f"tokenizer fingerprint {mine.fingerprint} against the base's {theirs.fingerprint}"
        if by_print and not mine.same(theirs)
        else f"{mine.size} tokens against the base's {theirs.size}",
        do="use the base that it was trained for"
        + (f", {card.base}" if card.base else "")
        + ", or another guide",
    )
