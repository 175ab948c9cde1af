"""Guidance that reads nothing: heads on the base's own states, spoken through its token embeddings.

Legend: B rows, K candidates, D size of a state, E size of an embedding, V vocabulary; a head keeps
leading dimensions `*rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.cache.networks import text_config, text_decoder
from trimtab.errors import IncompatibleError
from trimtab.types import Candidates, Cost, Prompt, Vocab


@torch.no_grad()
def token_embeddings(net: PreTrainedModel) -> Float[Tensor, "V E"]:
    """A base's input embeddings in float32, centred, and scaled to a mean norm of 1."""
    table: Any = net.get_input_embeddings()
    weights: Tensor = table.weight.float()
    centred = weights - weights.mean(dim=0)
    scaled: Tensor = centred / centred.norm(dim=1).mean()
    return scaled


class EmbeddingHead(nn.Module):
    """Q(s, v) = V(s) + A(s, v), with V(s) = w f(h) + c and A(s, v) = (W f(h) + b) . e(v).

    e(v) is the base's embedding of token v, frozen (`token_embeddings`): a score reaches tokens
    that no response ever had, by far fewer weights than a `VocabularyHead` has. f is a layer norm
    and a residual layer. V and A start at zero. After low-rank autoregressive reward models
    (Troshin et al., arXiv 2407.04615).

    Args:
        hidden: size of a state.
        embedding: size of an embedding.
        width: of f's hidden layer.

    >>> head = EmbeddingHead(4, 3, width=8).through(torch.eye(5, 3))
    >>> head(torch.ones(2, 4)).shape, head.at(torch.ones(2, 4), torch.tensor([[0], [4]])).shape
    (torch.Size([2, 5]), torch.Size([2, 1]))
    """

    embeddings: Tensor

    def __init__(self, hidden: int, embedding: int, width: int) -> None:
        super().__init__()
        self.sizes = {"hidden": hidden, "embedding": embedding, "width": width}
        self.register_buffer("embeddings", torch.empty(0, embedding), persistent=False)
        self.norm = nn.LayerNorm(hidden)
        self.up, self.down = nn.Linear(hidden, width), nn.Linear(width, hidden)
        self.value, self.query = nn.Linear(hidden, 1), nn.Linear(hidden, embedding)
        for linear in (self.value, self.query):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def through(self, embeddings: Float[Tensor, "V E"]) -> EmbeddingHead:
        """The head, speaking through these; they belong to the base and are not saved with it."""
        self.embeddings = embeddings
        return self

    def parts(
        self, states: Float[Tensor, "*rows D"]
    ) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows E"]]:
        """V(s), and the vector whose product with e(v) is A(s, v)."""
        x = self.norm(states.to(self.norm.weight.dtype))
        x = x + self.down(F.gelu(self.up(x)))
        return self.value(x)[..., 0].float(), self.query(x).float()

    def forward(self, states: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Q of every next token, in float32."""
        value, query = self.parts(states)
        return value[..., None] + query @ self.embeddings.T

    def at(
        self, states: Float[Tensor, "*rows D"], tokens: Int[Tensor, "*rows K"]
    ) -> Float[Tensor, "*rows K"]:
        """Q of some next tokens: only their embeddings are read."""
        value, query = self.parts(states)
        return value[..., None] + (self.embeddings[tokens] @ query[..., None])[..., 0]


@dataclass(frozen=True)
class RowCount:
    """A state guide's state: how many rows there are; it has read nothing of them."""

    rows: int


class StateGuide:
    """score(s, v) from the states that the base computes anyway: no token is read for it.

    The base hands its states over with its candidates (`Candidates.states`), so no forward is made
    and no cache is kept; what is left of a guide's cost is its head. Only for bases that offer
    their states (`trimtab.protocols.OffersStates`): a `TransformersLM`, but no API.

    Args:
        backbone: the base's network, which is not called: the head speaks through its embeddings.
        head: on states of that layer.
        layer: after how many layers; None is after the last, and its norm.
        vocab: whose ids it scores; None takes as many as there are embeddings.
        name: what errors and tables call it; None is its kind.

    >>> from transformers import LlamaConfig, LlamaModel
    >>> config = LlamaConfig(
    ...     vocab_size=5, hidden_size=8, num_hidden_layers=2, num_attention_heads=1
    ... )
    >>> guide = StateGuide(LlamaModel(config), EmbeddingHead(8, 8, width=16))
    >>> guide.cost.decoding, sorted(guide.state_layers)
    (0, [2])
    """

    kind = "state"

    def __init__(
        self,
        backbone: PreTrainedModel,
        head: EmbeddingHead,
        *,
        layer: int | None = None,
        vocab: Vocab | None = None,
        name: str | None = None,
    ) -> None:
        self.backbone = text_decoder(backbone)
        self.head = head.through(token_embeddings(backbone)).to(backbone.device).eval()
        self.layer = text_config(backbone).num_hidden_layers if layer is None else layer
        self.vocab = vocab or Vocab(len(head.embeddings))
        self.name = name or self.kind
        self.cost = Cost()

    @property
    def state_layers(self) -> frozenset[int]:
        """The layers whose states it reads."""
        return frozenset({self.layer})

    def prefill(self, prompts: Sequence[Prompt]) -> RowCount:
        """One row for each prompt."""
        return RowCount(len(prompts))

    def extend(
        self, state: RowCount, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]
    ) -> RowCount:
        """The base has read the tokens."""
        return state

    def select(self, state: RowCount, rows: Int[Tensor, "R"]) -> RowCount:
        """Drop, reorder or fork rows."""
        return RowCount(len(rows))

    def join(self, states: Sequence[RowCount]) -> RowCount:
        """Rows of several states side by side."""
        return RowCount(sum(state.rows for state in states))

    @torch.inference_mode()
    def score(self, state: RowCount, candidates: Candidates) -> Float[Tensor, "B K"]:
        """Q(s, v) of each candidate.

        Raises:
            IncompatibleError: candidates of several tokens, or of a base that hands out no states.
        """
        if candidates.tokens.shape[-1] != 1:
            raise IncompatibleError(
                f"guide {self.name!r} scores single tokens",
                got=f"candidates of {candidates.tokens.shape[-1]} tokens",
                do="use a token-wise method, or a ValueGuide",
            )
        if self.layer not in candidates.states:
            raise IncompatibleError(
                f"guide {self.name!r} reads the base's states of layer {self.layer}",
                got="candidates without them",
                do="decode with a base that offers its states, such as a TransformersLM",
            )
        return self.head.at(candidates.states[self.layer], candidates.tokens[:, :, 0])

    def __repr__(self) -> str:
        """Its layer and its head."""
        return f"StateGuide({self.name!r}, layer={self.layer}, head={type(self.head).__name__})"
