"""Coherence as a score of single texts: which encoder embeds them, by name and fingerprint.

It is the similarity of prompt and response (`trimtab.rewards.similarity`). Scores are kept beside
those of rewards, so a text is embedded once, whoever asks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from trimtab.rewards.similarity import MINILM, Similarity, encoder
from trimtab.runs.resolve import Scorer, find_reward


@cache
def coherence_scorer(name: str = MINILM) -> tuple[Scorer, str]:
    """A scorer by the encoder of that name, and what tables call the encoder.

    Args:
        name: as for `trimtab.rewards.similarity.encoder`.

    Raises:
        NotFetchedError: MiniLM is not on this machine; the message names the command.
        UsageError: sentence-transformers is missing, or cannot open the model.
    """
    scorer = replace(find_reward(Similarity("prompt", encoder(name))), name="coherence")
    return scorer, Path(name).name if Path(name).exists() else name
