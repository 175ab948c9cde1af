"""The baseline: guided decoding as published scripts do it, without a cache for the guide.

At every token the guide reads prefix + candidate anew for each of the k candidates, as one batch of
k rows, prompt after prompt. The base model keeps its cache, which flatters the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from overhead.bounds import matrices
from trimtab.guides import ValueGuide


class _Row:
    """One prompt: its tokens, and the base model's cache."""

    def __init__(self, model: PreTrainedModel, ids: Sequence[int]) -> None:
        self.model, self.ids = model, torch.tensor([list(ids)], device=model.device)
        self.cache: Any = DynamicCache(config=model.config)
        self.law = self._read(self.ids)

    def _read(self, tokens: torch.Tensor) -> torch.Tensor:
        out = self.model(tokens, past_key_values=self.cache, logits_to_keep=1)
        return out.logits[0, -1].float().log_softmax(-1)

    def turn(self, guide: ValueGuide, k: int, beta: float) -> int:
        """Choose and append one token."""
        top = self.law.topk(k)
        rows = torch.cat([self.ids.expand(k, -1), top.indices[:, None]], dim=1)
        hidden = guide.backbone(rows, use_cache=False).last_hidden_state[:, -1]
        best = (top.values + beta * guide.head(hidden)).argmax()
        token = top.indices[best].view(1, 1)
        self.ids = torch.cat([self.ids, token], dim=1)
        self.law = self._read(token)
        return int(token)


@torch.inference_mode()
def reencoding_turns(
    model: PreTrainedModel,
    guide: ValueGuide,
    prompts: Sequence[Sequence[int]],
    k: int,
    beta: float,
) -> Iterator[list[int]]:
    """One token per prompt and turn, for ever; the first turn only reads the prompts."""
    rows = [_Row(model, ids) for ids in prompts]
    yield []
    while True:
        yield [row.turn(guide, k, beta) for row in rows]


def reencoding_flops(backbone: PreTrainedModel, rows: int, k: int, prefix: int) -> float:
    """Operations of the guide per turn, to tell beforehand whether a cell is worth its time."""
    return 2.0 * rows * k * (prefix + 1) * sum(w.numel() for w in matrices(backbone))
