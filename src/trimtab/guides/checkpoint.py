"""Guides on disk: a folder with `guide.json` and safetensors, written whole or not at all.

    guide.json                 what it is (see `trimtab.guides.manifest`), sums of all other files
    head.safetensors           the head, where it has weights
    backbone/                  config and weights, cut to the guide's layers (storage "full")
    adapter/                   a peft adapter on top of the base's own layers (storage "base")

Nothing is ever unpickled, and no code that comes with a model is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedModel

from trimtab.cache.configs import text_config
from trimtab.errors import (
    CheckpointError,
    IncompatibleError,
    OutputError,
    UsageError,
    check_word,
)
from trimtab.files import replace_folder
from trimtab.guides.backbones import aligned, open_backbone, save_net
from trimtab.guides.cached import CachedGuide, ValueGuide, VocabularyGuide
from trimtab.guides.heads import head_spec, load_head
from trimtab.guides.manifest import HEAD, Manifest, Storage
from trimtab.guides.proof import verify, write_manifest
from trimtab.guides.shipped import guide_folder
from trimtab.guides.transforms import unwrap, wrap
from trimtab.models.loading import check_device
from trimtab.protocols import Guide, LanguageModel
from trimtab.version import __version__

__all__ = ["load_guide", "save_guide", "verify"]

Json = Mapping[str, Any]


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
        guide: a `ValueGuide` or `VocabularyGuide` with a head of `trimtab.guides.heads`, as it is
            or inside `LogSigmoid`, `Clamp` and `Center`.
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
    if not isinstance(inner, CachedGuide):
        raise UsageError(
            "a saved guide must be a ValueGuide or VocabularyGuide, or a transform of one",
            got=type(inner).__name__,
            do="save its parts",
        )
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
        transforms=transforms,
        storage=storage,
        adapter=adapter is not None,
        files={},  # those that lie there when it is written
    )
    try:
        _write(target, inner, adapter, manifest)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{target} must be writable, on a disk with room",
            got=" ".join(str(error).split())[:200],
            do="make room, or choose another place",
        ) from error
    return target


def _facts(guide: CachedGuide) -> dict[str, Any]:
    """What a manifest says of a guide that can be read off it."""
    config = text_config(guide.backbone)
    return {
        "kind": guide.kind,
        "name": guide.name,
        "vocab": guide.vocab,
        "causal": guide.backbone.can_generate(),
        "model_type": config.model_type,
        "hidden": config.hidden_size,
        "layers": config.num_hidden_layers,
        "dtype": str(guide.backbone.dtype).removeprefix("torch."),
        "implementation": config._attn_implementation,
        "attention": guide.reader.attention,
        "head": head_spec(guide.head),
        "version": __version__,
    }


def _write(target: Path, guide: CachedGuide, adapter: Any, manifest: Manifest) -> None:
    """Write all files, the manifest last; nothing half-written has the final name."""
    with replace_folder(target) as part:
        weights = {name: w.contiguous() for name, w in guide.head.state_dict().items()}
        if weights:
            save_file(weights, part / HEAD)
        if manifest.storage == "full":
            save_net(guide.backbone, part / "backbone")
        if adapter is not None:
            _save_adapter(adapter, part / "adapter", manifest.base)
        write_manifest(manifest, part)


def _save_adapter(adapter: Any, folder: Path, base: str | None) -> None:
    """The adapter as peft stores it; it names the base, and no folder of ours."""
    for config in adapter.peft_config.values():
        config.base_model_name_or_path = base
    adapter.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's, with everything left to be filled in


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
    backbone = open_backbone(folder, manifest, lm, backbone)
    if device is not None:
        backbone = backbone.to(torch.device(device))  # type: ignore[arg-type]  # as torch's modules
    head = aligned(load_head(manifest.head, folder / HEAD))
    kind = ValueGuide if manifest.kind == "value" else VocabularyGuide
    guide = kind(
        backbone,
        head,
        vocab=manifest.vocab,
        attention=manifest.attention,
        name=manifest.name,
    )
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
