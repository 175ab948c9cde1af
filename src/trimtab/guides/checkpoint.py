"""Guides on disk: a folder with `guide.json` and safetensors, written whole or not at all.

    guide.json                 what it is (see `trimtab.guides.manifest`), sums of all other files
    head.safetensors           the head, where it has weights
    backbone/                  config and weights, cut to the guide's layers (storage "full")
    adapter/                   a peft adapter on top of the base's own layers (storage "base")

Nothing is ever unpickled, and no code that comes with a model is run.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from trimtab.cache.networks import text_config, text_decoder
from trimtab.errors import (
    CheckpointError,
    FetchError,
    IncompatibleError,
    OutputError,
    UsageError,
    check_word,
)
from trimtab.files import replace_folder
from trimtab.guides.cached import (
    HEADS,
    CachedGuide,
    ValueGuide,
    VocabularyGuide,
    head_sizes,
    truncated,
)
from trimtab.guides.manifest import HEAD, Manifest, Storage, guide_folder, verify, write_manifest
from trimtab.guides.states import EmbeddingHead, StateGuide
from trimtab.guides.transforms import TRANSFORMS, Transform
from trimtab.models.loading import check_device, from_pretrained
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide, LanguageModel
from trimtab.version import __version__

BUFFERS = "buffers.safetensors"
ALIGNMENT = 64  # bytes; what torch's CPU allocator gives

Json = Mapping[str, Any]
T = TypeVar("T")


def save_guide(
    guide: Guide[Any],
    folder: str | Path,
    *,
    storage: Storage = "full",
    adapter: Any = None,
    base: str | None = None,
    revision: str | None = None,
    template: str | None = None,
    objective: Json | None = None,
    data: Json | None = None,
    reward: Json | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a guide; the folder appears when it is complete.

    Args:
        guide: a `ValueGuide`, `VocabularyGuide` or `StateGuide` with a head of `trimtab.guides`,
            as it is or inside `LogSigmoid`, `Clamp` and `Center`.
        folder: where; it must not exist, unless `overwrite`.
        storage: "full" stores the backbone, cut to its layers; "base" stores none of it, for a
            guide whose backbone is the base's own first layers.
        adapter: with "base", the `peft.PeftModel` whose merged weights the backbone has.
        base: id of the base model that the guide was trained for.
        revision: of the base.
        template: the prompt template that it was trained with.
        objective: what it was trained with, in JSON's types.
        data: what it was trained on, likewise.
        reward: statistics of the reward that it predicts (mean, std), likewise.
        overwrite: replace a folder that is there.

    Returns:
        The folder.

    Raises:
        UsageError: a guide that cannot be saved, or facts that are not of JSON's types.
        CheckpointError: the folder exists.
        OutputError: it cannot be written (no permission, a full disk).
    """
    check_word("storage", storage, Storage)
    target = Path(folder).absolute()
    inner, transforms = unwrap(guide)
    if not isinstance(inner, CachedGuide | StateGuide):
        raise UsageError(
            "a saved guide must be a ValueGuide, VocabularyGuide or StateGuide, or a transform of "
            "one",
            got=type(inner).__name__,
            do="save its parts",
        )
    if isinstance(inner, StateGuide) and storage != "base":
        raise UsageError("a state guide needs storage='base'", got=repr(storage), do="pass that")
    if adapter is not None and storage != "base":
        raise UsageError("an adapter needs storage='base'", got=repr(storage), do="pass that")
    if target.exists() and not overwrite:
        raise CheckpointError(
            f"{target} must not exist yet", got="something there", do="pass overwrite=True"
        )
    facts = _facts(inner)
    facts |= {"objective": objective or {}, "data": data or {}, "reward": reward or {}}
    manifest = Manifest(
        **facts,
        base=base,
        revision=revision,
        template=template,
        storage=storage,
        adapter=adapter is not None,
        transforms=transforms,
        files={},  # those that lie there when it is written
    )
    try:
        with replace_folder(target) as part:
            _write(part, inner, adapter, manifest)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{target} must be writable, on a disk with room",
            got=" ".join(str(error).split())[:200],
            do="make room, or choose another place",
        ) from error
    return target


