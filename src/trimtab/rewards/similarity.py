"""How near a response stays to its prompt, or comes to a reference, in meaning.

    s(x, y) = e(x) . e(y)

with e(.) the unit vector of a text, by a sentence encoder. To the prompt it is a measure of
relevance. Scores of different encoders do not compare.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from trimtab.assets import path_of
from trimtab.errors import UsageError, check_word
from trimtab.locks import lock_of
from trimtab.plugins import optional
from trimtab.rewards.references import references
from trimtab.types import Sample

To: TypeAlias = Literal["prompt", "reference"]

Encoder: TypeAlias = Callable[[Sequence[str]], Float[Tensor, "N D"]]
"""Texts to unit vectors, on the CPU."""

MINILM = "minilm"
"""all-MiniLM-L6-v2 (22.7M parameters, Apache-2.0), the asset of that name."""


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
            UsageError: sentence-transformers is not installed.
        """
        if not responses:
            return []
        others = [self._others(sample) for sample in samples]
        texts = [text for several in others for text in several]
        vectors = (self.encoder or encoder())([*texts, *responses])
        others_of = vectors[: len(texts)].split([len(several) for several in others])
        pairs = zip(others_of, vectors[len(texts) :], strict=True)
        return [float((near @ response).max()) for near, response in pairs]

    def _others(self, sample: Sample) -> tuple[str, ...]:
        return (sample.text,) if self.to == "prompt" else references(sample)


similarity = Similarity()
"""The reward by name: to the prompt, with MiniLM."""

similarity_to_reference = Similarity("reference")
"""The reward by name: to the nearest reference, with MiniLM."""


# --- encoders ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentenceEncoder:
    """A model of sentence-transformers; equal texts are read once.

    Attributes:
        model: a `SentenceTransformer`.
    """

    model: Any

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """The unit vector of each text, on the CPU."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return torch.zeros(0, self.model.get_embedding_dimension())
        with lock_of(self.model):
            vectors: Tensor = self.model.encode(
                unique, show_progress_bar=False, convert_to_tensor=True, normalize_embeddings=True
            ).cpu()
        row = {text: i for i, text in enumerate(unique)}
        return vectors[[row[text] for text in texts]]


@cache
def encoder(name: str = MINILM) -> SentenceEncoder:
    """A sentence encoder, loaded once.

    Args:
        name: "minilm" for what `trimtab assets fetch minilm` stored, or whatever
            `SentenceTransformer` opens: a folder or a Hub id.

    Raises:
        NotFetchedError: MiniLM is not on this machine; the message names the command.
        UsageError: sentence-transformers is not installed, or cannot open the model.
    """
    place, device = (str(path_of(MINILM)), "cpu") if name == MINILM else (name, None)
    package = optional("sentence_transformers", "eval", user="a sentence encoder")
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar for a tenth of a second
            return SentenceEncoder(package.SentenceTransformer(place, device=device))
    except Exception as error:  # the hub, a config, a tensor: each raises in its own way
        raise UsageError(
            f"an encoder must be {MINILM!r} or a model of sentence-transformers",
            got=f"{name!r}, which cannot be opened ({type(error).__name__}: {error})",
            do="name a folder or a Hub id, or take MiniLM",
        ) from error
