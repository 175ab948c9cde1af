"""From GGUF to a folder that transformers loads in under a second.

GGUF stores rounded blocks of weights; reading it means undoing that for every tensor (about 14 s
for 135M parameters). The result is written once in float32, because those are exactly the numbers
that the GGUF loader computes with: a narrower type would be another model.
"""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stderr
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.errors import AssetError

_PROBE = "The capital of France is Paris. Größe,  12345\n\nx"  # umlauts, digits, runs of blanks


def convert(gguf: Path, folder: Path) -> None:
    """Writes the model and tokenizer of a GGUF file as a transformers folder, and checks it."""
    with redirect_stderr(io.StringIO()):  # three progress bars of transformers; we report instead
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        _plain(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _check(model, tokenizer, folder)


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without its GGUF past, which transformers (5.23) refuses to save."""
    config = copy.deepcopy(model.config)
    for trace in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, trace):
            delattr(config, trace)
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain


def _check(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Reads the folder back and compares token ids, chat template and logits: all must be equal."""
    stored_tokenizer = AutoTokenizer.from_pretrained(folder)
    stored = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(_PROBE, return_tensors="pt").input_ids
    same_text = (
        torch.equal(ids, stored_tokenizer(_PROBE, return_tensors="pt").input_ids)
        and stored_tokenizer.chat_template == tokenizer.chat_template
        and stored_tokenizer.special_tokens_map == tokenizer.special_tokens_map
    )
    with torch.inference_mode():
        gap = (model(ids).logits - stored(ids).logits).abs().max().item()
    if gap != 0 or not same_text:
        raise AssetError(
            "the stored model must answer exactly as its GGUF file does",
            got=f"logits up to {gap:g} apart, {'the same' if same_text else 'another'} tokenizer",
            do="nothing was kept; try another version of transformers (5.23 is known to work)",
        )
