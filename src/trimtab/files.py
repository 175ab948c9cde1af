"""Writing files whole: what is under the final name is complete, or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trimtab.errors import OutputError


def write_atomic(path: str | Path, data: str | bytes) -> Path:
    """Write a file beside its final name, then rename it; a failure leaves nothing behind.

    Raises:
        OutputError: it cannot be written (no such folder, no permission, a full disk).
    """
    path = Path(path)
    content = data.encode() if isinstance(data, str) else data
    hidden: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, hidden = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(hidden).chmod(0o644)  # mkstemp lets nobody else read
        os.replace(hidden, path)
    except OSError as error:
        if hidden is not None:
            Path(hidden).unlink(missing_ok=True)
        raise OutputError(
            f"{path} must be writable", got=error.strerror or str(error), do="choose another place"
        ) from error
    return path
