"""What the fuzz decodes with: tiny networks of many families, and what each says without a cache.

`windows` and switches lie within reach of the prompts, so that prefixes stand before, on and past
them. Everything here is small, random and peaked; a lost or moved token changes every figure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import trimtab as tt
from tests import toys
from tests.shapes import GPT2, LLAMA, PLAIN, VISION, dynamic, longrope
from trimtab.guides import Clamp, LogSigmoid, ScalarHead, TextGuide, VocabularyHead, WeightedSum
from trimtab.types import Prompt, Vocab

Ids = tuple[int, ...]
SIZE = 61
WINDOW, SWITCH = 6, 24

SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "gpt_neox": PLAIN,
    "qwen2": {**LLAMA, "sliding_window": WINDOW, "use_sliding_window": True,
              "max_window_layers": 2},
    "mistral": {**LLAMA, "sliding_window": WINDOW},
    "gemma2": {**LLAMA, "sliding_window": WINDOW, "attn_implementation": "eager"},
    "gemma3_text": {**LLAMA, "sliding_window": WINDOW},
    "gemma3": {"text_config": {**LLAMA, "sliding_window": WINDOW}, "vision_config": VISION,
               "image_token_index": 3, "boi_token_index": 4, "eoi_token_index": 5,
               "mm_tokens_per_image": 4},
    "gpt_oss": {**LLAMA, "sliding_window": WINDOW, "num_local_experts": 4,
                "attn_implementation": "eager"},
    "olmo3": {**PLAIN, "sliding_window": WINDOW},
    "phi3": {**PLAIN, **longrope(SWITCH)},
    "llama-dynamic": {**LLAMA, **dynamic(SWITCH)},
    "llama-stray-window": {**LLAMA, "sliding_window": WINDOW},
}  # fmt: skip
"""Families, by model type and what is special about them."""

SWITCHING = frozenset({"phi3", "llama-dynamic"})
"""Whose reading of a token depends on how long the text has become."""

SINGLE_PRECISION = frozenset({"gemma2", "gpt_oss"})
"""Eager attention takes its softmax in float32, where float64's least number is -inf and a padded
query NaN; torch multiplies grouped matrices (experts) in single precision only."""


@cache
def causal(family: str, seed: int, double: bool) -> PreTrainedModel:
    """A tiny causal LM."""
    shape = dict(SHAPES[family])
    implementation = shape.pop("attn_implementation", "sdpa")
    ids = {"vocab_size": SIZE, "eos_token_id": toys.EOS, "bos_token_id": toys.BOS}
    if "text_config" in shape:
        shape["text_config"] = shape["text_config"] | ids
        ids.pop("vocab_size")
    config = CONFIG_MAPPING[family.split("-", maxsplit=1)[0]](**shape, **ids, pad_token_id=toys.EOS)
    torch.manual_seed(seed)
    net = AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()
    for name, weights in net.named_parameters():
        if weights.dim() > 1 and "vision" not in name:
            weights.data.mul_(4.0)
    return net.double() if double and family not in SINGLE_PRECISION else net.float()


def body(family: str, double: bool) -> PreTrainedModel:
    """A decoder without a head, of other weights than the base's."""
    return cast("PreTrainedModel", causal(family, 1, double).base_model)


@cache
def _head(kind: type[nn.Module], size: int, double: bool) -> nn.Module:
    head = toys._random(kind(32) if size == 1 else kind(32, size), 0.2)
    return copy.deepcopy(head).double() if double else head


@torch.inference_mode()
def plain(net: PreTrainedModel, rows: Sequence[Ids]) -> Any:
    """A forward of whole texts of one length: no cache, no mask, no positions."""
    return net(input_ids=torch.tensor(rows), use_cache=False)


@dataclass(frozen=True)
class Scored:
    """A guide, and what it must say.

    Attributes:
        guide: the library's.
        score: `(which prompt, its ids, responses)` to one score each, without any cache.
        tokens: whether it scores single tokens only.
    """

    guide: Any
    score: Callable[[int, Ids, Sequence[Ids]], list[float]]
    tokens: bool = False


