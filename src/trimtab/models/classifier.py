"""Sequence-classification models of transformers, as rewards and as guides read them.

A decoder's head is applied at any token; an encoder reads each pair of prompt and response whole.
`ChatTemplate` writes both as one model was trained to read them.

Legend: C labels; leading dimensions `*rows` are kept.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from trimtab.cache.networks import text_config
from trimtab.errors import (
    GuideError,
    IncompatibleError,
    PromptError,
    UnknownNameError,
    UsageError,
    check_word,
)
from trimtab.locks import lock_of
from trimtab.models.loading import load_network
from trimtab.models.transformers import without_empty_beginning
from trimtab.types import Cost, Message, Prompt, Template

log = logging.getLogger("trimtab")


def load_classifier(name: str, loading: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A sequence-classification model in eval mode, whose weights hold its head."""
    kind = AutoModelForSequenceClassification
    model, missing = load_network(kind, name, "reward model", **(loading or {}))
    if missing:
        raise IncompatibleError(
            "a reward model must bring the weights of its classification head",
            got=f"{name!r} without {', '.join(missing)}",
            do="pass a model that was trained as a classifier",
        )
    return model


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
    """One output of a classifier as a score: as it is, or by its odds.

    Of labels that exclude each other, log P(label) / P(not label) = z_label - log sum_{others} e^z.
    """

    index: int
    odds: bool

    @classmethod
    def of(cls, config: PreTrainedConfig, label: int | str | None) -> Label:
        """The label that is meant: the only output, or the one that is named."""
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
    """`(prompts, texts) -> scores`: each pair read by an encoder as one sequence, in one batch.

    Where a pair is longer than the model can read, the prompt loses its beginning: the response is
    what is judged. The first time is said in the log.
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
        """One score per pair."""
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


# --- what it was trained to read -----------------------------------------------------------------

RewardTemplate: TypeAlias = Template | Callable[[Prompt], str]
"""What stands before a response that a reward model reads: by the tokenizer's chat template where
it has one ("auto"), the user's text as it is ("none"), or whatever a function makes of the prompt.
"""


class ChatTemplate:
    """Prompts and responses as one reward model was trained to read them.

    Args:
        tokenizer: the reward model's.
        template: what stands before the response.
        decode: the base's ids to text, for prompts that came as ids alone.

    Attributes:
        own: whether prompts get a template here, or stand as the user wrote them.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: RewardTemplate,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        if not callable(template):
            check_word("template", template, Template)
        self.tokenizer, self.template, self.decode = tokenizer, template, decode
        self._lock = lock_of(tokenizer)
        self.chat = template == "auto" and bool(tokenizer.chat_template)
        self.own = self.chat or callable(template)
        empty = tokenizer.encode("", add_special_tokens=True)
        bos = tokenizer.bos_token_id
        self._lead = [bos] if bos in empty and not self.chat else []

    def opening(self, prompt: Prompt) -> str:
        """Everything that stands before the response."""
        if callable(self.template):
            return self.template(prompt)
        if not self.chat:
            return self._plain_text(prompt)
        messages, begun = without_empty_beginning(self._messages(prompt))
        return self._render(messages, add_generation_prompt=not begun, continue_final_message=begun)

    def closed(self, prompt: Prompt, response: str) -> str:
        """The whole text of a finished response, its turn closed as the template closes it."""
        if not self.chat:
            return self.opening(prompt) + response + (self.tokenizer.eos_token or "")
        messages = self._messages(prompt)
        if messages[-1]["role"] == "assistant":
            response = messages.pop()["content"] + response
        return self._render([*messages, {"role": "assistant", "content": response}])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of whole texts; BOS where the model expects one and the text brings none.

        Raises:
            PromptError: a text of no tokens.
        """
        with self._lock:
            rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        bos = self.tokenizer.bos_token
        ids = [
            row if bos and text.startswith(bos) else [*self._lead, *row]
            for text, row in zip(texts, rows, strict=True)
        ]
        if not all(ids):
            raise PromptError(
                "a reward model must have something to read", got="no tokens", do="write a prompt"
            )
        return ids

    def _messages(self, prompt: Prompt) -> list[dict[str, str]]:
        if prompt.messages is not None:
            return [dict(message) for message in prompt.messages]
        return [{"role": "user", "content": self._plain_text(prompt)}]

    def _plain_text(self, prompt: Prompt) -> str:
        """A prompt without a template: its text; several turns as "role: text" lines."""
        if prompt.messages is not None and len(prompt.messages) > 1:
            return "\n".join(f"{m['role']}: {m['content']}" for m in prompt.messages)
        return prompt.text if prompt.text is not None else self.decode(prompt.ids)

    def _render(self, messages: Sequence[Message], **options: Any) -> str:
        plain = [dict(message) for message in messages]
        text = self.tokenizer.apply_chat_template(plain, tokenize=False, **options)
        assert isinstance(text, str)
        return text
