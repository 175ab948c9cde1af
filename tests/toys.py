"""Small real things that tests share: tiny random transformers, tokenizers, table guides.

Random weights are scaled up, so that distributions are peaked and a mistake shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trimtab as tt
from tests.shapes import GPT2, LLAMA, PLAIN
from trimtab.guides import DuelingHead, ScalarHead, VocabularyHead
from trimtab.types import Candidates, Cost, Prompt, Sample

VOCABULARY = 97
EOS, BOS = 0, 1

SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "gemma3_text": {**LLAMA, "sliding_window": 6},
    "mistral": {**LLAMA, "sliding_window": 6},
    "qwen2": LLAMA,
    "gpt_neox": PLAIN,
}
"""Families by transformers' model type; the windows are shorter than the tests' prefixes."""


ODD_SHAPES: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 32, "n_layer": 4, "n_head": 4},
    "mpt": {"d_model": 32, "n_layers": 4, "n_heads": 4},
}
"""Families that cannot take a tree mask (alibi positions)."""


def config(family: str, vocabulary: int = VOCABULARY) -> Any:
    """A tiny config of a family, with EOS as pad (a trap that many models set)."""
    make: Any = CONFIG_MAPPING[family]
    return make(
        **(SHAPES | ODD_SHAPES)[family],
        vocab_size=vocabulary,
        eos_token_id=EOS,
        bos_token_id=BOS,
        pad_token_id=EOS,
        attn_implementation="eager" if family in ODD_SHAPES else "sdpa",
    )


def _peaked(net: PreTrainedModel, scale: float) -> PreTrainedModel:
    for weights in net.parameters():
        if weights.dim() > 1:
            weights.data.mul_(scale)
    return net.eval()


@cache
def causal_lm(
    family: str = "llama", vocabulary: int = VOCABULARY, seed: int = 0, scale: float = 4.0
) -> PreTrainedModel:
    """A tiny causal LM with random, peaked weights."""
    torch.manual_seed(seed)
    return _peaked(AutoModelForCausalLM.from_config(config(family, vocabulary)), scale)


@cache
def backbone(
    family: str = "llama", vocabulary: int = VOCABULARY, seed: int = 1, scale: float = 4.0
) -> PreTrainedModel:
    """A tiny decoder without a head."""
    torch.manual_seed(seed)
    return _peaked(AutoModel.from_config(config(family, vocabulary)), scale)


@cache
def tokenizer(vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Words w0, w1, ...; w0 is EOS and pad, w1 is BOS."""
    words = {f"w{i}": i for i in range(vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w2"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="w0", pad_token="w0", bos_token="w1"
    )


def language_model(
    family: str = "llama", vocabulary: int = VOCABULARY, seed: int = 0, **options: Any
) -> tt.TransformersLM:
    """A tiny causal LM as pi_ref."""
    return tt.TransformersLM(causal_lm(family, vocabulary, seed), tokenizer(vocabulary), **options)


def _random(head: torch.nn.Module, scale: float) -> torch.nn.Module:
    torch.manual_seed(7)
    for weights in head.parameters():
        torch.nn.init.normal_(weights, std=scale)
    return head


def value_guide(
    family: str = "llama", vocabulary: int = VOCABULARY, seed: int = 1, **options: Any
) -> tt.ValueGuide:
    """A value function with random weights; scores spread over about one unit."""
    net = backbone(family, vocabulary, seed)
    return tt.ValueGuide(net, _random(ScalarHead(net.config.hidden_size), 0.2), **options)


def vocabulary_guide(
    family: str = "llama", vocabulary: int = VOCABULARY, dueling: bool = False, **options: Any
) -> tt.VocabularyGuide:
    """A vocabulary-wide head with random weights."""
    net = backbone(family, vocabulary)
    kind = DuelingHead if dueling else VocabularyHead
    head = _random(kind(net.config.hidden_size, vocabulary), 0.2)
    return tt.VocabularyGuide(net, head, **options)


def causal_guide(family: str = "gpt2", vocabulary: int = VOCABULARY) -> tt.VocabularyGuide:
    """A causal LM's log-probabilities as scores (GenARM)."""
    return tt.VocabularyGuide.from_causal_lm(causal_lm(family, vocabulary, seed=3))


def prompts(*lengths: int, vocabulary: int = VOCABULARY, seed: int = 5) -> list[Prompt]:
    """Random prompts of these lengths, without EOS."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Prompt(tuple(torch.randint(3, vocabulary, (n,), generator=generator).tolist()))
        for n in lengths
    ]


class TableGuide:
    """A guide whose score of every prefix can be looked up: normal draws keyed by the prefix."""

    def __init__(self, seed: int = 0, name: str = "table", spread: float = 1.0) -> None:
        self.name, self.vocab, self.cost = name, None, Cost()
        self.seed, self.spread = seed, spread

    def value(self, ids: Sequence[int]) -> float:
        """The score of a whole prefix."""
        generator = torch.Generator().manual_seed(hash((self.seed, tuple(ids))) % 2**63)
        return float(torch.randn((), generator=generator, dtype=torch.float64)) * self.spread

    def prefill(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        self.cost.add(prefill=sum(len(p.ids) for p in prompts))
        return [p.ids for p in prompts]

    def extend(self, state: Any, tokens: torch.Tensor, lengths: torch.Tensor) -> Any:
        return [
            row + tuple(new[:n])
            for row, new, n in zip(state, tokens.tolist(), lengths.tolist(), strict=True)
        ]

    def select(self, state: Any, rows: torch.Tensor) -> Any:
        return [state[i] for i in rows.tolist()]

    def join(self, states: Sequence[Any]) -> Any:
        return [row for state in states for row in state]

    def score(self, state: Any, candidates: Candidates) -> torch.Tensor:
        self.cost.add(scored=int(candidates.lengths.sum()))
        return torch.tensor(
            [
                [self.value(row + tuple(c[:n])) for c, n in zip(cands, ns, strict=True)]
                for row, cands, ns in zip(
                    state, candidates.tokens.tolist(), candidates.lengths.tolist(), strict=True
                )
            ],
            dtype=torch.float64,
        )


def samples(*texts: str, reference: str | list[str] | None = None) -> list[Sample]:
    """Prompts as rewards see them, perhaps all with the same reference."""
    meta = {} if reference is None else {"reference": reference}
    return [Sample(text, text, meta) for text in texts]
