"""A guide's backbone: the first layers of a network, and where a saved guide finds them again."""

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
from trimtab.errors import CheckpointError, FetchError, IncompatibleError, UsageError
from trimtab.guides.manifest import Manifest
from trimtab.models.loading import from_pretrained
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import LanguageModel
from trimtab.types import Vocab

BUFFERS = "buffers.safetensors"
ALIGNMENT = 64
"""Bytes; what torch's CPU allocator gives."""


def truncated(backbone: PreTrainedModel, layers: int | None) -> PreTrainedModel:
    """The first `layers` layers of a decoder (what follows them stays); None keeps all.

    Layers are shared with the given backbone, not copied; only the containers are new. A causal LM
    keeps its output layer.

    Raises:
        UsageError: the backbone has fewer layers, cannot be cut there, or keeps them where we do
            not know.
    """
    total = text_config(backbone).num_hidden_layers
    if layers is None or layers == total:
        return backbone
    if not 1 <= layers < total:
        raise UsageError(
            f"layers must be between 1 and the backbone's {total}",
            got=f"{layers}",
            do="pass fewer, or None for all",
        )
    cut = copy.copy(backbone)
    cut._modules = dict(backbone._modules)
    inner = backbone.base_model
    if isinstance(inner, PreTrainedModel) and inner is not backbone:
        body = truncated(inner, layers)
        setattr(cut, backbone.base_model_prefix, body)
        cut.config = _of_part(backbone.config, body.config)
        return cut
    name = next(
        (n for n in ("layers", "h") if isinstance(getattr(backbone, n, None), nn.ModuleList)), None
    )
    if name is None:
        raise UsageError(
            "a truncated backbone must keep its layers in `layers` or `h`",
            got=type(backbone).__name__,
            do="pass a backbone that is already truncated",
        )
    setattr(cut, name, nn.ModuleList(list(getattr(backbone, name))[:layers]))
    cut.config = _cut_config(backbone.config, layers)
    return cut


def _of_part(whole: Any, part: Any) -> Any:
    """The config of a model whose part was cut: the part's own, or with the part's inside."""
    if text_config(whole) is whole:
        return part
    config = copy.copy(whole)
    config.text_config = part
    return config


def _cut_config(config: Any, layers: int) -> Any:
    """The config of the first layers; everything that it says of each layer is cut as well.

    Raises:
        UsageError: so many layers, made anew from their config, would be other ones.
    """
    total, cut = config.num_hidden_layers, copy.deepcopy(config)
    if getattr(config, "hidden_size_per_layer_input", 0):
        raise UsageError(
            f"{config.model_type} embeds each token for all of its {total} layers, so it needs all",
            got=f"layers={layers}",
            do="pass layers=None",
        )
    own = config.to_dict().get("per_layer_config")
    cut.num_hidden_layers = layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == total:
            setattr(cut, name, value[:layers])
    if own:
        cut.per_layer_config = {i: said for i, said in own.items() if int(i) < layers}
    if getattr(config, "num_kv_shared_layers", 0):
        cut.num_kv_shared_layers = max(0, config.num_kv_shared_layers - (total - layers))
    kinds = getattr(cut, "layer_types", None)
    again = type(cut).from_dict(cut.to_dict())
    if kinds and again.layer_types != kinds:
        whole = [i for i, kind in enumerate(config.layer_types, 1) if kind == again.layer_types[-1]]
        raise UsageError(
            f"{config.model_type} must end with a layer of {again.layer_types[-1]}",
            got=f"layers={layers}, of {kinds[-1]}",
            do=f"pass one of {', '.join(map(str, whole))}",
        )
    return cut


def vocab_of(backbone: PreTrainedModel, given: Vocab | None) -> Vocab:
    """Whose ids a guide on this backbone reads: the given ones, or as many as it has rows.

    Raises:
        IncompatibleError: fewer rows than ids.
    """
    config = text_config(backbone)
    rows = config.vocab_size
    if given is not None and given.size > rows:
        raise IncompatibleError(
            f"a guide must have an embedding for each of the {given.size} token ids that it reads",
            got=f"{config.model_type} with {rows} rows",
            do="use a backbone of the base's family, or a TextGuide, which reads text",
        )
    return given or Vocab(rows)


def load_net(manifest: Manifest, source: str, revision: str = "main") -> PreTrainedModel:
    """A network from a folder, or the base from its id; every weight must be there."""
    net, info = from_pretrained(
        AutoModelForCausalLM if manifest.causal else AutoModel,
        source,
        "backbone",
        dtype=getattr(torch, manifest.dtype),
        attn_implementation=manifest.implementation,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        revision=revision,
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


def open_backbone(
    folder: Path,
    manifest: Manifest,
    lm: LanguageModel[Any] | None,
    backbone: PreTrainedModel | None,
) -> PreTrainedModel:
    """A saved guide's network: in its folder, or on the layers of a base that is given or named."""
    if manifest.storage == "full":
        try:
            return load_net(manifest, str(folder / "backbone"))
        except FetchError as error:
            raise CheckpointError(
                f"{folder / 'backbone'} must be a network that transformers can open",
                got=error.got,
                do="save the guide again",
            ) from error
    if backbone is None and isinstance(lm, TransformersLM):
        backbone = lm.model
    if backbone is None and manifest.base is None:
        raise UsageError(
            f"{folder} stands on its base's layers", got="no base", do="pass lm=... or backbone=..."
        )
    if backbone is None:
        backbone = load_net(manifest, str(manifest.base), manifest.revision or "main")
    return _on_base(folder, manifest, backbone)


def _on_base(folder: Path, manifest: Manifest, base: PreTrainedModel) -> PreTrainedModel:
    """The base's first layers with the guide's adapter merged into a copy of them."""
    base = base if manifest.causal else text_decoder(base)
    config = text_config(base)
    for name, value in (("model_type", config.model_type), ("hidden", config.hidden_size)):
        if value != getattr(manifest, name):
            raise IncompatibleError(
                f"{folder} stands on a base with {name} {getattr(manifest, name)!r}",
                got=f"one with {value!r}",
                do="pass the base that it was trained on",
            )
    net = truncated(base, manifest.layers)
    if not manifest.adapter:
        return net
    from peft import PeftModel

    with warnings.catch_warnings():
        # peft asks transformers for an attribute under its former name
        warnings.filterwarnings(
            "ignore", message=".*is_gradient_checkpointing", category=FutureWarning
        )
        try:
            adapted = PeftModel.from_pretrained(copy.deepcopy(net), str(folder / "adapter"))
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder / 'adapter'} must be an adapter that peft can put on the base",
                got=" ".join(str(error).split())[:200],
                do="save the guide again",
            ) from error
    merged = adapted.merge_and_unload()
    assert isinstance(merged, PreTrainedModel)
    return merged
