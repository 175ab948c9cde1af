"""Tokens of fixed seeds, pinned: any change of results is seen, whether it was meant or not.

After a change that is meant, and said in the changelog:

    python -m tests.golden.test_tokens

The networks are tiny and random, in float32. Another machine may round otherwise, so their
distributions are peaked and the responses short.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import trimtab as tt
from tests import toys

PINNED = Path(__file__).with_name("tokens.json")
FAMILIES = ("llama", "gpt2")
METHODS = {
    "greedy": tt.greedy(),
    "sampling": tt.sampling(0.8, top_k=20, top_p=0.95),
    "args": tt.args(beta=1.5, k=10),
    "args-stochastic": tt.args_stochastic(beta=1.5, k=10),
    "pargs": tt.pargs(beta=2.0, k=10),
    "vas": tt.vas(beta=3.0, k=10),
    "vas-greedy": tt.vas(beta=3.0, k=10, temperature=0),
    "cd-blockwise": tt.cd_blockwise(n=4, length=4),
    "best-of-n": tt.best_of_n(n=4),
}


def tokens(family: str, name: str) -> list[list[int]]:
    """Two samples each of two prompts of different lengths."""
    done = tt.decode(
        toys.language_model(family),
        toys.value_guide(family),
        METHODS[name],
        toys.prompts(6, 11),
        n=2,
        max_new_tokens=16,
        seed=2024,
    )
    return [list(response.tokens) for response in done]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_tokens_are_as_pinned(family: str, name: str) -> None:
    assert tokens(family, name) == json.loads(PINNED.read_text())[family][name]


def regenerate() -> None:
    """Pin what the library says now."""
    pinned = {family: {name: tokens(family, name) for name in METHODS} for family in FAMILIES}
    text = json.dumps(pinned, indent=1)
    for loose, tight in ((r"\s*\n\s*(-?\d)", r" \1"), (r"\[ ", "["), (r"(\d)\s+\]", r"\1]")):
        text = re.sub(loose, tight, text)  # a response a line
    PINNED.write_text(text + "\n")


if __name__ == "__main__":
    regenerate()
