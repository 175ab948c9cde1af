"""A real GGUF file of a few kilobytes: a two-layer Llama and a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH, INNER, HEADS, LAYERS = 16, 32, 2, 2


def write_tiny_llama(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    vocabulary = _add_tokenizer(writer)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(vocabulary)
    for name, shape in _shapes(vocabulary).items():
        values = np.random.default_rng(len(name)).normal(size=shape) / np.sqrt(shape[-1])
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    tokens = ["<s>", "</s>", "<unk>", *bytes_to_unicode().values(), "th"]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    return len(tokens)


def _shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.{norm}_norm.weight": (WIDTH,) for norm in ("attn", "ffn")}
        shapes |= {
            f"{block}.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")
        }
        shapes |= {f"{block}.ffn_{part}.weight": (INNER, WIDTH) for part in ("gate", "up")}
        shapes[f"{block}.ffn_down.weight"] = (WIDTH, INNER)
    return shapes
