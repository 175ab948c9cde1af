"""How short a response is."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PIECE = re.compile(r"\w+|[^\w\s]")


def brevity(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Minus the number of words and punctuation marks, which is near that of tokens.

    Counted in the text and not by a tokenizer, so that it means the same for every base.
    """
    return [-float(len(_PIECE.findall(response))) for response in responses]
