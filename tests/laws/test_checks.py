"""`check_rule` and `check_method`: ours hold every law, and each fault is caught by its law."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import trimtab as tt
from tests.laws.test_methods import EVERY
from trimtab.decoding.methods import Greedy, Stochastic, score_only, tilt
from trimtab.errors import LawError
from trimtab.rng import Rng
from trimtab.testing import check_method, check_rule


def test_our_rules_hold_their_laws() -> None:
    check_rule(tilt, tilts=True)
    check_rule(score_only)
    with pytest.raises(LawError, match="strength zero is the base"):
        check_rule(score_only, tilts=True)


@pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)
def test_our_methods_hold_their_laws(method: tt.Method) -> None:
    check_method(method, tilts=method.rule is tilt)


# --- rules that are wrong ------------------------------------------------------------------------


class Remembers:
    """Its second call is not its first."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def __call__(self, p: Tensor, s: Tensor, b: Any) -> Tensor:
        shift = 0.0 if self.last is None or self.last.shape != p.shape else self.last[:, :1] * s
        self.last = s.clone()
        return p + b * s + shift


def in_place(p: Tensor, s: Tensor, b: Any) -> Tensor:
    return p.add_(b * s)


def scores_in_place(p: Tensor, s: Tensor, b: Any) -> Tensor:
    return p + s.mul_(b)


def revives(p: Tensor, s: Tensor, b: Any) -> Tensor:
    return p.clamp(min=-30) + b * s


def by_place(p: Tensor, s: Tensor, b: Any) -> Tensor:
    return p + b * s * torch.arange(p.shape[1])


RULES: dict[str, tuple[Callable[..., Any], str]] = {
    "NaN": (lambda p, s, b: p + b * s * torch.nan, "logits are numbers"),
    "+inf": (lambda p, s, b: torch.where(s > 0.5, torch.inf, p), "logits are numbers"),
    "one column": (lambda p, s, b: p[:, :1], "logits are numbers"),
    "a list": (lambda p, s, b: p.tolist(), "logits are numbers"),
    "ids": (lambda p, s, b: p.argsort(), "logits are numbers"),
    "nothing left": (lambda p, s, b: torch.full_like(p, -torch.inf), "logits are numbers"),
    "a float only": (lambda p, s, b: p + s.T * b if isinstance(b, Tensor) else p + b * s, ""),
    "revives": (revives, "what the base excludes"),
    "score alone": (lambda p, s, b: b * s, "what the base excludes"),
    "by place": (by_place, "the order of outcomes"),
    "first wins": (lambda p, s, b: p + b * s.cummax(-1).values, "the order of outcomes"),
    "mixes rows": (lambda p, s, b: p + b * (s - s.mean(0)), "a row decides for itself"),
    "one strength for all": (
        lambda p, s, b: p + (b if isinstance(b, float) else b.mean()) * s,
        "a row decides for itself",
    ),
    "in place": (in_place, "nothing is changed in place"),
    "scores in place": (scores_in_place, "nothing is changed in place"),
    "remembers": (Remembers(), ""),
}
TILTS: dict[str, tuple[Callable[..., Any], str]] = {
    "no zero": (lambda p, s, b: p + (b + 1) * s, "strength zero is the base"),
    "sharpens": (lambda p, s, b: 2 * p + b * s, "strength zero is the base"),
    "scales": (lambda p, s, b: p * (1 + b * s.abs()), "a constant score"),
    "upside down": (lambda p, s, b: p - b * s, "a better score"),
}


@pytest.mark.parametrize("what", RULES)
def test_each_fault_of_a_rule_is_caught(what: str) -> None:
    rule, law = RULES[what]
    with pytest.raises((LawError, RuntimeError)) as caught:
        check_rule(rule)
    assert law in str(caught.value)


@pytest.mark.parametrize("what", TILTS)
def test_each_fault_of_a_tilt_is_caught(what: str) -> None:
    rule, law = TILTS[what]
    check_rule(rule)
    with pytest.raises(LawError) as caught:
        check_rule(rule, tilts=True)
    assert law in str(caught.value)


