"""Backbones and heads of guides.

Legend: B rows, D hidden size, V vocabulary; leading dimensions `...` are kept.
"""

from __future__ import annotations

import copy
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.configs import text_config
from trimtab.errors import IncompatibleError, UsageError
from trimtab.types import Vocab


def truncated(backbone: PreTrainedModel, layers: int | None) -> PreTrainedModel:
    """The first `layers` layers of a decoder (what follows them stays); None keeps all.

    Layers are shared with the given backbone, not copied; only the containers are new. A causal LM
    keeps its output layer.

    Raises:
        UsageError: the backbone has fewer layers, cannot be cut there, or keeps them where we do
            not know.
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
        cut.config = _of_part(backbone.config, body.config)
        return cut
    name = next(
        (n for n in ("layers", "h") if isinstance(getattr(backbone, n, None), nn.ModuleList)), None
    )
    if name is None:
        raise UsageError(
            "a truncated backbone must keep its layers in `layers` or `h`",
            got=type(backbone).__name__,
            do="pass a backbone that is already truncated",
        )
    setattr(cut, name, nn.ModuleList(list(getattr(backbone, name))[:layers]))
    cut.config = _cut_config(backbone.config, layers)
    return cut


def _of_part(whole: Any, part: Any) -> Any:
    """The config of a model whose part was cut: the part's own, or with the part's inside."""
    if text_config(whole) is whole:
        return part
    config = copy.copy(whole)
    config.text_config = part
    return config


def _cut_config(config: Any, layers: int) -> Any:
    """The config of the first layers; everything that it says of each layer is cut as well.

    Raises:
        UsageError: so many layers, made anew from their config, would be other ones.
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
        cut.per_layer_config = {i: said for i, said in own.items() if int(i) < layers}
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


def vocab_of(backbone: PreTrainedModel, given: Vocab | None) -> Vocab:
    """Whose ids a guide on this backbone reads: the given ones, or as many as it has rows.

    Raises:
        IncompatibleError: fewer rows than ids.
    """
    config = text_config(backbone)
    rows = config.vocab_size
    if given is not None and given.size > rows:
        raise IncompatibleError(
            f"a guide must have an embedding for each of the {given.size} token ids that it reads",
            got=f"{config.model_type} with {rows} rows",
            do="use a backbone of the base's family, or a TextGuide, which reads text",
        )
    return given or Vocab(rows)


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
