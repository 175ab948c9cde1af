"""One fingerprint for one thing: what a reward, a rule or a guide is made of, the same everywhere.

    fingerprint(f)  =  hash of   code and constants, defaults, closure cells and attributes,
                                 the values of the globals that it reads,
                                 its source file and those that it imports (see `origins`)

and of an object its class and its state, all the way down: numbers, texts, containers, arrays and
tensors by content, functions and classes as above, whatever else can be pickled by what it pickles
as. What belongs to an installed package is known by name and version. Nothing depends on addresses,
on the order of sets, or on the process.

What cannot be looked into (an open file, a socket, a generator) has no fingerprint: it gets one
that nothing ever had, so nothing that was kept is taken for its own. Files and servers that a
function reads while it runs are not seen.

A thing with a text as its attribute `fingerprint` is known by that alone.
"""

from __future__ import annotations

import copyreg
import dis
import enum
import functools
import hashlib
import sys
import types
import uuid
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock, RLock
from typing import Any

import numpy as np
import torch
from torch import nn

from trimtab.runs.essences import essence
from trimtab.runs.identity import digest
from trimtab.runs.origins import installed, package_of, texts
from trimtab.types import Cost

DEEPEST = 16
"""Sets within sets."""

MOST = 200_000
"""Objects that are looked into before it is given up; numbers and texts are not counted."""

WHOLE = 2**22
"""Bytes of a network's weight that are all hashed; of a larger one `SAMPLED` values are."""

SAMPLED = 4096


@dataclass(frozen=True)
class Fingerprint:
    """What tells a thing from others.

    Attributes:
        value: 32 hex digits; never the same twice where the thing cannot be known.
        unknown: in words, what of it cannot be looked into; "" where all could.
    """

    value: str
    unknown: str = ""


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
    walk = _Walk()
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

