"""The decode loop and its parts: rules, samplers, methods. Knows no particular model or guide.

    done = decode(lm, guide, vas(beta=2.0), prompts)                   responses
    for step in decode_steps(lm, guide, vas(beta=2.0), prompts): ...   token by token
    mine = Method("mine", TopK(50), tilt, Stochastic(top_p=0.9), beta=3.0)
    scores = prefix_scores(guide, lm, prompts, responses, at)          of given tokens

`loop.run` is the loop: propose, score, tilt, choose, extend. `step` holds what the device does in
one turn, `rows` what the host does; `checks` says what a call must hold to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.decoding.forced import prefix_scores
    from trimtab.decoding.loop import completion, decode, decode_steps, draw_blocks
    from trimtab.decoding.methods import (
        METHODS,
        Greedy,
        Method,
        Stochastic,
        method,
        nucleus,
        score_only,
        tilt,
    )

__all__ = [
    "METHODS",
    "Greedy",
    "Method",
    "Stochastic",
    "completion",
    "decode",
    "decode_steps",
    "draw_blocks",
    "method",
    "nucleus",
    "prefix_scores",
    "score_only",
    "tilt",
]
__getattr__, __dir__ = door(__name__)
