"""Calls that a type checker would refuse, as users make them: each is one clear line.

Run by `tests/test_doors.py` in a process of its own, where no import hook checks annotations.
Prints what came out otherwise.

    python -m tests.wrong_types
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch

import trimtab as tt
from tests import toys
from trimtab.errors import GuideError, LawError, PromptError, UsageError
from trimtab.evaluation.experiment import evaluate
from trimtab.guides import Clamp, LogSigmoid
from trimtab.integrations.transformers import GuidedLogitsProcessor

LM: Any = tt.TableLM(5)
GUIDE: Any = toys.TableGuide()


def decode(**given: Any) -> Any:
    """A call that is right but for what is given."""
    parts = {"lm": LM, "guide": GUIDE, "method": tt.cd(k=3), "prompts": ["ab", "c"]}
    options = {name: value for name, value in given.items() if name not in parts}
    taken = [given.get(name, value) for name, value in parts.items()]
    return tt.decode(*taken, **{"max_new_tokens": 3, **options})


def ruled(rule: Any, **options: Any) -> Any:
    """A decode with a rule of one's own."""
    return decode(method=tt.Method("mine", tt.TopK(3), rule, tt.cd().sampler, 1.0), **options)


def evaluated(methods: Any) -> Any:
    """An evaluation that is right but for its methods."""
    from tests.evaluation import worlds

    with tempfile.TemporaryDirectory() as folder:
        return evaluate(worlds.model(), worlds.Letters(), methods, folder)


class Says(toys.TableGuide):
    """A guide whose score is what a function makes of the right one."""

    def __init__(self, say: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.say = say

    def score(self, state: Any, candidates: Any) -> Any:
        return self.say(super().score(state, candidates))


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no seed": (lambda: decode(seed=None), UsageError, "seed must be a whole number; got None"),
    "half a seed": (lambda: decode(seed=1.5), UsageError, "seed must be a whole number; got 1.5"),
    "a float of samples": (lambda: decode(n=2.0), UsageError, "n must be a whole number; got 2.0"),
    "no samples": (lambda: decode(n=0), UsageError, "n must be at least 1"),
    "half a token": (lambda: decode(max_new_tokens=2.5), UsageError, "max_new_tokens must be a"),
    "a text of tokens": (lambda: decode(max_new_tokens="9"), UsageError, "got '9'"),
    "behind the device": (lambda: decode(lookahead=-1), UsageError, "lookahead must be at least 0"),
    "negative alternatives": (
        lambda: decode(alternatives=-1),
        UsageError,
        "alternatives must be at least 0; got -1",
    ),
    "half an alternative": (lambda: decode(alternatives=0.5), UsageError, "whole number"),
    "half a candidate": (lambda: tt.vas(k=2.5), UsageError, "k must be a whole number; got 2.5"),
    "half a block": (lambda: tt.cd_blockwise(2, 1.5), UsageError, "length must be a whole number"),
    "half a top_k": (lambda: tt.sampling(top_k=2.5), UsageError, "top_k must be a whole number"),
    "a strength of words": (lambda: tt.vas(beta="strong"), UsageError, "got 'strong'"),
    "a strength that is none": (lambda: tt.vas(beta=None), UsageError, "beta must be a finite"),
    "a method's NaN": (lambda: tt.vas(beta=float("nan")), UsageError, "beta must be a finite"),
    "a method's inf": (lambda: tt.cd(float("inf")), UsageError, "beta must be a finite number"),
    "a call's NaN": (lambda: decode(beta=float("nan")), UsageError, "beta must be finite"),
    "a call's words": (lambda: decode(beta="strong"), UsageError, "beta must be one number"),
    "beyond float32": (lambda: decode(beta=1e300), UsageError, "finite, also in float32"),
    "temperature of NaN": (lambda: tt.pargs(temperature=float("nan")), UsageError, "temperature"),
    "temperature of inf": (lambda: tt.pargs(temperature=float("inf")), UsageError, "temperature"),
    "base of infinite temperature": (
        lambda: toys.language_model(base_temperature=float("inf")),
        UsageError,
        "base_temperature must be above 0 and finite",
    ),
    "clamp to NaN": (lambda: Clamp(GUIDE, float("nan"), 1.0), UsageError, "must be numbers"),
    "a method by name": (lambda: decode(method="vas"), UsageError, 'tt.method("vas") or tt.vas()'),
    "a method by half a name": (lambda: decode(method="va"), UsageError, 'tt.method("vas")'),
    "a method that was not called": (lambda: decode(method=tt.cd), UsageError, "must be a Method"),
    "guide and method swapped": (
        lambda: decode(guide=tt.cd(k=3), method=GUIDE),
        UsageError,
        "after base and guide",
    ),
    "base and guide swapped": (
        lambda: decode(lm=GUIDE, guide=LM),
        UsageError,
        "pass the base first, then the guide",
    ),
    "methods by a misspelt name, measured": (
        lambda: evaluated(["samplin"]),
        UsageError,
        "did you mean sampling",
    ),
    "a base by name": (lambda: decode(lm="smollm2"), UsageError, "TransformersLM(name)"),
    "a guide that is a function": (lambda: decode(guide=len), UsageError, "must be a guide"),
    "a guide that is a method": (lambda: decode(guide=tt.cd()), UsageError, "must be a guide"),
    "a processor of a name": (
        lambda: GuidedLogitsProcessor(GUIDE, "vas"),
        UsageError,
        'tt.method("vas") or tt.vas()',
    ),
    "a processor of NaN": (
        lambda: GuidedLogitsProcessor(GUIDE, tt.cd(), beta=float("nan")),
        UsageError,
        "beta must be finite",
    ),
    "one message": (
        lambda: decode(prompts={"role": "user", "content": "a"}),
        UsageError,
        "got a single one",
    ),
    "one prompt": (lambda: decode(prompts=tt.Prompt((1,))), UsageError, "got a single one"),
    "bytes": (lambda: decode(prompts=b"ab"), UsageError, "got a single one"),
    "no prompts": (lambda: decode(prompts=None), UsageError, "got NoneType"),
    "bare ids": (lambda: decode(prompts=[3]), PromptError, "pass Prompt(ids) for token ids"),
    "lists that are no messages": (
        lambda: toys.language_model().encode(cast("Any", ["w5", "w6"])),
        PromptError,
        "a message must be",
    ),
    "ids beyond the vocabulary": (
        lambda: decode(prompts=["ab", tt.Prompt((1, 99))]),
        PromptError,
        "the ids of prompt 1 must be from 0 to 4",
    ),
    "negative ids": (lambda: decode(prompts=[tt.Prompt((1, -3))]), PromptError, "got -3"),
    "a stop that is no text": (lambda: decode(stop=[5]), UsageError, "got 5"),
    "scores in a list": (
        lambda: decode(guide=Says(torch.Tensor.tolist)),
        GuideError,
        "shape [B, K] = [2, 3]; got list",
    ),
    "complex scores": (
        lambda: decode(guide=Says(lambda s: s.to(torch.complex64))),
        GuideError,
        "complex64",
    ),
    "a rule of NaN": (lambda: ruled(lambda p, s, b: p * torch.nan), LawError, "finite numbers"),
    "a rule that wakes the dead": (
        lambda: ruled(
            lambda p, s, b: torch.where(torch.isneginf(p), 9.0, p),
            lm=toys.language_model(base_top_p=0.01),
            prompts=toys.prompts(4),
        ),
        LawError,
        "no chance for what the base gives none",
    ),
    "a rule of one column": (lambda: ruled(lambda p, s, b: p[:, :1]), LawError, "[B, N] = [2, 3]"),
    "a rule of lists": (lambda: ruled(lambda p, s, b: p.tolist()), LawError, "got list"),
}