def value(family: str, attention: Any, double: bool) -> Scored:
    """V of a whole text."""
    net, head = body(family, double), _head(ScalarHead, 1, double)

    def score(prompt: int, ids: Ids, responses: Sequence[Ids]) -> list[float]:
        found: dict[Ids, float] = {}
        for length in {len(r) for r in responses}:
            same = [r for r in responses if len(r) == length]
            hidden = plain(net, [ids + r for r in same]).last_hidden_state[:, -1]
            found |= dict(zip(same, head(hidden).tolist(), strict=True))
        return [found[r] for r in responses]

    vocab = Vocab(SIZE)
    return Scored(tt.ValueGuide(net, head, attention=attention, vocab=vocab), score)


def vocabulary(family: str, attention: Any, double: bool) -> Scored:
    """Q of a prefix, at the token that follows."""
    net, head = body(family, double), _head(VocabularyHead, SIZE, double)

    def score(prompt: int, ids: Ids, responses: Sequence[Ids]) -> list[float]:
        (prefix,) = {r[:-1] for r in responses}
        q: Tensor = head(plain(net, [ids + prefix]).last_hidden_state[:, -1])[0]
        return [float(q[r[-1]]) for r in responses]

    vocab = Vocab(SIZE)
    guide = tt.VocabularyGuide(net, head, attention=attention, vocab=vocab)
    return Scored(guide, score, tokens=True)


def letters(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    """A score of prompt and text that any lost or moved token changes."""
    return [
        sum((i % 7 + 1) * ord(c) for i, c in enumerate(p + "|" + t)) % 101 / 50
        for p, t in zip(prompts, texts, strict=True)
    ]


def text(family: str, attention: Any, double: bool) -> Scored:
    """A function of texts."""
    read = tokenizer_text

    def score(prompt: int, ids: Ids, responses: Sequence[Ids]) -> list[float]:
        return letters([read(ids)] * len(responses), [read(r) for r in responses])

    return Scored(TextGuide(letters, read), score)


def summed(family: str, attention: Any, double: bool) -> Scored:
    """Two values and a text, with weights of their own for each prompt; some are zero."""
    parts = [value(family, attention, double), value("gpt2", "tree", double), text("", "", double)]
    weights: list[Any] = [[1.0, 0.0, -0.5, 0.0], [0.5, 0.5, 0.0, 0.0], 0.25]

    def score(prompt: int, ids: Ids, responses: Sequence[Ids]) -> list[float]:
        each = [part.score(prompt, ids, responses) for part in parts]
        mine = [w if isinstance(w, float) else w[prompt] for w in weights]
        return [
            sum(w * s for w, s in zip(mine, row, strict=True)) for row in zip(*each, strict=True)
        ]

    return Scored(None, score)


def _bend(inner: Scored, wrap: Callable[[Any], Any], bend: Callable[[Tensor], Tensor]) -> Scored:
    def score(prompt: int, ids: Ids, responses: Sequence[Ids]) -> list[float]:
        raw = torch.tensor(inner.score(prompt, ids, responses), dtype=torch.float64)
        return [float(x) for x in bend(raw)]

    return Scored(wrap(inner.guide), score, inner.tokens)


def log_sigmoid(family: str, attention: Any, double: bool) -> Scored:
    """log sigma of a value."""
    return _bend(value(family, attention, double), LogSigmoid, nn.functional.logsigmoid)


def clamp(family: str, attention: Any, double: bool) -> Scored:
    """A vocabulary's scores between bounds."""
    inner = vocabulary(family, attention, double)
    return _bend(inner, lambda guide: Clamp(guide, -0.3, 0.6), lambda x: x.clamp(-0.3, 0.6))


KINDS: dict[str, Callable[[str, Any, bool], Scored]] = {
    "value": value,
    "vocabulary": vocabulary,
    "text": text,
    "sum": summed,
    "log-sigmoid": log_sigmoid,
    "clamp": clamp,
}


def weighted(family: str, attention: Any, double: bool, prompts: int) -> Any:
    """The sum for so many prompts: weights are given per prompt."""
    return WeightedSum(
        [
            ([1.0, 0.0, -0.5, 0.0][:prompts], value(family, attention, double).guide),
            ([0.5, 0.5, 0.0, 0.0][:prompts], value("gpt2", "tree", double).guide),
            (0.25, text("", "", double).guide),
        ]
    )


def tokenizer_text(ids: Sequence[int]) -> str:
    """Ids to text: special tokens leave none."""
    return str(toys.tokenizer(SIZE).decode(list(ids), skip_special_tokens=True))


def prompt(ids: Ids) -> Prompt:
    """An encoded prompt."""
    return Prompt(ids)
