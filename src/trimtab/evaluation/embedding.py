"""Coherence as a score of single texts: which encoder embeds them, by name and fingerprint.

    coherence(x, y) = cos(e(x), e(y))

for prompt x, response y and a sentence encoder e. Scores are kept beside those of rewards, so a
text is embedded once, whoever asks. Figures of different encoders do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from trimtab.errors import UsageError
from trimtab.plugins import optional
from trimtab.rewards.encoder import minilm
from trimtab.runs.identity import digest, weights_fingerprint
from trimtab.runs.resolve import Scorer
from trimtab.types import Sample

MINILM = "minilm"

Encoder: TypeAlias = "Callable[[Sequence[str]], Float[np.ndarray, 'N D']]"
"""Texts to sentence embeddings, as `SentenceTransformer.encode` is."""


def coherence(
    prompts: Sequence[str], texts: Sequence[str], encode: Encoder
) -> Float[np.ndarray, "N"]:
    """Cosine of each prompt's and its response's sentence embeddings (ARGS, section 3.1).

    ARGS embeds with `princeton-nlp/sup-simcse-bert-base-uncased`; figures of different encoders
    do not compare. A zero embedding has cosine 0. Each distinct prompt is embedded once.
    """
    if len(texts) != len(prompts) or not texts:
        raise UsageError(
            "there must be as many prompts as texts, and one or more",
            got=f"{len(prompts)} prompts for {len(texts)} texts",
            do="pass one for each text",
        )
    distinct_prompts = list(dict.fromkeys(prompts))
    where = {prompt: i for i, prompt in enumerate(distinct_prompts)}
    asked = _unit(encode(distinct_prompts))[[where[prompt] for prompt in prompts]]
    return np.asarray((asked * _unit(encode(list(texts)))).sum(axis=-1))


def _unit(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    """Rows of length 1, in float64; rows of zeros stay."""
    exact = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    return exact / np.where(length > 0, length, 1.0)


@dataclass(frozen=True)
class Coherence:
    """The cosine of prompt and response, as a scorer's function.

    Attributes:
        encode: texts to sentence embeddings.
    """

    encode: Encoder

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """One cosine for each response, in [-1, 1]."""
        prompts = [sample.text for sample in samples]
        found: list[float] = coherence(prompts, responses, self.encode).tolist()
        return found


@cache
def coherence_scorer(encoder: str = MINILM) -> tuple[Scorer, str]:
    """A scorer by the encoder of that name, and what tables call the encoder.

    Args:
        encoder: "minilm" for the fetched asset, or whatever `SentenceTransformer` opens: a
            folder or a Hub id.

    Raises:
        NotFetchedError: MiniLM is not on this machine; the message names the command.
        UsageError: sentence-transformers is missing, or cannot open the model.
    """
    if encoder == MINILM:
        net = minilm()
        return _scorer(_minilm, MINILM, weights_fingerprint(net.model)), MINILM
    model = _open(encoder)
    name = Path(encoder).name if Path(encoder).exists() else encoder
    told = digest([weights_fingerprint(model), repr(model)])  # its modules: pooling, lengths
    return _scorer(_encoding(model), "sentence-transformers", told), name


def _scorer(encode: Encoder, kind: str, fingerprint: str) -> Scorer:
    return Scorer("coherence", Coherence(encode), digest(["coherence", kind, fingerprint]))


def _minilm(texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
    return minilm()(texts).numpy()


def _encoding(model: Any) -> Encoder:
    def encode(texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        return np.asarray(model.encode(list(texts), show_progress_bar=False))

    return encode


def _open(encoder: str) -> Any:
    """A sentence-transformers model; what goes wrong inside is said in one sentence."""
    package = optional("sentence_transformers", "eval")
    try:
        return package.SentenceTransformer(encoder)
    except Exception as error:  # the hub, a config, a tensor: each raises in its own way
        raise UsageError(
            "an encoder must be 'minilm' or a sentence-transformers model (a folder or a Hub id)",
            got=f"{encoder!r}, which cannot be opened ({type(error).__name__}: {error})",
            do="name another, or use `--metric coherence` for MiniLM",
        ) from error
