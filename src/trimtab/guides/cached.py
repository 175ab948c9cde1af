"""Guides that read the base's ids with a cached network: value functions, vocabulary-wide heads.

Legend: B rows, K candidates, D hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.configs import text_config, text_decoder
from trimtab.cache.reader import Attention, CachedReader, open_reader
from trimtab.errors import IncompatibleError, check_keywords
from trimtab.guides.backbones import truncated, vocab_of
from trimtab.guides.base import Delegate
from trimtab.guides.heads import LogProbabilityHead
from trimtab.guides.manifest import GuideKind
from trimtab.types import Candidates, Prompt, Vocab


class CachedGuide(Delegate):
    """A backbone that reads growing prefixes, and a head that makes scores of its outputs.

    Attributes:
        kind: what a manifest calls its class.
        reads_logits: whether the head reads a causal LM's own logits, where the backbone is one.
        backbone: cut to its layers, in eval mode.
        head: on the backbone's device, in eval mode.
        vocab: whose ids it reads.
        name: what errors and tables call it.
        reader: the backbone with its cache.
        context: most tokens that a prompt and its response may have; None if unlimited.
    """

    kind: ClassVar[GuideKind]
    reads_logits: ClassVar[bool]

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: nn.Module,
        *,
        layers: int | None = None,
        vocab: Vocab | None = None,
        attention: Attention = "tree",
        name: str | None = None,
    ) -> None:
        logits = self.reads_logits and backbone.can_generate()
        body = backbone if logits else text_decoder(backbone)
        self.backbone = truncated(body, layers).eval()
        self.head = head.to(self.backbone.device).eval()
        self.vocab = vocab_of(self.backbone, vocab)
        self.name = name or self.kind
        last_only: dict[str, Any] = {"logits_to_keep": 1} if logits else {}
        self.reader: CachedReader[Any] = open_reader(
            self.backbone,
            (lambda out: out.logits) if logits else (lambda out: out.last_hidden_state),
            attention=attention,
            **last_only,
        )
        self.context: int | None = self.reader.context.tokens

    @property
    def inner(self) -> CachedReader[Any]:
        """The cached reader."""
        return self.reader

    def prefill(self, prompts: Sequence[Prompt]) -> Any:
        """Read whole prompts, one row each."""
        return self.reader.prefill([prompt.ids for prompt in prompts])

    def __repr__(self) -> str:
        """Backbone, depth, head and how it reads."""
        config = text_config(self.backbone)
        return (
            f"{type(self).__name__}({self.name!r}, {config.model_type}, "
            f"layers={config.num_hidden_layers}, head={type(self.head).__name__}, "
            f"attention={self.reader.attention!r})"
        )


class ValueGuide(CachedGuide):
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
        name: what errors and tables call it; None is its kind.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> import trimtab as tt
    >>> from trimtab.guides import ScalarHead
    >>> config = LlamaConfig(
    ...     vocab_size=5, hidden_size=8, num_hidden_layers=2, num_attention_heads=1
    ... )
    >>> guide = tt.ValueGuide(LlamaModel(config), ScalarHead(8), layers=1)
    >>> [done] = tt.decode(tt.TableLM(5), guide, tt.vas(beta=4.0, k=3), ["ab"], max_new_tokens=2)
    >>> guide.cost.prefill, guide.cost.scored  # the prompt, and k for each new token
    (2, 6)
    """

    kind = "value"
    reads_logits = False

    @torch.inference_mode()
    def score(self, state: Any, candidates: Candidates) -> Float[Tensor, "B K"]:
        """V of the prefix with each candidate."""
        scores: Tensor = self.head(self.reader.branch(state, candidates))
        return scores


class VocabularyGuide(CachedGuide):
    """score(s, v) for all v from the prefix alone: FaRMA, GenARM, Q-heads, ILQL.

    Spends exactly one token per emitted token, whatever k is.

    Args:
        backbone: a decoder of transformers.
        head: its output at the last token to scores `[..., V]`.
        layers: use only the backbone's first layers; None uses all.
        vocab: whose ids it reads and scores; None takes the backbone's vocabulary size.
        attention: "tree", or "expanded" for architectures that cannot take an explicit mask.
        name: what errors and tables call it; None is its kind.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> import trimtab as tt
    >>> config = LlamaConfig(
    ...     vocab_size=5, hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    ... )
    >>> guide = tt.VocabularyGuide.from_causal_lm(LlamaForCausalLM(config))
    >>> [done] = tt.decode(tt.TableLM(5), guide, tt.genarm(), ["ab"], max_new_tokens=2)
    >>> guide.cost.prefill, guide.cost.extended  # the prompt, and each new token but the last
    (2, 1)
    """

    kind = "vocabulary"
    reads_logits = True

    @classmethod
    def from_causal_lm(cls, model: PreTrainedModel, **options: Any) -> VocabularyGuide:
        """A causal LM's log-probabilities as scores (GenARM's autoregressive reward model)."""
        check_keywords("VocabularyGuide.from_causal_lm", options, OPTIONS)
        return cls(model, LogProbabilityHead(), **options)

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


OPTIONS = tuple(inspect.signature(VocabularyGuide).parameters)[2:]
"""The keywords of `VocabularyGuide`."""
