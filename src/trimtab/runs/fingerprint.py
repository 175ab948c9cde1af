"""One fingerprint for one thing: what a reward, a rule or a guide is made of, the same everywhere.

    fingerprint(f)  =  hash of   code and constants, defaults, closure cells and attributes,
                                 the values of the globals that it reads,
                                 its source file and those that it imports

and of an object its class and its state, all the way down: numbers, texts, containers, arrays and
tensors by content, functions and classes as above, whatever else can be pickled by what it pickles
as. What belongs to an installed package is known by name and version. Nothing depends on addresses,
on the order of sets, or on the process.

What cannot be looked into (an open file, a socket, a generator) has no fingerprint: it gets one
that nothing ever had, so nothing that was kept is taken for its own. Files and servers that a
function reads while it runs are not seen. A thing with a text as its attribute `fingerprint` is
known by that alone.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import hashlib
import json
import sys
import types
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, singledispatch
from operator import attrgetter
from threading import Lock, RLock
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from trimtab.guides import RewardGuide, TextGuide, ValueGuide, VocabularyGuide, WeightedSum
from trimtab.guides.reward import Retokenised
from trimtab.models.classifier import ChatTemplate, PairScorer
from trimtab.models.proposals import TableLM
from trimtab.models.transformers import Codec, TransformersLM
from trimtab.plugins import installed, package_of, source
from trimtab.protocols import LanguageModel
from trimtab.rewards import Sum
from trimtab.rewards.classifier import Classifier
from trimtab.rewards.server import Server
from trimtab.rewards.similarity import SentenceEncoder
from trimtab.runs.identity import digest, identify, plain_config, weights_fingerprint
from trimtab.types import Cost

# --- what of a thing decides what it does --------------------------------------------------------


@singledispatch
def essence(thing: object) -> object:
    """What of an object decides what it does; others of its parts are counters, caches and names.

    Register a function for a class of which not everything does; NotImplemented is everything.
    """
    return NotImplemented


def _own(decode: Callable[..., str]) -> object:
    """A function that decodes ids; None for the base's, which is in the base's identity."""
    base = isinstance(decode, types.MethodType) and isinstance(decode.__self__, LanguageModel)
    return None if base else decode


@essence.register
def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> object:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        how: object = tokenizer.get_vocab()
    else:  # padding and truncation are as its last call left them
        how = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    return [how, tokenizer.chat_template, dict(tokenizer.special_tokens_map)]


_ESSENCES: dict[type, Callable[[Any], object]] = {
    TableLM: lambda lm: identify(lm).identity(),
    TransformersLM: lambda lm: identify(lm).identity(),
    PreTrainedConfig: plain_config,
    PreTrainedModel: lambda net: [plain_config(net.config), weights_fingerprint(net)],
    Codec: attrgetter("tokenizer", "template"),
    ChatTemplate: lambda chat: [chat.tokenizer, chat.template, _own(chat.decode)],
    Sum: lambda total: [[weight for weight, _ in total.terms], total.rewards],
    Server: attrgetter("fingerprint"),  # not its secrets
    Classifier: attrgetter("read"),  # its folder may hold other weights tomorrow
    SentenceEncoder: lambda e: [weights_fingerprint(e.model), repr(e.model)],  # pooling, lengths
    TextGuide: lambda g: [g.function, g.batch_size, g._prompt, _own(g.decode)],
    ValueGuide: attrgetter("backbone", "head"),
    VocabularyGuide: attrgetter("backbone", "head"),
    WeightedSum: attrgetter("weights", "guides"),
    RewardGuide: attrgetter("way", "chat_template", "inner"),
    Retokenised: attrgetter("net", "head", "chat_template"),
    PairScorer: attrgetter("model", "label", "tokenizer"),
}
for _kind, _parts in _ESSENCES.items():
    essence.register(_kind, _parts)


# --- the fingerprint of anything -----------------------------------------------------------------

MOST = 200_000
"""Objects that are looked into before it is given up; numbers and texts are not counted."""


@dataclass(frozen=True)
class Fingerprint:
    """What tells a thing from others: 32 hex digits, never the same twice where it is unknown."""

    value: str
    unknown: str = ""  # in words, what of it cannot be looked into


def fingerprint(thing: object) -> Fingerprint:
    """The fingerprint of a function, an object, or any nest of them.

    >>> def at_most(limit):
    ...     return lambda samples, texts: [float(len(text) <= limit) for text in texts]
    >>> fingerprint(at_most(2)) == fingerprint(at_most(2)), fingerprint(at_most(2)).unknown
    (True, '')
    >>> fingerprint(at_most(2)) == fingerprint(at_most(5))
    False
    """
    given = getattr(thing, "fingerprint", None)
    if isinstance(given, str) and given:
        return Fingerprint(digest(["given", given]))
    walk = _Walk([])
    try:
        value = walk.whole(thing)
    except RecursionError:
        walk.unknown.append("it is nested too deeply to be looked into")
    except _TooLargeError:
        walk.unknown.append(f"it holds more than {MOST:,} objects")
    if walk.unknown:
        return Fingerprint(uuid.uuid4().hex, walk.unknown[0])
    return Fingerprint(value)


class _TooLargeError(Exception):
    """Inside this file: looking on would take too long."""


_PLAIN = (type(None), bool, int, float, complex, type(Ellipsis), type(NotImplemented))
_WEAK = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)
_IDLE = (type(Lock()), type(RLock()), Cost)
"""Things whose state changes nothing: locks, counters of what was read."""

_CALLS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools._lru_cache_wrapper: ("__wrapped__",),
}
"""What calls something else and does not pickle by it, and where it keeps that."""


class _Walk:
    """One look into a thing.

    Functions and classes are numbered as they are met and described once, so they may refer to
    each other; data is described where it stands.
    """

    def __init__(self, kept: list[object]) -> None:
        self.unknown: list[str] = []
        self._kept = kept  # whose ids are remembered must live
        self._source = cache(source)
        self._numbers: dict[int, int] = {}
        self._todo: deque[tuple[Any, tuple[str, ...]]] = deque()
        self._known: dict[int, str] = {}
        self._open: dict[int, int] = {}
        self._where: list[str] = []

    def whole(self, thing: object) -> str:
        """The digest of a thing with all functions and classes that it leads to."""
        found = [self.of(thing)]
        while self._todo:
            code, where = self._todo.popleft()
            self._where = list(where)
            parts = self._class(code) if isinstance(code, type) else self._function(code)
            found.append(digest(parts))
        return digest(found)

    def of(self, x: Any) -> str:
        """A thing in a few letters."""
        kind = type(x)
        if kind is str:
            return f"str {x}"
        if kind is bytes:
            return f"bytes {hashlib.sha256(x).hexdigest()}"
        if kind in _PLAIN:
            return f"{kind.__name__} {x!r}"
        if isinstance(x, type | types.FunctionType):
            return self._reference(x)
        if id(x) in self._known:
            return self._known[id(x)]
        if id(x) in self._open:
            return f"within {len(self._open) - self._open[id(x)]}"
        self._keep(x)
        self._open[id(x)] = len(self._open)
        try:
            self._known[id(x)] = digest(self._parts(x))
        finally:
            del self._open[id(x)]
        return self._known[id(x)]

    def _keep(self, x: object) -> None:
        if len(self._kept) >= MOST:
            raise _TooLargeError
        self._kept.append(x)

    @contextmanager
    def _at(self, where: str) -> Iterator[None]:
        self._where.append(where if where[0] == "." else f", {where}")
        yield
        self._where.pop()

    def _named(self, pairs: Iterable[tuple[str, object]], where: str) -> list[list[str]]:
        """Values under their names, sorted by these; `where` is completed by the name."""
        found = []
        for name, value in sorted(pairs, key=lambda pair: pair[0]):
            with self._at(f"{where}{name}"):
                found.append([name, self.of(value)])
        return found

    # --- data ------------------------------------------------------------------------------------

    def _parts(self, x: Any) -> list[Any]:
        kind = type(x)
        if kind in (list, tuple):
            return [kind.__name__, *map(self.of, x)]
        if kind in (dict, types.MappingProxyType):
            return ["dict", *([self.of(k), self.of(v)] for k, v in x.items())]
        if isinstance(x, set | frozenset):
            return [self.of(kind), *sorted(map(self._apart, x))]
        if isinstance(x, torch.Tensor):
            return self._tensor(x)
        if isinstance(x, np.ndarray | np.generic):
            content = x.tolist() if x.dtype.hasobject else np.asarray(x).tobytes()
            return ["array", str(x.dtype.descr), x.shape, self.of(kind), self.of(content)]
        if isinstance(x, enum.Enum):
            return ["enum", self.of(kind), x.name, self.of(x.value)]
        if isinstance(x, _IDLE + _WEAK):  # whoever holds the keys is met elsewhere
            return ["idle"]
        if isinstance(x, types.CodeType):
            return self._bytecode(x)
        if isinstance(x, types.ModuleType):
            return self._module(x)
        if kind in _CALLS:
            return [kind.__name__, *(self.of(getattr(x, name)) for name in _CALLS[kind])]
        return self._object(x)

    def _apart(self, item: object) -> str:
        """An item of a set, described by itself: the order of sets means nothing."""
        if type(item) in (str, bytes, *_PLAIN):
            return self.of(item)
        inner = _Walk(self._kept)
        inner._where = self._where
        found = inner.whole(item)
        self.unknown += inner.unknown
        return found

    def _tensor(self, x: torch.Tensor) -> list[Any]:
        """By its content, wherever that is stored."""
        try:
            flat = x.detach().resolve_conj().reshape(-1)
            content = flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()
        except (RuntimeError, NotImplementedError, TypeError):  # without content, or not dense
            return self._miss(x)
        return ["tensor", str(x.dtype), x.shape, self.of(content)]

    def _object(self, x: Any) -> list[Any]:
        """Any other object, by its essence or as it pickles."""
        inside = essence(x)
        if inside is not NotImplemented:
            return ["object", self.of(type(x)), self.of(inside)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some iterators warn that they pickle
                pickled = copyreg.dispatch_table.get(type(x))
                found = x.__reduce_ex__(4) if pickled is None else pickled(x)
        except Exception:  # each kind of handle refuses in its own way
            return self._miss(x)
        if isinstance(found, str):
            return ["name", getattr(x, "__module__", None), found]
        made, arguments, *rest = found
        state, items, pairs = (*rest, None, None, None)[:3]
        parts: list[Any] = [self.of(made), *map(self.of, arguments), *self._state(state)]
        parts.append(["items", *map(self.of, items or ())])
        return [*parts, ["pairs", *([self.of(k), self.of(v)] for k, v in pairs or ())]]

    def _state(self, state: Any) -> list[Any]:
        """Attributes in the order of their names; a state of another form as it is."""
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            return [*self._state(state[0]), *self._state(state[1])]  # attributes and slots
        if isinstance(state, dict) and all(isinstance(name, str) for name in state):
            return self._named(state.items(), ".")
        return [self.of(state)]

    def _miss(self, x: object) -> list[Any]:
        kind = type(x)
        home = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        where = "".join(self._where).removeprefix(", ") or "it"
        self.unknown.append(f"{where} is a {home}{kind.__name__}, which cannot be looked into")
        return ["unknown"]

    # --- code ------------------------------------------------------------------------------------

    def _reference(self, x: Any) -> str:
        """The number of a function or a class that is described apart."""
        if importable(x) and (known := package_of(x.__module__)):
            return " ".join(["installed", *known, x.__qualname__])
        if id(x) not in self._numbers:
            self._keep(x)
            self._numbers[id(x)] = len(self._numbers)
            self._todo.append((x, tuple(self._where)))
        return f"code {self._numbers[id(x)]}"

    def _function(self, f: types.FunctionType) -> list[Any]:
        code, cells = f.__code__, {}
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            with suppress(ValueError):  # a name that is bound later
                cells[name] = cell.cell_contents
        own = not installed(code.co_filename)
        home = self._source(code.co_filename) if own else package_of(f.__module__ or "")
        with self._at("a default"):
            defaults = [self.of(f.__defaults__), self.of(f.__kwdefaults__)]
        parts = ["function", self._bytecode(code), home, defaults]
        parts.append(self._named(cells.items(), "the closure's "))
        parts.append(self._named(vars(f).items(), "."))
        return [*parts, self._globals(f) if own else []]

    def _globals(self, f: types.FunctionType) -> list[Any]:
        """The globals that a function names, by value; of modules the attributes that it names."""
        named = {name for code in _nested(f.__code__) for name in code.co_names}
        parts: list[Any] = []
        for name in sorted(named & f.__globals__.keys()):
            value = f.__globals__[name]
            module = isinstance(value, types.ModuleType)
            with self._at(f"the global {name}"):
                parts.append([name, self._module(value, named) if module else self.of(value)])
        return parts

    def _module(self, module: types.ModuleType, named: Iterable[str] = ()) -> list[Any]:
        """An installed module by its version, another by its text and what is asked of it."""
        known = package_of(module.__name__)
        if known is not None:
            return ["module", module.__name__, known]
        held = [(name, vars(module)[name]) for name in vars(module).keys() & set(named)]
        text = self._source(getattr(module, "__file__", None) or "")
        return ["module", text, self._named(held, ".")]

    def _bytecode(self, code: types.CodeType) -> list[Any]:
        names = [code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        body = hashlib.sha256(code.co_code + code.co_exceptiontable).hexdigest()
        return [body, *names, *counts, [self.of(const) for const in code.co_consts]]

    def _class(self, cls: type) -> list[Any]:
        """Its name, bases and attributes; what Python itself notes in a class tells nothing."""
        held = {
            name: value
            for name, value in vars(cls).items()
            if not name.startswith(("__", "_abc_")) or callable(value)
        }
        with self._at(f"the class {cls.__name__}"):
            bases = [self.of(type(cls)), *map(self.of, cls.__bases__)]
            return ["class", cls.__qualname__, bases, self._named(held.items(), ".")]


def importable(x: Any) -> bool:
    """Whether a name leads to exactly this function or class."""
    found: Any = sys.modules.get(getattr(x, "__module__", None) or "")
    for name in x.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is x


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _nested(const)
