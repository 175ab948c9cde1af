"""How near a response stays to its prompt: a measure of relevance, and a reward of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trimtab.rewards.encoder import Encoder, minilm


@dataclass(frozen=True)
class Similarity:
    """The cosine of the prompt's and the response's sentence embeddings, in [-1, 1].

    Attributes:
        encoder: what embeds them; MiniLM, which has to be fetched, if none is given.
    """

    encoder: Encoder | None = field(default=None, repr=False)

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """Cosines, higher is nearer.

        Raises:
            NotFetchedError: MiniLM is not on this machine.
        """
        if not responses:
            return []
        embed = self.encoder or minilm()
        both = embed([*prompts, *responses])
        n = len(responses)
        return (both[:n] * both[n:]).sum(-1).tolist()


similarity = Similarity()
"""The reward by name, with MiniLM."""
