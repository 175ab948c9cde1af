"""Any sequence-classification reward model of transformers on finished responses: `hf:MODEL#LABEL`.

    r(x, y) = z            the only output
    r(x, y) = z_label - log sum_{others} e^z     of labels that exclude each other: log-odds, nats

read as the model was trained to read: prompt and response in its own chat template where it has
one. A decoder is pooled at the last token by its index, never at "the last that is not padding",
which would be one too early where EOS is the pad token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from transformers import PreTrainedModel

from trimtab.errors import GuideError, RewardError, UsageError
from trimtab.models.classifier import (
    ChatTemplate,
    Label,
    PairScorer,
    body,
    causal_head,
    load_classifier,
)
from trimtab.models.loading import load_tokenizer
from trimtab.models.transformers import Codec
from trimtab.types import Prompt, Sample, pad_ids


@dataclass(frozen=True)
class Classifier:
    """A reward model's output on each response; its model is loaded when it is first asked.

    Attributes:
        name: folder or Hub id.
        label: name or index of the output that is the reward; None where there is only one.
        batch_size: most responses in one forward.
    """

    name: str
    label: str | None = None
    batch_size: int = 16

    @classmethod
    def named(cls, spec: str) -> Classifier:
        """The reward that `MODEL` or `MODEL#LABEL` means; nothing is loaded yet."""
        name, _, label = spec.partition("#")
        if not name:
            raise UsageError(
                "a reward model must be hf:FOLDER, hf:HUB/ID or either with #LABEL",
                got=f"hf:{spec}",
                do="name one",
            )
        return cls(name, label or None)

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """Scores, higher is better.

        Raises:
            FetchError: the model could not be had.
            RewardError: a response longer than the model can read.
            UsageError: several labels and none named, or no such label.
        """
        order = sorted(range(len(responses)), key=lambda i: len(samples[i].text + responses[i]))
        scores = [0.0] * len(responses)
        for first in range(0, len(order), self.batch_size):
            rows = order[first : first + self.batch_size]  # like lengths, less padding
            batch = self.read([samples[i] for i in rows], [responses[i] for i in rows])
            for i, score in zip(rows, batch, strict=True):
                scores[i] = score
        return scores

    @property
    def short(self) -> str:
        """The name without folders: what tables call it."""
        name = self.name.rstrip("/").rpartition("/")[2]
        return f"{name}#{self.label}" if self.label else name

    @property
    def read(self) -> _Loaded:
        """The model, its label and its template, loaded."""
        return _loaded(self.name, self.label)


_load = cache(load_classifier)  # once for all of its labels


@cache
def _loaded(name: str, label: str | None) -> _Loaded:
    model, tokenizer = _load(name), load_tokenizer(name)
    output = Label.of(model.config, label)
    template = ChatTemplate(tokenizer, "auto", Codec(tokenizer).decode)
    pairs = PairScorer(model, tokenizer, output) if causal_head(model) is None else None
    return _Loaded(model, output, template, pairs)


@dataclass(frozen=True)
class _Loaded:
    """One forward: samples and responses of like lengths to scores."""

    model: PreTrainedModel
    label: Label
    template: ChatTemplate
    pairs: PairScorer | None  # of an encoder; a decoder reads whole texts, their turn closed

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        prompts = [  # by their text or their messages, without ids
            Prompt((), sample.text, None if isinstance(sample.prompt, str) else sample.prompt)
            for sample in samples
        ]
        if self.pairs is not None:
            try:
                return self.pairs([self.template.opening(p) for p in prompts], list(responses))
            except GuideError as error:
                raise RewardError(error.must, got=error.got, do=error.do) from error
        closed = [self.template.closed(*pair) for pair in zip(prompts, responses, strict=True)]
        rows = self.template.encode(closed)
        self._check(max(map(len, rows)))
        device = self.model.device
        ids, lengths = pad_ids(rows, device=device)  # padding stands behind, unseen
        mask = torch.arange(ids.shape[1], device=device) < lengths[:, None]
        read: Any = body(self.model)
        hidden = read(ids, attention_mask=mask.long()).last_hidden_state
        head = causal_head(self.model)
        assert head is not None
        last = hidden[torch.arange(len(rows), device=device), lengths - 1]
        scores: list[float] = self.label(head(last)).tolist()
        return scores

    def _check(self, longest: int) -> None:
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if context is not None and longest > context:
            raise RewardError(
                f"prompt and response must fit the {context} tokens that the reward model reads",
                got=f"{longest} tokens",
                do="lower max_new_tokens, or use a reward model with a longer context",
            )
