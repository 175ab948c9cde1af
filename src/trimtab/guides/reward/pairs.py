"""Encoders (DeBERTa, BERT, RoBERTa) as a function of prompt and response texts."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.cache.configs import text_config
from trimtab.errors import GuideError, UsageError
from trimtab.guides.reward.heads import Label
from trimtab.locks import lock_of
from trimtab.types import Cost

log = logging.getLogger("trimtab")

_POSITIONS_AFTER_PAD = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "longformer"}
)
"""Encoders whose first token stands at position pad_token_id + 1."""


class PairScorer:
    """`(prompts, texts) -> scores`: each pair read as one sequence, all of them in one batch.

    Where a pair is longer than the model can read, the prompt loses its beginning: the response is
    what is judged. The first time is said in the log.

    Args:
        model: an encoder with a classification head; it pools as it was trained to.
        tokenizer: its own.
        label: which of its outputs is the score.

    Raises:
        UsageError: a tokenizer that cannot pad.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, label: Label
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise UsageError(
                "an encoder's tokenizer needs a pad token", got="none", do="set tokenizer.pad_token"
            )
        self.model, self.label, self.cost = model, label, Cost()
        self.tokenizer = copy.deepcopy(tokenizer)  # the sides are ours, not the caller's
        self.tokenizer.truncation_side, self.tokenizer.padding_side = "left", "right"
        self._lock = lock_of(self.tokenizer)
        self.limit = _limit(model, tokenizer)
        self._said = False

    @torch.inference_mode()
    def __call__(self, prompts: list[str], texts: list[str]) -> list[float]:
        """One score per pair.

        Raises:
            GuideError: a response that alone is longer than the model can read.
        """
        with self._lock:
            batch = self._encode(prompts, texts)
        self.cost.add(scored=int(batch["attention_mask"].sum()), forwards=1)
        logits = self.model(**batch.to(self.model.device)).logits
        scores: list[float] = self.label(logits).tolist()
        return scores

    def _encode(self, prompts: list[str], texts: list[str]) -> Any:
        plain = self.tokenizer(prompts, texts, verbose=False)
        longest = max(map(len, plain["input_ids"]))
        if longest <= self.limit:
            return self.tokenizer.pad(plain, return_tensors="pt", verbose=False)
        self._check(texts)
        if not self._said:
            log.warning(
                "prompt and response take %d tokens and the reward model reads %d: prompts lose "
                "their beginning",
                longest,
                self.limit,
            )
            self._said = True
        return self.tokenizer(
            prompts,
            texts,
            truncation="only_first",
            max_length=self.limit,
            padding=True,
            return_tensors="pt",
        )

    def _check(self, texts: list[str]) -> None:
        bare = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        room = self.limit - self.tokenizer.num_special_tokens_to_add(pair=True)
        if (longest := max(map(len, bare))) > room:
            raise GuideError(
                f"a response must fit the {room} tokens that the reward model reads",
                got=f"{longest} tokens",
                do="lower max_new_tokens, or use a reward model with a longer context",
            )


def _limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens in one sequence."""
    config = text_config(model)
    limit = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    if config.model_type in _POSITIONS_AFTER_PAD:
        limit -= (config.pad_token_id or 0) + 1
    return int(min(limit, tokenizer.model_max_length))
