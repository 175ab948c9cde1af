"""Things that differ in one hidden place, by its name; `python -m tests.runs.pairs` prints
the fingerprints of all first ones, so that another process can be compared with this one.
"""

from __future__ import annotations

import collections
import enum
import functools
import json
import operator
import random
import re
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

import trimtab as tt
from tests import toys
from trimtab import rewards
from trimtab.guides import Clamp, Transform
from trimtab.rewards import as_reward
from trimtab.runs.fingerprint import fingerprint

Build = Callable[[int], object]
"""0 or 1 to a thing; the two differ in one place, and either can be made again."""


def at_most(limit: object) -> Callable[..., Any]:
    def score(samples: Any, responses: Any) -> list[float]:
        return [float(len(r) <= limit) for r in responses]

    return score


def holding(value: object) -> Callable[..., Any]:
    return lambda samples, responses: [value for _ in responses]


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def both(*args: Any) -> Any:
        return function(*args) * 2

    return both


class Bonus:
    """State in the usual place."""

    def __init__(self, letter: object) -> None:
        self.letter = letter

    def score(self, samples: Any, responses: Any) -> list[float]:
        return [float(r.count(self.letter)) for r in responses]


class Slotted:
    __slots__ = ("letter",)

    def __init__(self, letter: object) -> None:
        self.letter = letter

    def __call__(self, samples: Any, responses: Any) -> list[float]:
        return [float(r.count(self.letter)) for r in responses]


class Locked(Bonus):
    """Locks and waiters say nothing of what a thing does."""

    def __init__(self, letter: object) -> None:
        super().__init__(letter)
        self.lock, self.ready = threading.Lock(), threading.Condition()


@dataclass(frozen=True)
class Frozen:
    words: tuple[str, ...]
    inner: dict[str, Any] = field(default_factory=dict)

    def __call__(self, samples: Any, responses: Any) -> list[float]:
        return [0.0 for _ in responses]


class Words(dict[str, float]):
    """A container of one's own with state beside its content."""

    unit = 1.0


class Net(nn.Module):
    def __init__(self, i: int, where: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3))
        self.register_buffer("scale", torch.ones(2), persistent=False)
        self.power = 1
        if where == "weight":
            self.weight.data[2, 1] = i
        elif where == "buffer":
            self.scale[1] = 1 + i
        else:
            self.power = 1 + i


class Scaled(Transform):
    """A transform whose factor hides in its class."""

    factor = 1.0

    def transform(self, scores: Tensor) -> Tensor:
        return scores * self.factor


class Doubled(Scaled):
    factor = 2.0


class Cooled:
    """A sampler, with state of its own."""

    greedy, plain = False, False

    def __init__(self, heat: float) -> None:
        self.heat = heat

    def logprobs(self, logits: Tensor) -> Tensor:
        return (logits / self.heat).log_softmax(-1)

    def choose(self, law: Tensor, rng: Any) -> Tensor:
        return law.argmax(-1)


class Mood(enum.Enum):
    GOOD = 1
    BAD = 2


def _klass(limit: int) -> type:
    class Made:
        def __call__(self, samples: Any, responses: Any) -> list[float]:
            return [float(limit) for _ in responses]

    return Made


def _attribute(i: int) -> type:
    return type("Made", (Frozen,), {"limit": i, "__module__": __name__})


LIMIT = 0


def reads_a_global(samples: Any, responses: Any) -> list[float]:
    return [float(LIMIT) for _ in responses]


def asks_a_helper(samples: Any, responses: Any) -> list[float]:
    return reads_a_global(samples, responses)


def _with_global(function: object) -> Build:
    def build(i: int) -> object:
        globals()["LIMIT"] = i
        return function

    return build


def _marked(i: int) -> Callable[..., Any]:
    score = holding(0)
    score.weight = i  # type: ignore[attr-defined]
    return score


def _defaults(i: int) -> Callable[..., Any]:
    def score(samples: Any, responses: Any, low: int = i) -> list[float]:
        return [float(low) for _ in responses]

    return score


def _named_defaults(i: int) -> Callable[..., Any]:
    def score(samples: Any, responses: Any, *, low: int = i) -> list[float]:
        return [float(low) for _ in responses]

    return score


def _recursive(i: int) -> Callable[..., Any]:
    def count(n: int) -> int:
        return i if n == 0 else count(n - 1)

    return count


def _typed(i: int) -> Callable[..., Any]:
    scope: dict[str, Any] = {}
    exec(f"def score(samples, responses): return [{i}.0 for _ in responses]", scope)
    function: Callable[..., Any] = scope["score"]
    return function


