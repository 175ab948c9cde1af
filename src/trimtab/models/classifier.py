"""Sequence-classification models of transformers, as rewards and as guides read them.

A decoder's head is applied at any token; an encoder reads each pair of prompt and response whole.

Legend: C labels; leading dimensions `*rows` are kept.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.cache.configs import text_config
from trimtab.errors import GuideError, IncompatibleError, UnknownNameError, UsageError
from trimtab.locks import lock_of
from trimtab.models.loading import check_loading, default_device, from_pretrained
from trimtab.types import Cost

log = logging.getLogger("trimtab")


def load_classifier(name: str, loading: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A sequence-classification model in eval mode, on an accelerator if there is one.

    Args:
        name: folder or Hub id.
        loading: passed to `from_pretrained` (dtype, device_map, quantization_config, ...).

    Raises:
        FetchError: it could not be had.
        IncompatibleError: a checkpoint whose weights lack the classification head.
    """
    loading = loading or {}
    check_loading(loading)
    model, info = from_pretrained(
        AutoModelForSequenceClassification,
        name,
        "reward model",
        output_loading_info=True,
        **loading,
    )
    if missing := sorted(info["missing_keys"]):
        raise IncompatibleError(
            "a reward model must bring the weights of its classification head",
            got=f"{name!r} without {', '.join(missing)}",
            do="pass a model that was trained as a classifier",
        )
    if not loading.keys() & {"device_map", "quantization_config"}:
        model = model.to(default_device())
    loaded: PreTrainedModel = model.eval()
    return loaded


def causal_head(model: PreTrainedModel) -> nn.Linear | None:
    """The head of a decoder with a classification head; None for encoders.

    transformers' decoders all call it `score`, apply it at every token and pool afterwards.
    """
    head = dict(model.named_children()).get("score")
    return head if isinstance(head, nn.Linear) else None


def body(model: PreTrainedModel) -> PreTrainedModel:
    """A classifier without its head."""
    inner = model.base_model
    assert isinstance(inner, PreTrainedModel)
    return inner


# --- which output is the reward ------------------------------------------------------------------


@dataclass(frozen=True)
class Label:
    """One label of a classifier as a score.

    Attributes:
        index: which output.
        odds: log P(label) / P(not label) = z_label - log sum_{others} e^z, for labels that exclude
            each other; False takes the output as it is.
    """

    index: int
    odds: bool

    @classmethod
    def of(cls, config: PreTrainedConfig, label: int | str | None) -> Label:
        """The label that is meant: the only output, or the one that is named.

        Raises:
            UsageError: several labels and none is named, or no such label.
        """
        names = {int(i): str(name) for i, name in (config.id2label or {}).items()}
        count = config.num_labels or len(names)
        exclusive = config.problem_type in (None, "single_label_classification")
        odds = count > 1 and exclusive
        if label is None and count > 1:
            raise UsageError(
                "of a classifier with several labels, the one that is the reward must be named",
                got=f"none of {', '.join(names.values())}",
                do=f"write MODEL#LABEL, such as MODEL#{names[count - 1]} (the argument `label`)",
            )
        index = _index(names, label) if isinstance(label, str) else label or 0
        if not 0 <= index < count:
            raise UsageError(f"label must be below {count}", got=f"{index}", do="pass one of them")
        return cls(index, odds)

    def __call__(self, logits: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows"]:
        """The score, in float32."""
        logits = logits.float()
        chosen = logits[..., self.index]
        if not self.odds:
            return chosen
        others = [i for i in range(logits.shape[-1]) if i != self.index]
        return chosen - torch.logsumexp(logits[..., others], dim=-1)


def _index(names: dict[int, str], label: str) -> int:
    if label not in names.values() and label.isdigit():
        return int(label)
    if label not in names.values():
        raise UnknownNameError("label", label, names.values())
    return next(i for i, name in names.items() if name == label)


# --- encoders ------------------------------------------------------------------------------------

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