def _facts(guide: CachedGuide | StateGuide) -> dict[str, Any]:
    """What a manifest says of a guide that can be read off it."""
    config = text_config(guide.backbone)
    layers, attention = config.num_hidden_layers, "tree"
    if isinstance(guide, StateGuide):
        layers = guide.layer
    else:
        attention = guide.reader.attention
    return {
        "kind": guide.kind,
        "name": guide.name,
        "vocab": guide.vocab,
        "causal": guide.backbone.can_generate(),
        "model_type": config.model_type,
        "hidden": config.hidden_size,
        "layers": layers,
        "dtype": str(guide.backbone.dtype).removeprefix("torch."),
        "implementation": config._attn_implementation,
        "attention": attention,
        "head": head_spec(guide.head),
        "version": __version__,
    }


def _write(folder: Path, guide: CachedGuide | StateGuide, adapter: Any, manifest: Manifest) -> None:
    """All files, the manifest last."""
    if weights := {name: w.contiguous() for name, w in guide.head.state_dict().items()}:
        save_file(weights, folder / HEAD)
    if manifest.storage == "full":
        _save_net(guide.backbone, folder / "backbone")
    if adapter is not None:
        for config in adapter.peft_config.values():  # it names the base, and no folder of ours
            config.base_model_name_or_path = manifest.base
        adapter.save_pretrained(folder / "adapter", save_embedding_layers=False)
        # peft's, with everything left to be filled in
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
    write_manifest(manifest, folder)


def _save_net(net: PreTrainedModel, folder: Path) -> None:
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


def load_guide(
    folder: str | Path,
    *,
    lm: LanguageModel[Any] | None = None,
    backbone: PreTrainedModel | None = None,
    device: torch.device | str | None = None,
) -> Guide[Any]:
    """A saved guide, after every file was checked.

    Args:
        folder: where it was saved, or the name of a guide that comes with the package.
        lm: the base it will steer: its tokenizer must be the guide's. A guide stored on top of the
            base takes its layers from here.
        backbone: the base's network for a guide stored on top of it, where `lm` is not a
            `TransformersLM`; None without an `lm` loads the base that the manifest names.
        device: where; None is the base's, or the CPU.

    Raises:
        CheckpointError: the folder is not whole, not ours or not safe (see `verify`).
        IncompatibleError: another tokenizer, or a backbone that is not the one it was trained on.
    """
    if isinstance(device, str):
        check_device(device)
    folder = guide_folder(folder) or Path(folder)
    manifest = verify(folder)
    if lm is not None:
        _check_vocab(folder, manifest, lm)
        device = lm.device if device is None else device
    if backbone is None and isinstance(lm, TransformersLM):
        backbone = lm.model
    backbone = _open_backbone(folder, manifest, backbone)
    if device is not None:
        backbone = backbone.to(torch.device(device))  # type: ignore[arg-type]  # as torch's modules
    head: Any = _load_head(manifest.head, folder / HEAD)
    same: dict[str, Any] = {"vocab": manifest.vocab, "name": manifest.name}
    if manifest.kind == "state":
        return wrap(StateGuide(backbone, head, layer=manifest.layers, **same), manifest.transforms)
    kind = ValueGuide if manifest.kind == "value" else VocabularyGuide
    guide = kind(backbone, head, attention=manifest.attention, **same)
    return wrap(guide, manifest.transforms)


def _check_vocab(folder: Path, manifest: Manifest, lm: LanguageModel[Any]) -> None:
    """Raise `IncompatibleError` unless the guide reads the base's ids, saying what differs."""
    ours, theirs = manifest.vocab, lm.vocab
    if ours.reads(theirs):
        return
    if ours.fingerprint and theirs.fingerprint and not ours.same(theirs):
        got = f"tokenizer fingerprint {ours.fingerprint} against the base's {theirs.fingerprint}"
    else:
        got = f"{ours.size} tokens against the base's {theirs.size}"
    trained_for = f", {manifest.base}" if manifest.base else ""
    raise IncompatibleError(
        f"the guide in {folder} must read the base's token ids",
        got=got,
        do=f"use the base that it was trained for{trained_for}, or another guide",
    )


