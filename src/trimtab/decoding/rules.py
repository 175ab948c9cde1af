"""Rules: how log pi_ref and a guide's scores become logits. Pure, one formula each.

Legend: B rows, N outcomes (the candidates, and the tail where it is one).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def tilt(
    logprobs: Float[Tensor, "B N"],
    scores: Float[Tensor, "B N"],
    beta: float | Float[Tensor, "B 1"],
) -> Float[Tensor, "B N"]:
    """log pi(v | s) = log pi_ref(v | s) + beta * score(s + v) + const.

    The closed-form solution of KL-regularised reward maximisation, with 1/beta the weight of the
    KL term. Written as w r in ARGS (Eq. 1 of its code), lambda log P(a) in FUDGE, beta V in VAS
    (Eq. 5), beta r_partial in PARGS, alpha log p_arm in GenARM. RAD adds beta rho to raw logits,
    which differ from log-probabilities by a constant per row: the same law. At beta = 0 it is the
    base itself, the very tensor.
    """
    if not isinstance(beta, Tensor) and beta == 0:
        return logprobs
    return logprobs + beta * scores


def score_only(
    logprobs: Float[Tensor, "B N"],
    scores: Float[Tensor, "B N"],
    beta: float | Float[Tensor, "B 1"],
) -> Float[Tensor, "B N"]:
    """logit(v) = score(s + v): for candidates that were drawn from pi_ref already.

    Best-of-n and blockwise CD choose among samples, so pi_ref has had its say. A candidate at
    -inf stays there, and beta has no part in an argmax over scores.
    """
    return torch.where(torch.isneginf(logprobs), logprobs, scores)
