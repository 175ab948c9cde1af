"""A value function: a causal backbone with a scalar head; k candidates cost one forward.

Legend: B rows, K candidates, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.configs import text_config, text_decoder
from trimtab.cache.reader import open_reader
from trimtab.guides.heads import truncated, vocab_of
from trimtab.types import Candidates, Cost, Prompt, Vocab


class ValueGuide:
    """V(s + v) for every candidate v of every row (VAS; CD; a causal reward model on prefixes).

    Spends exactly k tokens per emitted token: the k candidates are read over one shared prefix,
    and the chosen one's keys and values are kept. The tail's tokens, when one is drawn, are read.

    Args:
        backbone: a decoder of transformers, only called; what lies around it (an output layer, a
            tower for images) is left out.
        head: hidden states `[..., D]` to scores `[...]`.
        layers: use only the backbone's first layers; None uses all.
        vocab: whose ids it reads; None takes the backbone's vocabulary size.
        attention: "tree", or "expanded" for architectures that cannot take an explicit mask.
        name: what errors and tables call it.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: nn.Module,
        *,
        layers: int | None = None,
        vocab: Vocab | None = None,
        attention: Literal["tree", "expanded"] = "tree",
        name: str = "value",
    ) -> None:
        self.backbone = truncated(text_decoder(backbone), layers).eval()
        self.head = head.to(self.backbone.device).eval()
        self.vocab = vocab_of(self.backbone, vocab)
        self.name = name
        self.reader = open_reader(
            self.backbone,
            lambda out: out.last_hidden_state,
            attention=attention,
        )
        self.context: int | None = self.reader.context.tokens

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        return self.reader.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts."""
        return self.reader.prefill([p.ids for p in prompts])

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append tokens; a candidate that was just scored is kept, not read again."""
        return self.reader.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.reader.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.reader.join(states)

    @torch.inference_mode()
    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """V of the prefix with each candidate."""
        scores: Tensor = self.head(self.reader.branch(state, candidates))
        return scores

    def __repr__(self) -> str:
        """Backbone, depth and how it reads."""
        config = text_config(self.backbone)
        return (
            f"ValueGuide({self.name!r}, {config.model_type}, layers={config.num_hidden_layers}, "
            f"attention={self.reader.attention!r})"
        )
