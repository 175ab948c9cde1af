"""What the recipes share: a downloaded package is checked before a byte of it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from trimtab.files import write_atomic

ROOM = Path(__file__).parents[1] / "src" / "trimtab"


def checked(path: str | Path, sha256: str) -> Path:
    """The path, once the file there has the pinned hash.

    Raises:
        SystemExit: it has another one.
    """
    got = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if got != sha256:
        raise SystemExit(f"{path} must have the sha256 {sha256}; got {got}")
    return Path(path)


def store(
    name: str, arrays: Mapping[str, np.ndarray[Any, Any]], words: Iterable[str] | None = None
) -> None:
    """Writes a reward's numbers, and its words one a line, where the library reads them."""
    path = ROOM / "rewards" / "data" / f"{name}.safetensors"
    write_atomic(path, save(dict(arrays)))
    if words is not None:
        text = "".join(f"{word}\n" for word in words)
        path.with_suffix(".words.txt").write_text(text, encoding="utf-8", newline="\n")
