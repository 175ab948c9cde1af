"""One pass, one score for every token: vocabulary-wide heads and causal LMs as guides.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary, R some rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.configs import text_decoder
from trimtab.cache.reader import open_reader
from trimtab.errors import IncompatibleError, check_keywords
from trimtab.guides.heads import LogProbabilityHead, truncated, vocab_of
from trimtab.types import Candidates, Cost, Prompt, Vocab


class VocabularyGuide:
    """score(s, v) for all v from the prefix alone: FaRMA, GenARM, Q-heads, ILQL.

    Spends exactly one token per emitted token, whatever k is.

    Args:
        backbone: a decoder of transformers.
        head: its output at the last token to scores `[..., V]`.
        layers: use only the backbone's first layers; None uses all.
        vocab: whose ids it reads and scores; None takes the backbone's vocabulary size.
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
        name: str = "vocabulary",
    ) -> None:
        causal = backbone.can_generate()
        last_only: dict[str, Any] = {"logits_to_keep": 1} if causal else {}
        self.backbone = truncated(backbone if causal else text_decoder(backbone), layers).eval()
        self.head = head.to(self.backbone.device).eval()
        self.vocab = vocab_of(self.backbone, vocab)
        self.name = name
        self.reader = open_reader(
            self.backbone,
            (lambda out: out.logits) if causal else (lambda out: out.last_hidden_state),
            attention=attention,
            **last_only,
        )
        self.context: int | None = self.reader.context.tokens

    @classmethod
    def from_causal_lm(cls, model: PreTrainedModel, **options: Any) -> VocabularyGuide:
        """A causal LM's log-probabilities as scores (GenARM's autoregressive reward model)."""
        check_keywords("VocabularyGuide.from_causal_lm", options, OPTIONS)
        return cls(model, LogProbabilityHead(), **options)

    @property
    def cost(self) -> Cost:
        """Tokens read so far."""
        return self.reader.cost

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts."""
        return self.reader.prefill([p.ids for p in prompts])

    def extend(self, state: Any, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> Any:
        """Append tokens."""
        return self.reader.extend(state, tokens, lengths)

    def select(self, state: Any, rows: Int[Tensor, "R"]) -> Any:
        """Drop, reorder or fork rows."""
        return self.reader.select(state, rows)

    def join(self, states: Sequence[Any]) -> Any:
        """Rows of several states side by side."""
        return self.reader.join(states)

    @torch.inference_mode()
    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """score(s, v) of each candidate; no forward.

        Raises:
            IncompatibleError: candidates of several tokens, which need a reading of their own; a
                head narrower than the vocabulary.
        """
        if candidates.tokens.shape[-1] != 1:
            raise IncompatibleError(
                f"guide {self.name!r} scores single tokens",
                got=f"candidates of {candidates.tokens.shape[-1]} tokens",
                do="use a token-wise method, or a ValueGuide",
            )
        scores: Tensor = self.head(state.last)
        if scores.shape[-1] < self.vocab.size:
            raise IncompatibleError(
                f"guide {self.name!r} must score each of the {self.vocab.size} token ids it reads",
                got=f"a head with {scores.shape[-1]} outputs",
                do="pass vocab=... of the head's size, or a head over the whole vocabulary",
            )
        return scores.gather(1, candidates.tokens[:, :, 0])

    def __repr__(self) -> str:
        """Backbone, head and how it reads."""
        return (
            f"VocabularyGuide({self.name!r}, {self.backbone.config.model_type}, "
            f"head={type(self.head).__name__}, attention={self.reader.attention!r})"
        )


OPTIONS = tuple(inspect.signature(VocabularyGuide).parameters)[2:]
"""The keywords of `VocabularyGuide`."""
