"""Reads third-party pickles as bare data: no class or function of anyone else is ever called.

A pickle is a program, so none is part of trimtab. The recipes beside this file read a few of them
once, to store their numbers as safetensors. Every class that a pickle names must be on a list given
by the recipe; it is replaced by `Bare`, which only keeps its attributes. All else is refused.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

_PLAIN: dict[tuple[str, str], type[Any]] = {
    ("builtins", "int"): int,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
}
_ARRAY = ("joblib.numpy_pickle", "NumpyArrayWrapper")


class Bare:
    """Stands for an object of a class that is not loaded: the attributes, and nothing else.

    Attributes:
        args: what it was made with.
        state: what it was filled with, where that is no dictionary: a numpy array's shape, dtype
            and bytes.
    """

    args: tuple[Any, ...]
    state: tuple[Any, ...]

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Whatever the pickle says."""

    def __new__(cls, *args: Any) -> Bare:
        """Keeps the arguments that the object was made with."""
        made = super().__new__(cls)
        made.args = args
        return made

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            vars(self).update(state)
        else:
            self.state = state


class _Array(Bare):
    """joblib's note that the raw bytes of an array follow in the file."""


class Restricted(pickle._Unpickler):  # the one in Python: BUILD can be told what to do
    """An unpickler that knows plain containers, and the named classes as `Bare`.

    Args:
        file: an open binary file.
        allowed: (module, name) of each class that the pickle may mention.
    """

    stack: list[Any]

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, allowed: Collection[tuple[str, str]] = ()) -> None:
        super().__init__(file)
        self.file, self.allowed = file, frozenset(allowed)

    def find_class(self, module: str, name: str) -> Any:
        """The class that a pickle names, if it is a plain container or on the list."""
        if (module, name) in _PLAIN:
            return _PLAIN[module, name]
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not on the list of this recipe")
        return _Array if (module, name) == _ARRAY else Bare

    def load_build(self) -> None:
        """As usual; and where joblib put an array's bytes behind its note, they are read here."""
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]
        if isinstance(self.stack[-1], _Array):
            self.stack.append(self._read(self.stack.pop()))

    dispatch[pickle.BUILD[0]] = load_build

    def _read(self, note: Any) -> np.ndarray[Any, Any]:
        if note.numpy_array_alignment_bytes is not None:
            self.file.read(self.file.read(1)[0])
        kind = np.dtype(note.dtype.args[0])  # "f8", "i4": a letter and a width
        if kind.hasobject:
            raise pickle.UnpicklingError("an array of objects would need another pickle")
        size = int(np.prod(note.shape)) * kind.itemsize
        return np.frombuffer(self.file.read(size), kind).reshape(note.shape, order=note.order)


def read(data: bytes, allowed: Collection[tuple[str, str]]) -> Any:
    """What a pickle holds, as plain containers, numpy arrays and `Bare` objects.

    Raises:
        pickle.UnpicklingError: it names anything that is not allowed.
    """
    return Restricted(io.BytesIO(data), allowed).load()