def _array(i: int) -> np.ndarray:
    return np.arange(1000.0) + i * (np.arange(1000) == 531)


def _tensor(i: int) -> Tensor:
    return torch.arange(1000, dtype=torch.bfloat16) * (1 + i * (torch.arange(1000) == 99))


def _guide(i: int, where: str) -> object:
    lm = tt.TableLM(size=4, seed=3)
    if where == "prompt":
        return tt.TextGuide(holding(0), lm.decode, prompt=holding(i))
    return tt.TextGuide(holding(i), lm.decode)


def _value(i: int) -> object:
    guide = toys.value_guide()
    cast("Any", guide.head).linear.weight.data[0, 5] += i
    return guide


# --- files ---------------------------------------------------------------------------------------


@contextmanager
def _fresh_imports() -> Iterator[None]:
    """Modules and places of modules as they were before."""
    path, loaded = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - loaded:
        if name.startswith("pair_"):
            del sys.modules[name]


def _files(**texts: str) -> Build:
    """A reward `pair_main.py:score` with the modules beside it; `@` stands for the digit."""

    def build(i: int) -> object:
        with tempfile.TemporaryDirectory() as folder, _fresh_imports():
            for name, text in texts.items():
                path = Path(folder, *f"pair_{name}".split("__")).with_suffix(".py")
                path.parent.mkdir(exist_ok=True)
                path.write_text(textwrap.dedent(text).replace("@", str(i)))
            return fingerprint(rewards.find(f"python:{folder}/pair_main.py:score")).value

    return build


PLAIN = "def score(prompts, texts): return [float(one(text)) for text in texts]\n"
ONE = "def one(text): return len(text) + @\n"