_DESCRIPTORS = (
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_SKIPPED = frozenset(
    (
        *("__dict__", "__weakref__", "__doc__", "__module__", "__firstlineno__"),
        *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
        *("__abstractmethods__", "_abc_impl", "__static_attributes__", "__type_params__"),
        *("__dataclass_fields__", "__dataclass_params__", "__match_args__"),
        *("__parameters__", "__orig_bases__"),
        *("__protocol_attrs__", "__non_callable_proto_members__"),
    )
)
"""Attributes of classes that tell nothing, or nothing that others do not tell."""


class _Walk:
    """One look into a thing.

    Functions and classes are numbered as they are met and described once, so they may refer to
    each other; data is described where it stands.
    """

    def __init__(self, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise _TooLargeError
        self.unknown: list[str] = []
        self._depth = depth
        self._texts: dict[str, list[str]] = {}
        self._numbers: dict[int, int] = {}
        self._todo: deque[tuple[Any, tuple[str, ...]]] = deque()
        self._kept: list[object] = []  # whose ids are remembered must live
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

    # --- data ------------------------------------------------------------------------------------

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
        if len(self._kept) >= MOST:
            raise _TooLargeError
        self._kept.append(x)
        self._open[id(x)] = len(self._open)
        try:
            self._known[id(x)] = digest(self._parts(x))
        finally:
            del self._open[id(x)]
        return self._known[id(x)]

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

    def _parts(self, x: Any) -> list[Any]:
        kind = type(x)
        if kind in (list, tuple):
            return [kind.__name__, *map(self.of, x)]
        if kind in (dict, types.MappingProxyType):
            return ["dict", *([self.of(k), self.of(v)] for k, v in x.items())]
        if isinstance(x, set | frozenset):
            return [self.of(kind), *sorted(self._apart(item) for item in x)]
        if isinstance(x, torch.Tensor | np.ndarray | np.generic):
            return self._numbers_of(x)
        if isinstance(x, enum.Enum):
            return ["enum", self.of(kind), x.name, self.of(x.value)]
        if isinstance(x, _IDLE):
            return ["idle"]
        if isinstance(x, _WEAK):  # whoever holds the keys is met elsewhere
            return ["weak"]
        return self._code(x) or self._object(x)

    def _apart(self, item: object) -> str:
        """An item of a set, described by itself: the order of sets means nothing."""
        if type(item) in (str, bytes, *_PLAIN):
            return self.of(item)
        inner = _Walk(self._depth + 1)
        inner._where = self._where
        found = inner.whole(item)
        self.unknown += inner.unknown
        return found

    def _numbers_of(self, x: Any) -> list[Any]:
        """Arrays and tensors by their content, wherever they are stored."""
        if isinstance(x, torch.Tensor):
            try:
                flat = x.detach().resolve_conj().reshape(-1)
                if isinstance(x, nn.Parameter) and flat.nbytes > WHOLE:
                    at = torch.arange(SAMPLED) * (len(flat) - 1) // (SAMPLED - 1)
                    flat = flat[at.to(flat.device)]
                content = flat.cpu().contiguous().view(torch.uint8).numpy().tobytes()
            except (RuntimeError, NotImplementedError, TypeError):  # without content, or not dense
                return self._miss(x)
            kind = [str(x.dtype), list(x.shape)]
            return ["tensor", *kind, hashlib.sha256(content).hexdigest()]
        if x.dtype.hasobject:
            return ["objects", list(x.shape), self.of(x.tolist())]
        content = np.asarray(x).tobytes()
        kind = [str(x.dtype.descr), list(x.shape), self.of(type(x))]
        return ["array", *kind, hashlib.sha256(content).hexdigest()]

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
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        where = "".join(self._where).removeprefix(", ") or "it"
        self.unknown.append(f"{where} is a {name}, which cannot be looked into")
        return ["unknown"]

    # --- code ------------------------------------------------------------------------------------

    def _code(self, x: Any) -> list[Any] | None:
        """What calls something else; None for what does not."""
        if isinstance(x, types.MethodType):
            return ["method", self.of(x.__func__), self.of(x.__self__)]
        if isinstance(x, partial):
            kept = self._named(x.keywords.items(), "the argument ")
            return ["partial", self.of(x.func), *map(self.of, x.args), kept]
        if isinstance(x, staticmethod | classmethod):
            return [type(x).__name__, self.of(x.__func__)]
        if isinstance(x, property):
            return ["property", *map(self.of, (x.fget, x.fset, x.fdel))]
        if isinstance(x, types.CodeType):
            return self._bytecode(x)
        if isinstance(x, types.CellType):
            return ["cell", *([] if _empty(x) else [self.of(x.cell_contents)])]
        if isinstance(x, types.ModuleType):
            return self._module(x, ())
        if isinstance(x, functools._lru_cache_wrapper):
            return ["cached", self.of(x.__wrapped__)]
        if isinstance(x, _DESCRIPTORS):
            return ["descriptor", self.of(x.__objclass__), x.__name__]
        if isinstance(x, types.BuiltinFunctionType | types.MethodWrapperType):
            owner: object = x.__self__
            home = owner.__name__ if isinstance(owner, types.ModuleType) else self.of(owner)
            return ["builtin", x.__qualname__, home]
        return None

    def _reference(self, x: Any) -> str:
        """The number of a function or a class that is described apart."""
        known = importable(x) and package_of(x.__module__)
        if known:
            return " ".join(["installed", *known, x.__qualname__])
        if id(x) not in self._numbers:
            if len(self._kept) >= MOST:
                raise _TooLargeError
            self._numbers[id(x)] = len(self._numbers)
            self._kept.append(x)
            self._todo.append((x, tuple(self._where)))
        return f"code {self._numbers[id(x)]}"

    def _function(self, f: types.FunctionType) -> list[Any]:
        code = f.__code__
        own = not installed(code.co_filename)
        home = self._source(code.co_filename) if own else package_of(f.__module__ or "")
        parts: list[Any] = ["function", self._bytecode(code), home or []]
        with self._at("a default"):
            parts += [self.of(f.__defaults__), self.of(f.__kwdefaults__)]
        cells = zip(code.co_freevars, f.__closure__ or (), strict=True)
        parts.append(self._named(cells, "the closure's "))
        parts.append(self._named(vars(f).items(), "."))
        return [*parts, self._globals(f) if own else []]

    def _globals(self, f: types.FunctionType) -> list[Any]:
        """The globals that a function reads, by value; of modules the attributes that it names."""
        read, named = set[str](), set[str]()
        for code in _nested(f.__code__):
            named.update(code.co_names)
            found = dis.get_instructions(code)
            read.update(i.argval for i in found if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
        parts: list[Any] = []
        for name in sorted(read & f.__globals__.keys()):
            value = f.__globals__[name]
            with self._at(f"the global {name}"):
                if isinstance(value, types.ModuleType):
                    parts.append([name, self._module(value, named)])
                else:
                    parts.append([name, self.of(value)])
        return parts

    def _module(self, module: types.ModuleType, named: Iterable[str]) -> list[Any]:
        """An installed module by its version, another by its text and what is asked of it."""
        known = package_of(module.__name__)
        if known is not None or id(module) in self._open:
            return ["module", module.__name__, known]
        self._open[id(module)] = len(self._open)
        held = vars(module)
        parts: list[Any] = []
        for name in sorted(held.keys() & set(named)):
            with self._at(f".{name}"):
                inner = held[name]
                deeper = isinstance(inner, types.ModuleType)
                parts.append([name, self._module(inner, named) if deeper else self.of(inner)])
        del self._open[id(module)]
        return ["module", self._source(getattr(module, "__file__", None) or ""), parts]

    def _source(self, file: str) -> list[str]:
        if file not in self._texts:
            self._texts[file] = texts(file)
        return self._texts[file]

    def _bytecode(self, code: types.CodeType) -> list[Any]:
        names = [code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
        counts = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags]
        body = hashlib.sha256(code.co_code + code.co_exceptiontable).hexdigest()
        return [body, *names, *counts, [self.of(const) for const in code.co_consts]]

    def _class(self, cls: type) -> list[Any]:
        held = {k: v for k, v in vars(cls).items() if k not in _SKIPPED}
        bases = [self.of(base) for base in cls.__bases__]
        with self._at(f"the class {cls.__name__}"):
            return [
                "class",
                cls.__qualname__,
                self.of(type(cls)),
                bases,
                self._named(held.items(), "."),
            ]


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


def _empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # a name that is bound later
        return True
    return False
