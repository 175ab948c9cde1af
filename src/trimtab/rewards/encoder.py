"""Sentence embeddings: a text as one unit vector, so that a dot product says how alike two are.

    e(text) = normalise(mean over tokens of the encoder's last states)

Source: all-MiniLM-L6-v2 (22.7M parameters, Apache-2.0), pooled and cut as its authors do.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from trimtab.assets import path_of
from trimtab.locks import lock_of

_BATCH = 32


@dataclass(frozen=True)
class Encoder:
    """A transformers encoder with mean pooling.

    Attributes:
        model: the encoder, in evaluation mode.
        tokenizer: its tokenizer.
        max_length: tokens read of a text; what comes later is cut.
        width: numbers in an embedding.
    """

    model: Any
    tokenizer: Any
    max_length: int
    width: int

    @classmethod
    def load(cls, folder: Path, *, max_length: int = 256, device: str = "cpu") -> Encoder:
        """Reads an encoder from a transformers folder.

        Args:
            folder: with config, safetensors and tokenizer.
            max_length: tokens read of a text; its authors' choice for MiniLM.
            device: where it runs.
        """
        from transformers import AutoModel, AutoTokenizer

        with redirect_stderr(io.StringIO()):  # a progress bar for a tenth of a second
            model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(model.requires_grad_(False), tokenizer, max_length, model.config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """The unit vector of each text, on the CPU. Equal texts are read once."""
        unique = sorted(
            set(texts), key=lambda text: (len(text), text)
        )  # like lengths, less padding
        found = torch.zeros(len(unique), self.width)
        for at in range(0, len(unique), _BATCH):
            found[at : at + _BATCH] = self._read(unique[at : at + _BATCH])
        place = {text: i for i, text in enumerate(unique)}
        return found[[place[text] for text in texts]]

    @torch.inference_mode()
    def _read(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        with lock_of(self.tokenizer):
            batch = self.tokenizer(
                list(texts), padding=True, truncation=True, max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
        states = self.model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(states.dtype)
        # [CLS] and [SEP] are tokens too: the mean is never over none, not even for "".
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).cpu()


@cache
def minilm() -> Encoder:
    """The sentence encoder that `trimtab assets fetch minilm` stored.

    Raises:
        NotFetchedError: it is not on this machine; the message names the command.
    """
    return Encoder.load(path_of("minilm"))
