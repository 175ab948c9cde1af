"""The processor inside `generate` with drafts, static caches and none: our loop's tokens, or no."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

import trimtab as tt
from tests import toys
from tests.laws.things import GUIDES
from trimtab.errors import UsageError
from trimtab.integrations.transformers import GuidedLogitsProcessor
from trimtab.types import Prompt

PROMPT = Prompt((11, 12, 13, 14, 11, 12, 13, 14, 11, 12, 13), text="w11 w12 w13")
IDS = torch.tensor([PROMPT.ids])
MASK = torch.ones_like(IDS)
TOLD: dict[str, dict[str, Any]] = {
    "mask": {"attention_mask": MASK},
    "prompts": {"prompts": [PROMPT]},
    "pad": {"pad_token_id": toys.EOS},
    "nothing": {},
}
DRAFTS: dict[str, Callable[[], dict[str, Any]]] = {
    "lookup": lambda: {"prompt_lookup_num_tokens": 3},
    "assistant": lambda: {"assistant_model": toys.causal_lm(seed=5)},
    "itself": lambda: {"assistant_model": toys.causal_lm()},
}
OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "static": lambda: {"cache_implementation": "static"},
    "no-cache": lambda: {"use_cache": False},
}
KINDS = [
    ("text", "mask"),
    ("text", "prompts"),
    ("value-llama", "mask"),
    ("reward-own-template", "prompts"),
]
METHOD = tt.args(beta=2.0, k=8)


def generated(processor: GuidedLogitsProcessor, **options: Any) -> tuple[int, ...]:
    net = toys.causal_lm()
    out = net.generate(
        input_ids=IDS,
        attention_mask=MASK,
        logits_processor=[processor],
        max_new_tokens=10,
        pad_token_id=toys.EOS,
        **processor.generate_options,
        **options,
    )
    return tuple(out[0, IDS.shape[1] :].tolist())


def ours(guide: Any, prompt: Prompt) -> tuple[int, ...]:
    (done,) = tt.decode(toys.language_model(), guide, METHOD, [prompt], max_new_tokens=10)
    return done.tokens


def made(guide: Any, told: str, eos: int | None = toys.EOS) -> GuidedLogitsProcessor:
    return GuidedLogitsProcessor(guide, METHOD, eos_token_id=eos, **TOLD[told])


def wanted(guide: Any, told: str) -> tuple[int, ...]:
    """Without `prompts`, a guide that starts from text sees that of the ids."""
    return ours(guide, PROMPT if told == "prompts" else Prompt(PROMPT.ids))


@pytest.mark.parametrize(("kind", "told"), KINDS)
@pytest.mark.parametrize("options", DRAFTS)
def test_drafts_change_no_token_where_the_end_of_the_prompt_is_told(
    options: str, told: str, kind: str
) -> None:
    guide = GUIDES[kind]()
    assert generated(made(guide, told), **DRAFTS[options]()) == wanted(guide, told)


@pytest.mark.parametrize("eos", [toys.EOS, None])
@pytest.mark.parametrize("options", DRAFTS)
def test_drafts_that_end_the_response_change_no_token(options: str, eos: int | None) -> None:
    """EOS is drafted and taken back, and at last taken."""
    guide = toys.TableGuide(seed=4, spread=3.0)
    method = tt.args(beta=2.0, k=60)
    (want,) = tt.decode(toys.language_model(), guide, method, [PROMPT], max_new_tokens=10)
    processor = GuidedLogitsProcessor(guide, method, eos_token_id=eos, attention_mask=MASK)
    assert generated(processor, **DRAFTS[options]()) == want.tokens


@pytest.mark.parametrize("told", ["pad", "nothing"])
@pytest.mark.parametrize("options", DRAFTS)
def test_drafts_are_refused_where_nobody_says_where_the_prompt_ends(
    options: str, told: str
) -> None:
    with pytest.raises(UsageError, match="where the prompt ends.*make the processor with"):
        generated(made(GUIDES["text"](), told), **DRAFTS[options]())


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("options", OTHERS)
def test_any_cache_will_do(options: str, told: str) -> None:
    guide = GUIDES["text"]()
    assert generated(made(guide, told), **OTHERS[options]()) == wanted(guide, told)


@pytest.mark.parametrize(("kind", "told"), KINDS)
def test_whatever_is_shown_in_whatever_order_each_answer_is_that_of_its_ids(
    kind: str, told: str
) -> None:
    """A walk of tokens, drafts taken back by one or many, and returns to the beginning."""
    walk, guide = random.Random(3), GUIDES[kind]()
    shown, scores = made(guide, told), torch.randn(1, toys.VOCABULARY)
    row, known = list(PROMPT.ids), {}
    shown(IDS, scores)
    for _ in range(12):
        row = row[: max(len(PROMPT.ids), len(row) - walk.choice([0, 0, 0, 1, 2, 20]))]
        for _ in range(walk.choice([0, 1, 1, 3])):
            row.append(walk.randrange(3, toys.VOCABULARY))
            shown(torch.tensor([row]), scores)
        got = shown(torch.tensor([row]), scores)
        key = tuple(row)
        if key not in known:
            alone = made(guide, told)
            for width in range(len(PROMPT.ids), len(row) + 1):
                known[key] = alone(torch.tensor([row[:width]]), scores)
        torch.testing.assert_close(got, known[key], atol=1e-4, rtol=1e-4)


def test_an_assistant_of_other_ids_is_refused_with_its_reason() -> None:
    processor = made(toys.value_guide(), "mask")
    with pytest.raises(UsageError, match="assistant model needs the tokenizer of the model"):
        processor(torch.tensor([[3, 4, 5]]), torch.zeros(1, toys.VOCABULARY))
