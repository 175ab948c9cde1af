"""Backbones and heads of guides.

Legend: B rows, D hidden size, V vocabulary; leading dimensions `...` are kept.
"""

from __future__ import annotations

import copy

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.errors import UsageError


def truncated(backbone: PreTrainedModel, layers: int | None) -> PreTrainedModel:
    """The first `layers` layers of a decoder (what follows them stays); None keeps all.

    Layers are shared with the given backbone, not copied; only the containers are new. A causal LM
    keeps its output layer.

    Raises:
        UsageError: the backbone has fewer layers, or keeps them where we do not know.
    """
    total = backbone.config.num_hidden_layers
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
    cut.config = copy.deepcopy(backbone.config)
    cut.config.num_hidden_layers = layers
    if getattr(cut.config, "layer_types", None):
        cut.config.layer_types = cut.config.layer_types[:layers]
    return cut


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
