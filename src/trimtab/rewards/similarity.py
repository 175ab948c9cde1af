"""How near a response stays to its prompt, or comes to a reference, in meaning.

    s(x, y) = e(x) . e(y)

with e(.) the unit vector of a text. To the prompt it is a measure of relevance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from trimtab.errors import check_word
from trimtab.rewards.encoder import Encoder, minilm
from trimtab.rewards.references import references
from trimtab.types import Sample

To: TypeAlias = Literal["prompt", "reference"]


@dataclass(frozen=True)
class Similarity:
    """The cosine of two sentence embeddings, in [-1, 1].

    Attributes:
        to: what a response is compared with: the text of its prompt, or the nearest of its
            references.
        encoder: what embeds them; MiniLM, which has to be fetched, if none is given.
    """

    to: To = "prompt"
    encoder: Encoder | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_word("to", self.to, To)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Cosines, higher is nearer.

        Raises:
            NotFetchedError: MiniLM is not on this machine.
            RewardError: a sample without the reference that it should be compared with.
        """
        if not responses:
            return []
        others = [self._others(sample) for sample in samples]
        flat = [text for texts in others for text in texts]
        both = (self.encoder or minilm())([*flat, *responses])
        found, at = list[float](), 0
        for row, texts in zip(both[len(flat) :], others, strict=True):
            found.append(float((both[at : at + len(texts)] @ row).max()))
            at += len(texts)
        return found

    def _others(self, sample: Sample) -> tuple[str, ...]:
        return (sample.text,) if self.to == "prompt" else references(sample)


similarity = Similarity()
"""The reward by name: to the prompt, with MiniLM."""

similarity_to_reference = Similarity("reference")
"""The reward by name: to the nearest reference, with MiniLM."""
