"""How short a response is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.assets import path_of

_PIECE = re.compile(r"\w+|[^\w\s]")


def brevity(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Minus the number of words and punctuation marks, which is near that of tokens.

    Counted in the text and not by a tokenizer, so that it means the same for every base.
    """
    return [-float(len(_PIECE.findall(response))) for response in responses]


def conciseness(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Minus the number of tokens, EOS not counted.

    By the embedded model's tokenizer whatever the base, so that one yardstick measures all; for
    that model it is the number it emitted, but for the rare text that it would split otherwise.

    Raises:
        NotFetchedError: the embedded model, which brings the tokenizer, is not on this machine.
    """
    if not responses:
        return []
    ids = _tokenizer()(list(responses), add_special_tokens=False)["input_ids"]
    return [-float(len(row)) for row in ids]


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path_of("smollm2"))
