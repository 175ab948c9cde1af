"""The proof that a guide's folder is as it was saved: the sums of its files, in `guide.json`.

Nothing is loaded before it holds, and a pickle is never opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trimtab.errors import CheckpointError, UsageError
from trimtab.files import replace_file
from trimtab.guides.manifest import FileProof, Manifest, check_fields
from trimtab.guides.shipped import MANIFEST
from trimtab.schema import check
from trimtab.types import Vocab

FORMAT = 1
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `guide.json` last, with the sums of all files that lie in the folder by then.

    Raises:
        UsageError: facts of the training that are not of JSON's types, or that `verify` would not
            take.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _proof(path) for path in paths}
    try:
        fields = json.loads(json.dumps({**asdict(manifest), "files": files}))  # as it will be read
    except (TypeError, ValueError) as error:
        raise UsageError(
            "objective, data and reward must be of JSON's types", got=str(error), do="convert them"
        ) from error
    do = "say it so, or leave it out: nobody could load the guide"
    check(fields, check_fields, of="a guide's manifest", error=UsageError, do=do)
    body = {"format": FORMAT, **fields}
    text = json.dumps({**body, "sha256": _digest(body)}, indent=2, sort_keys=True)
    replace_file(folder / MANIFEST, text + "\n")


def verify(folder: str | Path) -> Manifest:
    """Check that a guide's folder is whole, ours and safe; nothing in it is loaded.

    Returns:
        The manifest.

    Raises:
        CheckpointError: a pickle, no manifest, an unknown format, a field that is not what it must
            be, a missing, added or changed file.
    """
    folder = Path(folder)
    _refuse_pickles(folder)
    fields = _read(folder)
    _check_files(folder, fields["files"])
    return Manifest(**{**fields, "vocab": Vocab(**fields["vocab"])})


def _read(folder: Path) -> dict[str, Any]:
    """The manifest's fields, once they are known to be the ones that were written."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"a guide's folder must hold {MANIFEST}",
            got=f"{folder} without it",
            do="check the path",
        )
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(body)  # nested too deep, like the reading of it
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise _changed(path, reason) from error
    if not isinstance(body, dict):
        raise _changed(path, f"a {type(body).__name__} and no object of names and values")
    digest, version = body.pop("sha256", None), body.get("format")
    if type(version) is not int or version != FORMAT:
        raise CheckpointError(
            f"{path} must be of format {FORMAT}", got=f"{version!r:.60}", do="update trimtab"
        )
    if digest != _digest(body):
        raise _changed(path, "fields that do not match its own sha256")
    del body["format"]
    do = "update trimtab, or get the guide again"
    check(body, check_fields, of=str(path), error=CheckpointError, do=do)
    return body


def _changed(path: Path, got: str, *, was: str = "") -> CheckpointError:
    return CheckpointError(f"{path} must be as it was saved{was}", got=got, do="get it again")


def _check_files(folder: Path, files: Mapping[str, FileProof]) -> None:
    """The files of the folder and those of the manifest are the same, byte for byte."""
    present = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    for name, proof in files.items():
        path = present.get(name)
        if path is None:
            raise CheckpointError(
                f"{folder} must hold {name}", got="no such file", do="get it again"
            )
        if not path.resolve().is_relative_to(folder.resolve()):
            raise _changed(folder / MANIFEST, f"a file outside the folder: {path.name}")
        size, digest = path.stat().st_size, proof["sha256"]
        if size != proof["bytes"]:
            raise _changed(path, f"{size} bytes", was=f": {proof['bytes']} bytes")
        if (found := _proof(path)["sha256"]) != digest:
            raise _changed(path, f"{found[:16]}...", was=f": sha256 {digest[:16]}...")
    added = sorted(name for name in present if "/" in name and name not in files)
    if added:
        raise CheckpointError(
            f"{folder} must hold the files that were saved", got=f"also {added[0]}", do="remove it"
        )


def _refuse_pickles(folder: Path) -> None:
    """A pickle runs code when it is read; one is never opened, whatever the manifest says."""
    paths = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    if pickle := next((path for path in paths if path.suffix.lower() in PICKLES), None):
        raise CheckpointError(
            "weights must be safetensors: a pickle can run any code when it is read",
            got=f"{pickle}",
            do="save the guide with save_guide",
        )
    if folder.is_file():
        raise CheckpointError("a guide is a folder", got=f"the file {folder}", do="pass its folder")


def _proof(path: Path) -> FileProof:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