PAIRS: dict[str, Build] = {
    "a closure's number": at_most,
    "a closure's type: 1 and True": lambda i: holding([1, True][i]),
    "a closure's type: 1 and 1.0": lambda i: holding([1, 1.0][i]),
    "a closure's sign of zero": lambda i: holding([0.0, -0.0][i]),
    "a closure's list and tuple": lambda i: holding([[1], (1,)][i]),
    "a closure's order of a list": lambda i: holding([["a", "b"], ["b", "a"]][i]),
    "a closure's nested value": lambda i: holding({"a": [{"b": (1, {2, i})}]}),
    "a closure's key": lambda i: holding({("a", i): 0}),
    "a closure's set": lambda i: holding({"ab", "cd", "ef", ("g", i)}),
    "a closure's split of a text": lambda i: holding([["ab", "c"], ["a", "bc"]][i]),
    "a closure's bytes": lambda i: holding(bytes([0, i])),
    "a closure's array": lambda i: holding(_array(i)),
    "a closure's array's type": lambda i: holding(np.zeros(2, [np.int32, np.float32][i])),
    "a closure's array of objects": lambda i: holding(np.array([{"a": i}, None])),
    "a closure's tensor": lambda i: holding(_tensor(i)),
    "a closure's tensor's shape": lambda i: holding(torch.zeros([(2, 3), (3, 2)][i])),
    "a closure's function": lambda i: holding(at_most(i)),
    "a closure's object": lambda i: holding(Bonus(i)),
    "a closure's class": lambda i: holding(_klass(i)),
    "a closure's enumeration": lambda i: holding([Mood.GOOD, Mood.BAD][i]),
    "a closure that knows itself": _recursive,
    "a closure's random numbers": lambda i: holding(random.Random(i)),
    "a closure's numpy's random numbers": lambda i: holding(np.random.default_rng(i)),
    "a closure's pattern": lambda i: holding(re.compile("a+", [0, re.IGNORECASE][i])),
    "a closure's counter": lambda i: holding(collections.Counter(a=1 + i)),
    "a closure's deque": lambda i: holding(collections.deque([1], maxlen=2 + i)),
    "a closure's default": lambda i: holding(collections.defaultdict([int, float][i])),
    "a closure's namespace": lambda i: holding(SimpleNamespace(a=SimpleNamespace(b=i))),
    "a closure's path": lambda i: holding(Path("a", str(i))),
    "a closure's bound builtin": lambda i: holding({"a": i}.get),
    "a closure's operator": lambda i: holding(operator.itemgetter(i)),
    "a closure's words of one's own": lambda i: holding(Words(a=i)),
    "a default": _defaults,
    "a named default": _named_defaults,
    "an attribute of a function": _marked,
    "a global": _with_global(reads_a_global),
    "a global of a helper": _with_global(asks_a_helper),
    "two lambdas of a line": lambda i: [lambda s, r: [1.0], lambda s, r: [2.0]][i],
    "a constant of code that was typed": _typed,
    "a constant of a nested function": lambda i: [
        lambda s, r: sorted(r, key=lambda x: len(x) + 1),
        lambda s, r: sorted(r, key=lambda x: len(x) + 2),
    ][i],
    "what is called": lambda i: [
        lambda s, r: [max(x) for x in r],
        lambda s, r: [min(x) for x in r],
    ][i],
    "a decorated function": lambda i: twice(at_most(i)),
    "a cached function": lambda i: functools.cache(at_most(i)),
    "a partial's argument": lambda i: functools.partial(operator.add, i),
    "a partial's keyword": lambda i: functools.partial(at_most, limit=i),
    "a partial's function": lambda i: functools.partial([min, max][i], default=0),
    "an object's state": lambda i: Bonus("ab"[i]),
    "a bound method's object": lambda i: Bonus("ab"[i]).score,
    "a slot": lambda i: Slotted("ab"[i]),
    "a bound method's slot": lambda i: Slotted("ab"[i]).__call__,
    "an object with locks": lambda i: Locked("ab"[i]),
    "a frozen dataclass": lambda i: Frozen(("a", "ab"[i])),
    "a field that is not shown": lambda i: Frozen((), {"deep": [i]}),
    "a subclass": lambda i: [Scaled, Doubled][i](toys.TableGuide()),
    "a class that was made": lambda i: _klass(i)(),
    "a class attribute": lambda i: _attribute(i)(()),
    "a network's weight": lambda i: Net(i, "weight"),
    "a network's buffer": lambda i: Net(i, "buffer"),
    "a network's attribute": lambda i: Net(i, "power"),
    "a function of texts": lambda i: as_reward(lambda prompts, texts: [i for _ in texts]),
    "a sum's weight": lambda i: rewards.find(f"0.{i + 1}*words - 0.01*length"),
    "a sum's term": lambda i: rewards.find(f"0.5*words - {['length', 'brevity'][i]}"),
    "a file's constant": _files(main=PLAIN + ONE),
    "a file's comment": _files(main=PLAIN + "def one(text): return 0  # @\n"),
    "a file's value that differs with equal text": _files(
        main=PLAIN + "import random\nrandom.seed()\nX = random.random()\ndef one(text): return X\n"
    ),
    "a helper's constant": _files(main="from pair_helper import one\n" + PLAIN, helper=ONE),
    "a helper as a module": _files(
        main="""
        import pair_helper
        def score(prompts, texts): return [pair_helper.one(text) for text in texts]
        """,
        helper=ONE,
    ),
    "a helper that is imported late": _files(
        main="""
        def score(prompts, texts):
            from pair_helper import one
            return [one(text) for text in texts]
        """,
        helper=ONE,
    ),
    "a helper's helper": _files(
        main="from pair_helper import one\n" + PLAIN,
        helper="import pair_deeper\ndef one(text): return pair_deeper.one(text)\n",
        deeper=ONE,
    ),
    "a helper in a package": _files(
        main="from pair_kit.inner import one\n" + PLAIN,
        kit____init__="",
        kit__inner="from . import words\ndef one(text): return words.one(text)\n",
        kit__words=ONE,
    ),
    "a guide's function": lambda i: _guide(i, "function"),
    "a guide's view of the prompt": lambda i: _guide(i, "prompt"),
    "a guide's transform": lambda i: Clamp(toys.TableGuide(), 0.0, 1.0 + i),
    "a guide's weight": lambda i: tt.WeightedSum([(1.0 + i, toys.TableGuide())]),
    "a guide's part": lambda i: tt.WeightedSum([(1.0, toys.TableGuide(seed=i))]),
    "a guide's head": _value,
    "a guide's seed": lambda i: toys.TableGuide(seed=i),
    "a rule": lambda i: replace(tt.cd(), rule=holding(i)),
    "what samples": lambda i: replace(tt.cd(), sampler=Cooled(1.0 + i)),
    "a table of laws": lambda i: tt.TableLM(size=4, spread=1.0 + i),
}
"""By the place in which they differ."""


def first_fingerprints() -> dict[str, str]:
    """Those of all first things, but of what is drawn anew each time."""
    return {
        name: fingerprint(build(0)).value for name, build in PAIRS.items() if "equal" not in name
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(first_fingerprints()))