RIGHT: dict[str, Callable[[], Any]] = {
    "numpy's float": lambda: decode(beta=np.float32(2.0)),
    "numpy's array": lambda: decode(beta=np.array([2.0, 2.0])),
    "a tensor of one number": lambda: decode(beta=torch.tensor(2.0)),
    "an int": lambda: decode(beta=2),
    "a list of ints": lambda: decode(beta=[2, 2]),
    "a tensor of ints": lambda: decode(beta=torch.tensor([2, 2])),
    "a method's numpy": lambda: decode(method=tt.cd(np.float32(2.0), k=np.int64(3))),
    "a method's tensor": lambda: decode(method=tt.cd(torch.tensor(2.0), k=torch.tensor(3))),
    "numpy's ints": lambda: decode(beta=2.0, seed=np.int64(0), max_new_tokens=np.int32(3)),
    "prompts of lists": lambda: decode(beta=2.0, prompts=[tt.Prompt([1, 2]), tt.Prompt([3])]),
    "prompts of tensors": lambda: decode(
        beta=2.0, prompts=[tt.Prompt(torch.tensor([1, 2])), tt.Prompt(torch.tensor([3]))]
    ),
}
"""Each is the same call as `decode(beta=2.0)`."""


def counted(scores: torch.Tensor) -> torch.Tensor:
    """Whole numbers."""
    return (scores * 3).long()


def scored() -> list[tuple[str, Sequence[Any], Sequence[Any]]]:
    """Calls with whole-number scores, beside those with the same as floats."""
    ints, floats = Says(counted), Says(lambda s: counted(s).double())
    wraps: dict[str, Callable[[Any], Any]] = {
        "plain": lambda g: g,
        "sum": lambda g: tt.WeightedSum([(0.5, g)]),
        "log-sigmoid": LogSigmoid,
        "clamp": lambda g: Clamp(g, 0.0, 2.0),
        "center": tt.Center,
    }
    methods = (tt.cd(1.0, k=3), tt.args(1.0, k=3), tt.vas(1.0, k=3), tt.best_of_n(2))
    return [
        (f"whole scores, {name}, {method.name}", decode(guide=wrap(ints), method=method),
         decode(guide=wrap(floats), method=method))
        for name, wrap in wraps.items()
        for method in methods
    ]  # fmt: skip


def main() -> None:
    """Print every call that ends otherwise than it should."""
    for name, (call, kind, says) in REFUSED.items():
        try:
            call()
        except kind as error:
            if says not in str(error) or "\n" in str(error):
                print(f"{name}: {error}")
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
        else:
            print(f"{name}: runs")
    want = [done.tokens for done in decode(beta=2.0)]
    for name, call in RIGHT.items():
        try:
            got = [done.tokens for done in call()]
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}")
        else:
            if got != want:
                print(f"{name}: {got} for {want}")
    for name, texts, other in scored():
        if [done.tokens for done in texts] != [done.tokens for done in other]:
            print(f"{name}: other tokens")
    print(f"{len(REFUSED) + len(RIGHT)} calls")


if __name__ == "__main__":
    main()
