"""The laws of a single step, held on every step that any test in this process decodes.

Whatever model, guide and method: pi is a law over its outcomes, no choice is likelier than
certain, and no divergence is negative. Bounds are those of float32 sums.

Legend: B rows, N outcomes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from trimtab.decoding import loop
from trimtab.decoding.step import BatchStep, Policy
from trimtab.types import Samples

ROUNDING = 1e-5
"""Error of one float32 log-probability, in nats."""

SUMS = 5e-5
"""Error of the sum of a float32 law over a vocabulary: over 49,152 tokens 1.1e-5 is seen."""


_counting = threading.Event()


@contextmanager
def unwatched() -> Iterator[None]:
    """For tests that count the operations of a step: none of these are the library's."""
    _counting.set()
    try:
        yield
    finally:
        _counting.clear()


@contextmanager
def watched() -> Iterator[None]:
    """Holds each step of the loop to `check_step`, on the law that it chose by."""
    choose_step = loop.choose_step

    def choose(lm: Any, base: Any, method: Any, policy: Policy, *rest: Any) -> BatchStep:
        step = choose_step(lm, base, method, policy, *rest)
        if not _counting.is_set():
            check_step(method, step, policy.logprobs, policy.reference)
        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "choose_step", choose)
        yield


def check_step(method: Any, taken: BatchStep, law: Tensor, reference: Tensor) -> None:
    """Every row whose numbers are numbers; the loop raises an error for the others."""
    sound = torch.isfinite(taken.logprob) & torch.isfinite(taken.ref_logprob)
    law, reference = law[sound].double(), reference[sound].double()
    if not len(law):
        return
    where = f"a step of {method.name!r}"
    total = law.logsumexp(-1)
    assert total.abs().max() <= SUMS, f"pi of {where} sums to exp({total.tolist()})"
    assert law.max() <= ROUNDING, f"log pi of {where} is {float(law.max())}"
    for name in ("logprob", "ref_logprob"):
        most = float(getattr(taken, name)[sound].max())
        assert most <= ROUNDING, f"the {name} of {where} is {most}"
    if isinstance(method.proposal, Samples):
        return  # drawn blocks: their law is one over draws, with no divergence in closed form
    mass = reference.logsumexp(-1)
    assert mass.max() <= SUMS, f"pi_ref of {where} sums to exp({mass.tolist()})"
    if method.lossless:
        assert mass.min() >= -SUMS, f"{where} has lost mass: {mass.tolist()}"
    terms = torch.where(torch.isneginf(law), 0.0, law.exp() * (law - reference))
    kl = taken.kl[sound].double()
    assert (kl >= 0).all(), f"the divergence of {where} is {kl.tolist()}"
    torch.testing.assert_close(kl, terms.sum(-1), rtol=1e-4, atol=SUMS)
