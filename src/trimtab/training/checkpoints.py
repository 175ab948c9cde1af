"""A run's folder, which may be left at any moment: whose it is, how far it came, what it says.

<folder>/run.json              what the run is; a folder of another run is refused
<folder>/log.jsonl             loss, learning rate and validation, one line per report
<folder>/checkpoint-<n>/       transformers' checkpoints, while the run lasts
<folder>/best.safetensors      the trained weights with the lowest validation error
<folder>/result.json           written last: the run is done
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError
from transformers import TrainerCallback

from trimtab.errors import DataError, OutputError
from trimtab.files import apply_umask, write_atomic

OnProgress: TypeAlias = Callable[[int, int, Mapping[str, float]], object]
"""Called with updates done, updates in all, and what was reported now (often nothing)."""


def claim(folder: Path, facts: Mapping[str, Any], *, overwrite: bool) -> None:
    """Note what the run is; a folder of another run is cleared or refused."""
    path = folder / "run.json"
    ours = json.loads(json.dumps(facts))
    if path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        if not other:
            return
        if not overwrite:
            got = ", ".join(f"{k} {theirs.get(k)!r} (now {ours.get(k)!r})" for k in other)
            raise DataError(
                f"{folder} must be of the same run",
                got=got,
                do="name another folder, remove it, or pass --overwrite",
            )
        shutil.rmtree(folder)
    write_atomic(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that was cut off has no state and is removed."""
    paths = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(paths):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Says plainly what a failed write means for a training.

    torch and safetensors tell a full disk by errors of their own, whose text alone gives it away.

    Raises:
        OutputError: no room on the disk, no right to write.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(sign in message for sign in _DISK):
            raise
        raise OutputError(
            f"{folder} must be writable, on a disk with room",
            got=message[:200],
            do="make room and run it again: it goes on from the last whole checkpoint",
        ) from error


_DISK = (
    "PytorchStreamWriter",
    "No space left",
    "unexpected pos",
    "enforce fail at inline_container",
)


class Log(TrainerCallback):
    """Writes what the trainer reports, a line at a time, and tells how far it is."""

    def __init__(self, path: Path, on_progress: OnProgress | None) -> None:
        self.path, self.on_progress = path, on_progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A report: loss and rate, or a validation."""
        if state.is_world_process_zero and logs:
            line = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **logs}
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            if self.on_progress:
                self.on_progress(state.global_step, state.max_steps, logs)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is there: others may read it, as any file."""
        if state.is_world_process_zero:
            apply_umask(self.path.parent / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An update was made."""
        if state.is_world_process_zero and self.on_progress:
            self.on_progress(state.global_step, state.max_steps, {})
