"""The small classifiers that come with the library; `data/README.md` says whose work they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).with_name("data")


@cache
def tensors(name: str) -> dict[str, Tensor]:
    """The numbers of one classifier, in float32."""
    stored = load_file(DATA / f"{name}.safetensors")
    return {key: value.to(torch.float32) for key, value in stored.items()}


@cache
def words(name: str) -> tuple[str, ...]:
    """Its vocabulary in order: one word a line. Some words hold blanks of other kinds."""
    text = (DATA / f"{name}.words.txt").read_bytes().decode("utf-8")
    return tuple(text.removesuffix("\n").split("\n"))
