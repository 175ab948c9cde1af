"""How long a response is, or how short.

`length` and `words` rise with the length, `conciseness` and `brevity` are their negatives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from trimtab.assets import path_of
from trimtab.locks import lock_of
from trimtab.types import Sample

_PIECE = re.compile(r"\w+|[^\w\s]")


def words(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of words and punctuation marks, which is near that of tokens; 0 or more.

    Counted in the text and not by a tokenizer, so that it means the same for every base.
    """
    return [float(len(_PIECE.findall(response))) for response in responses]


def brevity(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Minus the number of words and punctuation marks; see `words`."""
    return [-count for count in words(samples, responses)]


def length(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """The number of tokens, EOS not counted; 0 or more.

    By the embedded model's tokenizer whatever the base, so that one yardstick measures all; for
    that model it is the number it emitted, but for the rare text that it would split otherwise.

    Raises:
        NotFetchedError: the embedded model, which brings the tokenizer, is not on this machine.
    """
    if not responses:
        return []
    tokenizer = _tokenizer()
    with lock_of(tokenizer):
        ids = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    return [float(len(row)) for row in ids]


def conciseness(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """Minus the number of tokens; see `length`.

    Raises:
        NotFetchedError: the embedded model, which brings the tokenizer, is not on this machine.
    """
    return [-count for count in length(samples, responses)]


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path_of("smollm2"))
