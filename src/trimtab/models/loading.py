"""Finding and loading transformers' models, with errors that say what to do."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.assets import ASSETS, locate
from trimtab.errors import (
    FetchError,
    IncompatibleError,
    UnknownNameError,
    UsageError,
    check_word,
)

LOADING = (
    "attn_implementation", "cache_dir", "config", "device", "device_map", "dtype",
    "local_files_only", "low_cpu_mem_usage", "max_memory", "quantization_config", "revision",
    "subfolder", "token", "tp_plan", "trust_remote_code", "use_safetensors", "variant",
)  # fmt: skip
"""What models are usually loaded with, offered for a word that is none; fields of the model's
config are taken as well."""


def check_device(device: str) -> None:
    """Raise `UnknownNameError` for a word that is no device of torch's."""
    try:
        torch.device(device)
    except RuntimeError as error:
        known = ("cpu", "cuda", "cuda:0", "mps", "xpu")
        raise UnknownNameError("device", device, known) from error


def from_pretrained(kind: Any, name: str, what: str, **loading: Any) -> Any:
    """`kind.from_pretrained(name)`, with one clear line when it fails."""
    try:
        return kind.from_pretrained(locate(name), **loading)
    except TypeError as error:
        odd = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if odd is None or odd[1] not in loading:
            raise
        raise UnknownNameError(f"a loading option of the {what}", odd[1], LOADING) from error
    except (OSError, ValueError) as error:
        if "Unrecognized configuration class" in str(error):
            raise IncompatibleError(
                f"a {what} must be of a kind that transformers opens as one",
                got=f"{name!r}, which it does not",
                do="name another, decoder-only for a base",
            ) from error
        reason = str(error).strip().splitlines()[0]
        known = ", ".join(asset.name for asset in ASSETS)
        raise FetchError(
            f"{what} must be a folder, a Hub id that can be reached, or one of {known}",
            got=f"{name!r} ({reason})",
            do="check the name and the network, or `trimtab assets fetch smollm2` for the "
            "embedded default",
        ) from error


def load_network(
    kind: Any, name: str, what: str, **loading: Any
) -> tuple[PreTrainedModel, list[str]]:
    """A network in eval mode, on `device` (default: an accelerator if any), and what it lacks.

    Words that are known here are checked before anything is loaded.
    """
    device, dtype = loading.pop("device", None), loading.get("dtype")
    if isinstance(dtype, str):
        kinds = (name for name, kind in vars(torch).items() if isinstance(kind, torch.dtype))
        check_word("dtype", dtype, ("auto", *kinds))
    if isinstance(device, str):
        check_device(device)
    model, info = from_pretrained(kind, name, what, **loading, output_loading_info=True)
    if not loading.keys() & {"device_map", "quantization_config"}:
        found = torch.accelerator.current_accelerator(check_available=True)
        model = model.to(device or found or "cpu")
    return model.eval(), sorted(info["missing_keys"])


def load_causal_lm(model: str | PreTrainedModel, **loading: Any) -> PreTrainedModel:
    """A causal language model by name, or a loaded one as it is, in eval mode."""
    if not isinstance(model, PreTrainedModel):
        return load_network(AutoModelForCausalLM, model, "model", **loading)[0]
    if loading:
        raise UsageError(
            "loading options go with a model's name",
            got=f"{sorted(loading)} with a loaded model",
            do="leave them out",
        )
    model.eval()
    return model


def load_tokenizer(
    source: str | PreTrainedTokenizerBase | PreTrainedModel,
) -> PreTrainedTokenizerBase:
    """A tokenizer by name, as it is, or the one beside a loaded model's weights."""
    if isinstance(source, PreTrainedTokenizerBase):
        return source
    name = source if isinstance(source, str) else source.name_or_path
    if not name:
        raise UsageError(
            "a model that was not loaded by name needs its tokenizer",
            got="none",
            do="pass tokenizer=...",
        )
    tokenizer = from_pretrained(AutoTokenizer, name, "tokenizer")
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer
