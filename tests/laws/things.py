"""Every guide and every model that the laws are run on, by name; each is made anew."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import trimtab as tt
from tests import toys
from tests.guides.test_reward import CHAT, characters, classifier, pair_tokenizer
from trimtab.guides import Center, Clamp, LogSigmoid, TextGuide, WeightedSum
from trimtab.protocols import Guide, LanguageModel


def _letters(prompts: list[str], texts: list[str]) -> list[float]:
    """A score of prompt and text that any lost or moved token changes."""
    return [
        sum((i % 7 + 1) * ord(c) for i, c in enumerate(p + "|" + t)) % 101 / 50
        for p, t in zip(prompts, texts, strict=True)
    ]


def text_guide() -> TextGuide:
    return TextGuide(
        _letters, lambda ids: str(toys.tokenizer().decode(ids, skip_special_tokens=True))
    )


def weighted() -> WeightedSum:
    return WeightedSum([(0.5, toys.value_guide()), (-2.0, toys.value_guide("gpt2"))])


def reward_guide(family: str, tokenizer: Any) -> tt.RewardGuide:
    """Of the way that family and tokenizer make: shared ids, texts of another tokenizer, pairs."""
    model = classifier(family, vocabulary=max(toys.VOCABULARY, len(tokenizer)))
    return tt.RewardGuide(model, tokenizer, toys.language_model())


GUIDES: dict[str, Callable[[], Guide[Any]]] = {
    **{f"value-{family}": functools.partial(toys.value_guide, family) for family in toys.SHAPES},
    "value-bloom-expanded": lambda: toys.value_guide("bloom", attention="expanded"),
    "value-llama-expanded": lambda: toys.value_guide(attention="expanded"),
    "value-mistral-expanded": lambda: toys.value_guide("mistral", attention="expanded"),
    "value-gemma3-expanded": lambda: toys.value_guide("gemma3_text", attention="expanded"),
    "value-llama-2-layers": lambda: toys.value_guide(layers=2),
    "value-gemma3-3-layers": lambda: toys.value_guide("gemma3_text", layers=3),
    "value-gpt2-1-layer": lambda: toys.value_guide("gpt2", layers=1),
    "vocabulary": toys.vocabulary_guide,
    "vocabulary-dueling": lambda: toys.vocabulary_guide("gpt2", dueling=True),
    "vocabulary-causal": toys.causal_guide,
    "vocabulary-expanded": lambda: toys.vocabulary_guide("bloom", attention="expanded"),
    "table": toys.TableGuide,
    "text": text_guide,
    "reward-shared": lambda: reward_guide("llama", toys.tokenizer()),
    "reward-retokenised": lambda: reward_guide("gpt2", characters()),
    "reward-own-template": lambda: reward_guide("llama", characters(CHAT)),
    "reward-pairs": lambda: reward_guide("bert", pair_tokenizer()),
    "sum": weighted,
    "sum-of-both-kinds": lambda: WeightedSum([(1.0, toys.value_guide()), (3.0, text_guide())]),
    "log-sigmoid": lambda: LogSigmoid(toys.value_guide()),
    "clamp": lambda: Clamp(toys.value_guide("gpt2"), -0.3, 0.6),
    "center": lambda: Center(toys.value_guide()),
}

MODELS: dict[str, Callable[[], LanguageModel[Any]]] = {
    "table": tt.TableLM,
    **{family: functools.partial(toys.language_model, family) for family in toys.SHAPES},
    "llama-at-0.7": lambda: toys.language_model(base_temperature=0.7),
    "gpt2-nucleus": lambda: toys.language_model("gpt2", base_top_p=0.9),
    "llama-in-a-narrow-nucleus": lambda: toys.language_model(base_temperature=0.2, base_top_p=0.9),
    "gemma3-both": lambda: toys.language_model(
        "gemma3_text", base_temperature=1.3, base_top_p=0.95
    ),
    "bloom-expanded": lambda: toys.language_model("bloom", attention="expanded"),
    "llama-expanded": lambda: toys.language_model(attention="expanded"),
    "gemma3-expanded": lambda: toys.language_model("gemma3_text", attention="expanded"),
}
