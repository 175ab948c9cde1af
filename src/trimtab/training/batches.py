"""What an objective sees: what the network said, and what is known of the responses.

Legend: B responses, T tokens of the longest, S its states (T + 1), V vocabulary, P pairs (B / 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Outputs:
    """What a guide's network says of every state, s_0 (the prompt) first.

    Attributes:
        values: V(s_t), of networks that have a scalar head.
        scores: score(s_t, v) of every next token v, of networks that have a head that wide.
    """

    values: Float[Tensor, "B S"] | None = None
    scores: Float[Tensor, "B S V"] | None = None


@dataclass(frozen=True)
class Batch:
    """Responses, padded on the right. In a batch of pairs rows 2i and 2i + 1 are chosen, rejected.

    Attributes:
        tokens: the responses' ids, EOS included.
        lengths: tokens of each.
        rewards: of each; of pairs only their order counts.
        prefixes: of pairs: for each number of tokens, 0 to T, whether that prefix is trained on.
        reference: log pi_ref(. | s_t), for objectives that take expectations.
    """

    tokens: Int[Tensor, "B T"]
    lengths: Int[Tensor, "B"]
    rewards: Float[Tensor, "B"]
    prefixes: Bool[Tensor, "P S"] | None = None
    reference: Float[Tensor, "B S V"] | None = None


def to_batch(tensors: Mapping[str, Tensor], reference: Tensor | None = None) -> Batch:
    """The part of a collated batch that an objective reads."""
    return Batch(
        tensors["tokens"],
        tensors["lengths"],
        tensors["rewards"],
        prefixes=tensors.get("prefixes"),
        reference=reference,
    )


def token_scores(outputs: Outputs, batch: Batch) -> Float[Tensor, "B T"]:
    """The guide's score of each response token after its prefix, as decoding will ask for it."""
    if outputs.scores is None:
        assert outputs.values is not None, "a network says values or scores"
        return outputs.values[:, 1:]
    return outputs.scores[:, :-1].gather(2, batch.tokens[..., None])[..., 0]


def state_values(outputs: Outputs) -> Float[Tensor, "B S"]:
    """V of every state, of a network with a scalar head."""
    assert outputs.values is not None, "this objective trains a network with a scalar head"
    return outputs.values


def next_scores(outputs: Outputs) -> Float[Tensor, "B S V"]:
    """The scores of every next token, of a network with a head that wide."""
    assert outputs.scores is not None, "this objective trains a head over the vocabulary"
    return outputs.scores