# --- samplers that are wrong ----------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong(Stochastic):
    """A sampler with one part replaced."""

    made: Callable[[Tensor], Tensor] | None = None
    drawn: Callable[[Tensor, Rng], Tensor] | None = None
    says_greedy: bool = False
    says_plain: bool | None = None

    @property
    def greedy(self) -> bool:
        return self.says_greedy

    @property
    def plain(self) -> bool:
        return super().plain if self.says_plain is None else self.says_plain

    def logprobs(self, logits: Tensor) -> Tensor:
        return super().logprobs(logits) if self.made is None else self.made(logits)

    def choose(self, law: Tensor, rng: Rng) -> Tensor:
        return super().choose(law, rng) if self.drawn is None else self.drawn(law, rng)


def uniform(law: Tensor, rng: Rng) -> Tensor:
    alive = (law > -torch.inf).float().log()
    return Stochastic().choose(alive.log_softmax(-1), rng)


def normalised_over_all(logits: Tensor) -> Tensor:
    return logits - logits.flatten().logsumexp(0)


def spoils(logits: Tensor) -> Tensor:
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def stateful(law: Tensor, rng: Rng) -> Tensor:
    return Stochastic().choose(law, replace(rng, keys=rng.keys.flip(0)))


SAMPLERS: dict[str, tuple[Wrong, str]] = {
    "logits for a law": (Wrong(made=lambda x: x), "laws are normalised"),
    "normalised over the batch": (Wrong(made=normalised_over_all), "laws are normalised"),
    "revives": (Wrong(made=lambda x: x.clamp(min=-9).log_softmax(-1)), "laws are normalised"),
    "NaN": (Wrong(made=lambda x: x * torch.nan), "laws are normalised"),
    "out of range": (Wrong(drawn=lambda p, r: torch.full((len(p),), 99)), "choices have a chance"),
    "the least likely": (Wrong(drawn=lambda p, r: p.argmin(-1)), "choices have a chance"),
    "a column": (Wrong(drawn=lambda p, r: p.argmax(-1, True)), "choices have a chance"),
    "int32": (Wrong(drawn=lambda p, r: p.argmax(-1).int()), "choices have a chance"),
    "uniform": (Wrong(drawn=uniform), "choices follow the law"),
    "the best of its law": (Wrong(drawn=lambda p, r: p.argmax(-1)), "choices follow the law"),
    "greedy in secret": (Wrong(made=Greedy().logprobs), "greedy says what it does"),
    "greedy in name": (Wrong(says_greedy=True), "greedy says what it does"),
    "plain in name": (Wrong(temperature=0.5, says_plain=True), "plain says what it does"),
    "by place": (
        Wrong(made=lambda x: (x + torch.arange(x.shape[1])).log_softmax(-1), says_plain=False),
        "laws move with their outcomes",
    ),
    "of the batch": (
        Wrong(made=lambda x: (x * len(x)).log_softmax(-1), says_plain=False),
        "rows decide for themselves",
    ),
    "by another's address": (Wrong(drawn=stateful), "rows decide for themselves"),
    "in place": (Wrong(made=spoils), "a sampler changes nothing in place"),
}


@pytest.mark.parametrize("what", SAMPLERS)
def test_each_fault_of_a_sampler_is_caught(what: str) -> None:
    sampler, law = SAMPLERS[what]
    with pytest.raises(LawError) as caught:
        check_method(tt.Method("mine", tt.TopK(4), tilt, sampler, 1.0))
    assert law in str(caught.value)
    assert "method 'mine'" in str(caught.value)


def test_a_method_is_held_to_its_rule() -> None:
    with pytest.raises(LawError, match="rule 'revives'"):
        check_method(tt.Method("mine", tt.TopK(4), revives, Stochastic(), 1.0))
    with pytest.raises(LawError, match="strength zero"):
        check_method(
            tt.Method("mine", tt.Vocabulary(), TILTS["no zero"][0], Stochastic()), tilts=True
        )
