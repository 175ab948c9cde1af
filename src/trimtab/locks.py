"""One lock for each thing that threads share: a network, a tokenizer, a user's function.

A lock is held for one operation (a prefill, an extend, a text's tokens), never for a whole decode,
so calls of several threads interleave. A network's and a tokenizer's lock are never held together,
and whoever holds one waits for nobody; a user's function may take them while its own is held, never
the other way round. So no two threads can wait for each other.

A network's lock is that of its input embeddings, which all who wrap its layers share: a model, its
backbone, a backbone cut to fewer layers.
"""

from __future__ import annotations

import threading
import weakref
from typing import final


@final
class Lock:
    """A lock that its holder may take again; a copied or pickled one is new and free."""

    def __init__(self, thing: object = None) -> None:
        self._thing = thing  # kept, so that nothing else gets its identity
        self._inner = threading.RLock()

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(self, *error: object) -> None:
        self._inner.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


_LOCKS: weakref.WeakValueDictionary[int, Lock] = weakref.WeakValueDictionary()
_FINDING = threading.RLock()


def lock_of(thing: object) -> Lock:
    """The lock that all who use `thing` share for as long as any of them keeps it."""
    with _FINDING:
        lock = _LOCKS.get(id(thing))
        if lock is None:
            lock = _LOCKS[id(thing)] = Lock(thing)
        return lock
