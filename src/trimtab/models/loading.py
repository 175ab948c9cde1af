"""Finding and loading transformers' models, with errors that say what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.assets import ASSETS, locate
from trimtab.cache.configs import text_config
from trimtab.errors import (
    FetchError,
    IncompatibleError,
    UnknownNameError,
    UsageError,
    check_word,
)

log = logging.getLogger("trimtab")


LOADING = (
    "attn_implementation",
    "cache_dir",
    "config",
    "device",
    "device_map",
    "dtype",
    "local_files_only",
    "low_cpu_mem_usage",
    "max_memory",
    "quantization_config",
    "revision",
    "subfolder",
    "token",
    "tp_plan",
    "trust_remote_code",
    "use_safetensors",
    "variant",
)
"""What models are usually loaded with, offered for a word that is none; fields of the model's
config are taken as well."""


def check_loading(loading: Mapping[str, Any]) -> None:
    """Check the words of options that are known here, before anything is loaded.

    Raises:
        UnknownNameError: no such dtype or device; near names are offered.
    """
    dtype, device = loading.get("dtype"), loading.get("device")
    if isinstance(dtype, str):
        kinds = (name for name, kind in vars(torch).items() if isinstance(kind, torch.dtype))
        check_word("dtype", dtype, ("auto", *kinds))
    if isinstance(device, str):
        check_device(device)


def check_device(device: str) -> None:
    """Raise `UnknownNameError` for a word that is no device of torch's."""
    try:
        torch.device(device)
    except RuntimeError as error:
        known = ("cpu", "cuda", "cuda:0", "mps", "xpu")
        raise UnknownNameError("device", device, known) from error


def from_pretrained(kind: Any, name: str, what: str, **loading: Any) -> Any:
    """`kind.from_pretrained(name)`, with one clear line when it fails.

    Raises:
        FetchError: there is none of that name, or it cannot be reached.
        UnknownNameError: an option that neither transformers nor the model's class takes.
    """
    try:
        return kind.from_pretrained(locate(name), **loading)
    except TypeError as error:
        odd = _unexpected(error)
        if odd not in loading:
            raise
        raise UnknownNameError(f"a loading option of the {what}", odd, LOADING) from error
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


def _unexpected(error: TypeError) -> str | None:
    """The keyword that a function did not expect, where that is what the error says."""
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return found and found[1]


def load_causal_lm(model: str | PreTrainedModel, **loading: Any) -> PreTrainedModel:
    """A causal language model, in eval mode, on `device` (default: an accelerator if any)."""
    if isinstance(model, PreTrainedModel):
        if loading:
            raise UsageError(
                "loading options go with a model's name",
                got=f"{sorted(loading)} with a loaded model",
                do="leave them out",
            )
        model.eval()
        return model
    check_loading(loading)
    device = loading.pop("device", None)
    loaded = from_pretrained(AutoModelForCausalLM, model, "model", **loading)
    if not loading.keys() & {"device_map", "quantization_config"}:
        loaded = loaded.to(device or default_device())
    assert isinstance(loaded, PreTrainedModel)
    loaded.eval()
    return loaded


@torch.inference_mode()
def check_decoder(model: PreTrainedModel) -> None:
    """Raise `IncompatibleError` unless a model's law of a token is of what stands before it.

    An encoder that looks ahead gives numbers without complaint, and they mean nothing; so two
    texts of two tokens are tried that differ in the second.
    """
    kind = model.config.model_type
    if model.config.is_encoder_decoder:
        raise _no_decoder(f"{kind}, an encoder and a decoder")
    size = text_config(model).vocab_size
    ids = torch.tensor([[size // 2, size // 3], [size // 2, size // 5]], device=model.device)
    try:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[:, 0]
    except Exception as error:  # whatever a model that is none stumbles over
        raise _no_decoder(f"{kind}, with {type(error).__name__} ({error})") from error
    rounding = 2e-2 if torch.finfo(logits.dtype).bits < 32 else 1e-4
    one, other = logits.float()
    if (one - other).norm() > rounding * one.norm():
        raise _no_decoder(f"{kind} that sees the next token (an encoder, or is_decoder=False)")


def _no_decoder(got: str) -> IncompatibleError:
    return IncompatibleError(
        "a base must be a decoder-only causal language model",
        got=" ".join(got.split()),
        do="open one that is",
    )


def default_device() -> torch.device:
    """An accelerator if there is one, else the CPU."""
    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.device("cpu")


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


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every id that the model's configs or its tokenizer take for the end of a response."""
    sources = (
        text_config(model).eos_token_id,
        model.generation_config.eos_token_id,
        tokenizer.eos_token_id,
    )
    ids: set[int] = set()
    for source in sources:
        ids.update([source] if isinstance(source, int) else source or ())
    return frozenset(ids)


_SHAPING = (
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "min_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "guidance_scale",
)


def hidden_settings(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's generation_config would do to the distribution inside `generate`.

    Said once in the log, never applied: they would change pi_ref behind the user's back.
    """
    plain = GenerationConfig()
    theirs = model.generation_config
    found = {
        name: getattr(theirs, name)
        for name in _SHAPING
        if getattr(theirs, name, None) not in (None, getattr(plain, name, None))
    }
    if found:
        log.warning("generation_config of %s is not applied: %s", model.name_or_path, found)
    return found
