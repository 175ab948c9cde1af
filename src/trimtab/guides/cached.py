"""Networks that read the base's ids with a cache: value functions, vocabulary-wide heads.

Legend: B rows, K candidates, D hidden size, V vocabulary; a head keeps leading dimensions `*rows`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.networks import text_config, text_decoder
from trimtab.cache.reader import Attention, CachedReader
from trimtab.cache.trial import open_reader
from trimtab.errors import IncompatibleError, UsageError, check_keywords
from trimtab.guides.states import EmbeddingHead, token_embeddings
from trimtab.guides.transforms import Delegate
from trimtab.types import Candidates, Prompt, Vocab

GuideKind: TypeAlias = Literal["value", "vocabulary", "state"]


class CachedGuide(Delegate):
    """A backbone that reads growing prefixes, and a head that makes scores of its outputs."""

    kind: ClassVar[GuideKind]
    reads_logits: ClassVar[bool]  # whether the head reads a causal LM's logits, where there are any

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
        if isinstance(head, EmbeddingHead):
            head.through(token_embeddings(backbone))
        self.head = head.to(self.backbone.device).eval()
        self.vocab = _vocab_of(self.backbone, vocab)
        self.name = name or self.kind
        last_only: dict[str, Any] = {"logits_to_keep": 1} if logits else {}
        self.reader: CachedReader = open_reader(
            self.backbone,
            (lambda out: out.logits) if logits else (lambda out: out.last_hidden_state),
            attention=attention,
            **last_only,
        )
        self.context: int | None = self.reader.context.tokens

    @property
    def inner(self) -> CachedReader:
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
        tokens = candidates.tokens[:, :, 0]
        if isinstance(self.head, EmbeddingHead):
            return self.head.at(state.last, tokens)
        scores: Tensor = self.head(state.last)
        if scores.shape[-1] < self.vocab.size:
            raise IncompatibleError(
                f"guide {self.name!r} must score each of the {self.vocab.size} token ids it reads",
                got=f"a head with {scores.shape[-1]} outputs",
                do="pass vocab=... of the head's size, or a head over the whole vocabulary",
            )
        return scores.gather(1, tokens)


OPTIONS = tuple(inspect.signature(VocabularyGuide).parameters)[2:]


# --- heads ---------------------------------------------------------------------------------------


class ScalarHead(nn.Module):
    """V(s) = w h(s) + b. Starts at zero, so an untrained guide changes nothing."""

    def __init__(self, hidden: int, bias: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows"]:
        """One score per state, in float32."""
        out: Tensor = self.linear(hidden.to(self.linear.weight.dtype))
        return out.squeeze(-1).float()


class VocabularyHead(nn.Module):
    """Q(s, .) = W h(s) + b: one score for every next token (FaRMA; VAS, appendix B)."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, vocabulary)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        out: Tensor = self.linear(hidden.to(self.linear.weight.dtype))
        return out.float()


class DuelingHead(nn.Module):
    """Q(s, v) = V(s) + A(s, v) (Wang et al. 2016; VAS, appendix B); A starts at zero."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.value = ScalarHead(hidden)
        self.advantage = VocabularyHead(hidden, vocabulary)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        scores: Tensor = self.value(hidden)[..., None] + self.advantage(hidden)
        return scores


class AdvantageHead(nn.Module):
    """A(s, v) = Q(s, v) - V(s) of two heads trained apart (ILQL, Snell et al. 2023)."""

    def __init__(self, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.value = ScalarHead(hidden)
        self.q = VocabularyHead(hidden, vocabulary)

    def forward(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """One score per next token, in float32."""
        scores: Tensor = self.q(hidden) - self.value(hidden)[..., None]
        return scores


class LogProbabilityHead(nn.Module):
    """log p_arm(. | s): a causal LM's own output, normalised (GenARM). It has no weights."""

    def forward(self, logits: Float[Tensor, "*rows V"]) -> Float[Tensor, "*rows V"]:
        """Log-probabilities, in float32."""
        return logits.float().log_softmax(dim=-1)


class Identity(nn.Module):
    """A network's own outputs as scores: FaRMA's r(s, .), a causal LM's raw next-token outputs."""

    def forward(self, outputs: Float[Tensor, "*rows V"]) -> Float[Tensor, "*rows V"]:
        """The same, in float32."""
        return outputs.float()


