"""The results folder: work that is finished is there whole, and is never done again.

    <folder>/manifest.json            format, versions, the model and the task: what all units share
    <folder>/cells/<cell>.json        what a row of the table is, and the keys of its units in order
    <folder>/units/<unit>.json        completions of a fixed batch of prompts (see `records`)
    <folder>/scores/<scorer>/<unit>.json
                                      {"name", "samples": hash of topics and references,
                                       "scores": [one per completion, null where it failed],
                                       "failed": [{"index", "prompt", "text", "why"}]}
    <folder>/times/<unit>.json        {"seconds", "tokens"}: never part of a table
    <folder>/tables/<name>.json|csv|md
                                      derived from all of the above (see `tables`)
    <folder>/locks/                   held by processes that work; a dead process' lock is free

Every file takes its name by one atomic rename. Units and scores are named by their content, so
any number of processes may share a folder, and another judge computes no text again. Scores that
were given for other references are given anew in their place.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import trimtab
from trimtab.errors import ResultsError
from trimtab.evaluation.cells import FORMAT, Cell, Unit
from trimtab.evaluation.records import Record, dump, load
from trimtab.files import replace_file
from trimtab.runs.identity import ModelId, canonical
from trimtab.runs.resolve import Scorer
from trimtab.types import Completion


def describe_model(model: ModelId) -> dict[str, Any]:
    """The model's part of the manifest."""
    return {"name": model.name, **model.identity()}


class Store:
    """A results folder of one base policy and one task.

    Args:
        folder: made where it is missing.
        model: the base policy; a folder of another is refused.
        task: name of the task; a folder of another is refused.

    Raises:
        ResultsError: the folder is another model's, task's or version's, or cannot be written.
    """

    def __init__(self, folder: str | Path, model: ModelId, task: str) -> None:
        self.folder = Path(folder)
        manifest = {
            "format": FORMAT,
            "trimtab": trimtab.__version__,
            "task": task,
            "model": describe_model(model),
        }
        with writing(self.folder):
            for name in ("cells", "units", "scores", "times", "tables", "locks"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "locks" / "folder"):
                path = self.folder / "manifest.json"
                if not path.exists():
                    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
                    replace_file(path, text, locked=True)
        _same(self.folder, read_manifest(self.folder), manifest)

    # --- units -----------------------------------------------------------------------------------

    def has(self, unit: Unit) -> bool:
        """Whether the unit is finished."""
        return self._unit(unit.key).exists()

    def read(self, unit: Unit) -> Record:
        """A finished unit."""
        path = self._unit(unit.key)
        try:
            return load(_json(path))
        except (ValueError, KeyError) as error:
            raise ResultsError(
                f"{path} must be whole", got=f"{error}", do="delete that file and run it again"
            ) from error

    def write(self, unit: Unit, completions: list[Completion], seconds: float) -> None:
        """Finish a unit that is claimed."""
        tokens = sum(len(c.tokens) for c in completions)
        with writing(self.folder):
            # Times first: where the texts are, the times are too.
            time = {"seconds": round(seconds, 6), "tokens": tokens}
            times = self.folder / "times" / f"{unit.key}.json"
            replace_file(times, canonical(time) + "\n", locked=True)
            replace_file(self._unit(unit.key), dump(unit, completions), locked=True)

    def time(self, unit: Unit) -> dict[str, float] | None:
        """The seconds that a unit took and its tokens; None where they were not kept."""
        path = self.folder / "times" / f"{unit.key}.json"
        found: dict[str, float] | None = _json(path) if path.exists() else None
        return found

    def _unit(self, key: str) -> Path:
        return self.folder / "units" / f"{key}.json"

    # --- scores ----------------------------------------------------------------------------------

    def scores(self, unit: Unit, scorer: Scorer) -> dict[str, Any] | None:
        """What a scorer said of a unit's completions; None where it has not been asked.

        Nor has it, where it was asked with other references.
        """
        path = self._score(unit, scorer)
        found: dict[str, Any] = _json(path) if path.exists() else {}
        return found if found.get("samples") == unit.samples else None

    def write_scores(self, unit: Unit, scorer: Scorer, said: Mapping[str, Any]) -> None:
        """Keep what a scorer said of a unit that is claimed."""
        with writing(self.folder):
            path = self._score(unit, scorer)
            path.parent.mkdir(exist_ok=True)
            head = {"name": scorer.name, "samples": unit.samples}
            replace_file(path, canonical({**head, **said}) + "\n", locked=True)

    def forget(self, scorers: Iterable[Scorer], units: Iterable[Unit]) -> None:
        """Drop what scorers said of units, so that they are asked anew, whoever does so."""
        units = list(units)
        with writing(self.folder):
            for scorer in scorers:
                for unit in units:
                    self._score(unit, scorer).unlink(missing_ok=True)

    def _score(self, unit: Unit, scorer: Scorer) -> Path:
        return self.folder / "scores" / scorer.key / f"{unit.key}.json"

    # --- cells and tables ------------------------------------------------------------------------

    def register(self, cells: list[Cell]) -> None:
        """Note which cells are wanted, finished or not."""
        with writing(self.folder), FileLock(self.folder / "locks" / "folder"):
            for cell in cells:
                path = self.folder / "cells" / f"{cell.key}.json"
                if not path.exists():
                    text = json.dumps(cell.as_dict(), indent=1, sort_keys=True) + "\n"
                    replace_file(path, text, locked=True)

    def write_text(self, name: str, text: str) -> Path:
        """Write `tables/<name>`."""
        path = self.folder / "tables" / name
        with writing(self.folder), FileLock(self.folder / "locks" / "folder"):
            replace_file(path, text, locked=True)
        return path

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process may work on `name` now; False where another one does."""
        lock = FileLock(self.folder / "locks" / name)
        try:
            with writing(self.folder):
                lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


# --- files ---------------------------------------------------------------------------------------


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a results folder.

    Raises:
        ResultsError: the folder is none.
    """
    path = Path(folder) / "manifest.json"
    try:
        found: dict[str, Any] = _json(path)
    except (OSError, ValueError) as error:
        raise ResultsError(
            "a results folder must hold a manifest.json",
            got=f"{folder} ({type(error).__name__})",
            do="name the folder that `trimtab evaluate` or `trimtab sweep` wrote",
        ) from error
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says plainly what a failed write means for the work.

    Raises:
        ResultsError: no room on the disk, no right to write.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, Timeout):  # a lock that is held is no failure
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            "results must be written "
            + ("to a disk with room" if full else "to a folder of yours"),
            got=f"{error.strerror or error} in {folder}",
            do=("make room" if full else "name another folder")
            + " and run it again: what is finished is kept",
        ) from error


def _same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder whose results would not belong beside these."""
    theirs, mine = _flat(found), _flat(wanted)
    (
        theirs.pop("model.name", None),
        mine.pop("model.name", None),
    )  # what it is called is no difference
    other = [k for k in mine if theirs.get(k) != mine[k]]
    if other:
        said = ", ".join(f"{k} {theirs.get(k)!r} (now {mine[k]!r})" for k in other)
        raise ResultsError(
            f"results in {folder} must be of the same model, task and version",
            got=said,
            do="name another folder, or go back to what made this one",
        )


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    model = manifest.get("model", {})
    plain = {k: v for k, v in manifest.items() if k != "model"}
    return plain | {f"model.{k}": v for k, v in model.items()}