# --- the backbone --------------------------------------------------------------------------------


def _open_backbone(
    folder: Path, manifest: Manifest, base: PreTrainedModel | None
) -> PreTrainedModel:
    """A saved guide's network: in its folder, or on the layers of a base that is given or named."""
    if manifest.storage == "full":
        try:
            return _load_net(manifest, str(folder / "backbone"))
        except FetchError as error:
            raise CheckpointError(
                f"{folder / 'backbone'} must be a network that transformers can open",
                got=error.got,
                do="save the guide again",
            ) from error
    if base is None:
        if manifest.base is None:
            must = f"{folder} stands on its base's layers"
            raise UsageError(must, got="no base", do="pass lm=... or backbone=...")
        base = _load_net(manifest, manifest.base, manifest.revision or "main")
    return _on_base(folder, manifest, base)


def _load_net(manifest: Manifest, source: str, revision: str = "main") -> PreTrainedModel:
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
    _align(net)
    buffers = Path(source) / BUFFERS
    for name, value in load_file(buffers).items() if buffers.is_file() else ():
        net.get_buffer(name).data = value.to(net.device)
    return net


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
    if manifest.kind == "state":
        return base
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


def _align(module: nn.Module) -> None:
    """Weights at the addresses that an allocator gives them, in place.

    A loaded safetensors file is mapped as it lies on the disk, and matrix products round
    differently at addresses that no vector instruction likes (about 1e-7 in float32).
    """
    for weights in module.parameters():
        if weights.device.type == "cpu" and weights.data_ptr() % ALIGNMENT:
            weights.data = weights.data.clone()


# --- head and transforms, by their names ---------------------------------------------------------


def head_spec(head: nn.Module) -> dict[str, Any]:
    """A head's kind and sizes, as the manifest has them."""
    kind = next((name for name, known in HEADS.items() if type(head) is known), None)
    if kind is None:
        raise UsageError(
            f"a head that is saved must be one of {', '.join(h.__name__ for h in HEADS.values())}",
            got=type(head).__name__,
            do="use one of those",
        )
    if isinstance(head, EmbeddingHead):
        return {"kind": kind, **head.sizes}
    widest = max((w.shape for w in head.parameters() if w.dim() == 2), default=(0, 0))
    sizes = {"vocabulary": widest[0], "hidden": widest[1]}
    return {"kind": kind, **{name: sizes[name] for name in head_sizes(kind)}}


def _load_head(spec: dict[str, Any], path: Path) -> nn.Module:
    """The head of a kind and sizes with the weights of a file, in their own precision."""
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced
        head = _make(HEADS, spec)
    try:
        head.load_state_dict(load_file(path) if path.is_file() else {}, assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.name} must fit a head {spec}",
            got=" ".join(str(error).split()),
            do="save the guide again",
        ) from error
    _align(head)
    return head


def unwrap(guide: Guide[Any]) -> tuple[Guide[Any], list[dict[str, Any]]]:
    """The guide inside its transforms, and these by name with their arguments, innermost first."""
    specs: list[dict[str, Any]] = []
    names = {kind: name for name, kind in TRANSFORMS.items()}
    while isinstance(guide, Transform):
        if type(guide) not in names:
            raise UsageError(
                f"transforms that are saved are {', '.join(TRANSFORMS)}",
                got=type(guide).__name__,
                do="save the guide inside it, and put it around that again after loading",
            )
        arguments = {f.name: getattr(guide, f.name) for f in fields(guide) if f.name != "guide"}
        specs.insert(0, {"kind": names[type(guide)], **arguments})
        guide = guide.guide
    return guide, specs


def wrap(guide: Guide[Any], specs: Sequence[dict[str, Any]]) -> Guide[Any]:
    """A guide inside transforms, as `unwrap` spells them."""
    for spec in specs:
        guide = _make(TRANSFORMS, spec, guide)
    return guide


def _make(table: Mapping[str, Callable[..., T]], spec: Mapping[str, Any], *given: Any) -> T:
    arguments = {name: value for name, value in spec.items() if name != "kind"}
    return table[spec["kind"]](*given, **arguments)