HEADS: dict[str, type[nn.Module]] = {
    "scalar": ScalarHead,
    "vocabulary": VocabularyHead,
    "dueling": DuelingHead,
    "advantage": AdvantageHead,
    "log_probability": LogProbabilityHead,
    "identity": Identity,
    "embedding": EmbeddingHead,
}
"""Heads that can be saved, by their names on disk."""


def head_sizes(kind: str) -> tuple[str, ...]:
    """The sizes that a head is made with: the arguments that it needs.

    >>> head_sizes("dueling")
    ('hidden', 'vocabulary')
    """
    parameters = inspect.signature(HEADS[kind]).parameters.values()
    plain = (p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in plain if p.default is p.empty)


# --- backbones -----------------------------------------------------------------------------------


def truncated(backbone: PreTrainedModel, layers: int | None) -> PreTrainedModel:
    """The first `layers` layers of a decoder (what follows them stays); None keeps all.

    Layers are shared with the given backbone, not copied; only the containers are new. A causal LM
    keeps its output layer.
    """
    total = text_config(backbone).num_hidden_layers
    if layers is None or layers == total:
        return backbone
    if not 1 <= layers < total:
        raise UsageError(
            f"layers must be between 1 and the backbone's {total}",
            got=f"{layers}",
            do="pass fewer, or None for all",
        )
    cut = copy.copy(backbone)
    cut._modules = dict(backbone._modules)
    inner = backbone.base_model
    if isinstance(inner, PreTrainedModel) and inner is not backbone:
        body = truncated(inner, layers)
        setattr(cut, backbone.base_model_prefix, body)
        cut.config = body.config
        if text_config(backbone) is not backbone.config:  # that of a part of it
            cut.config = copy.copy(backbone.config)
            cut.config.text_config = body.config
        return cut
    children = dict(backbone.named_children())
    name = next((n for n in ("layers", "h") if isinstance(children.get(n), nn.ModuleList)), None)
    if name is None:
        raise UsageError(
            "a truncated backbone must keep its layers in `layers` or `h`",
            got=type(backbone).__name__,
            do="pass a backbone that is already truncated",
        )
    setattr(cut, name, nn.ModuleList(list(getattr(backbone, name))[:layers]))
    cut.config = _cut_config(backbone.config, layers)
    return cut


def _cut_config(config: Any, layers: int) -> Any:
    """The config of the first layers; everything that it says of each layer is cut as well.

    An error where so many layers, made anew from their config, would be other ones.
    """
    total, cut = config.num_hidden_layers, copy.deepcopy(config)
    if getattr(config, "hidden_size_per_layer_input", 0):
        raise UsageError(
            f"{config.model_type} embeds each token for all of its {total} layers, so it needs all",
            got=f"layers={layers}",
            do="pass layers=None",
        )
    own = config.to_dict().get("per_layer_config")
    cut.num_hidden_layers = layers
    for name, value in vars(config).items():
        if isinstance(value, list) and len(value) == total:
            setattr(cut, name, value[:layers])
    if own:
        cut.per_layer_config = {i: given for i, given in own.items() if int(i) < layers}
    if getattr(config, "num_kv_shared_layers", 0):
        cut.num_kv_shared_layers = max(0, config.num_kv_shared_layers - (total - layers))
    kinds = getattr(cut, "layer_types", None)
    again = type(cut).from_dict(cut.to_dict())
    if kinds and again.layer_types != kinds:
        whole = [i for i, kind in enumerate(config.layer_types, 1) if kind == again.layer_types[-1]]
        raise UsageError(
            f"{config.model_type} must end with a layer of {again.layer_types[-1]}",
            got=f"layers={layers}, of {kinds[-1]}",
            do=f"pass one of {', '.join(map(str, whole))}",
        )
    return cut


def _vocab_of(backbone: PreTrainedModel, given: Vocab | None) -> Vocab:
    """Whose ids a guide on this backbone reads: the given ones, or as many as it has rows."""
    config = text_config(backbone)
    if given is not None and given.size > config.vocab_size:
        raise IncompatibleError(
            f"a guide must have an embedding for each of the {given.size} token ids that it reads",
            got=f"{config.model_type} with {config.vocab_size} rows",
            do="use a backbone of the base's family, or a TextGuide, which reads text",
        )
    return given or Vocab(config.vocab_size)
