"""`guide.json`: what a saved guide is, and the proof that its files are those that were saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trimtab.errors import CheckpointError, UsageError
from trimtab.files import replace_file
from trimtab.guides.fields import card_fields
from trimtab.schema import check
from trimtab.types import Vocab

CARD = "guide.json"
FORMAT = 1
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


@dataclass(frozen=True)
class Card:
    """Everything about a guide but its numbers.

    Attributes:
        kind: "value" or "vocabulary".
        name: what errors and tables call it.
        base: id of the base model, as the one who saved it named it.
        revision: of the base.
        vocab: whose token ids it reads.
        template: the prompt template that it was trained with.
        storage: where the backbone's weights are: in the folder ("full"), or in the base ("base").
        causal: whether the backbone is a language model with its own output layer.
        model_type: transformers' name of the architecture.
        hidden: the backbone's hidden size.
        layers: how many layers it has.
        dtype: of its weights.
        implementation: of its attention, by transformers' name.
        attention: how k candidates share a prefix: "tree" or "expanded".
        adapter: whether a peft adapter in the folder goes on top of the backbone.
        head: kind of the head and the arguments that make it.
        transforms: functions of the score, innermost first, with their arguments.
        objective: what it was trained with.
        data: what it was trained on.
        reward: statistics of the reward it predicts.
        version: trimtab's, when it was saved.
        files: sha256 and size in bytes of every file beside the card.
    """

    kind: Literal["value", "vocabulary"]
    name: str
    base: str | None
    revision: str | None
    vocab: Vocab
    template: str | None
    storage: Literal["full", "base"]
    causal: bool
    model_type: str
    hidden: int
    layers: int
    dtype: str
    implementation: str | None
    attention: str
    adapter: bool
    head: dict[str, Any]
    transforms: list[dict[str, Any]]
    objective: Mapping[str, Any]
    data: Mapping[str, Any]
    reward: Mapping[str, Any]
    version: str
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the card last, with the sums of all files that lie in the folder by then."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): _proof(path) for path in paths}
        body = {"format": FORMAT, **asdict(self), "files": files}
        body = json.loads(json.dumps(body))  # as it will be read
        do = "say it so, or leave it out: nobody could load the guide"
        check(body, card_fields, of="a guide's card", error=UsageError, do=do)
        text = json.dumps({**body, "sha256": _digest(body)}, indent=2, sort_keys=True)
        replace_file(folder / CARD, text + "\n")


def verify(folder: str | Path) -> Card:
    """Check that a guide's folder is whole, ours and safe; nothing in it is loaded.

    Returns:
        The card.

    Raises:
        CheckpointError: a pickle, no card, an unknown format, a field that is not what it must be,
            a missing, added or changed file.
    """
    at = Path(folder)
    _refuse_pickles(at)
    body = _read(at)
    _check_files(at, body["files"])
    body.pop("format")
    return Card(**{**body, "vocab": Vocab(**body["vocab"])})


def _read(at: Path) -> dict[str, Any]:
    """The card's fields, once they are known to be the ones that were written."""
    path = at / CARD
    if not path.is_file():
        raise CheckpointError(
            f"a guide's folder must hold {CARD}", got=f"{at} without it", do="check the path"
        )
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(body)  # nested too deep, like the reading of it
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(at, " ".join(str(error).split())[:200] or type(error).__name__) from error
    if not isinstance(body, dict):
        raise _broken(at, f"a {type(body).__name__} and no object of names and values")
    digest, version = body.pop("sha256", None), body.get("format")
    if type(version) is not int or version != FORMAT:
        raise CheckpointError(
            f"{path} must be of format {FORMAT}", got=f"{version!r:.60}", do="update trimtab"
        )
    if digest != _digest(body):
        raise _broken(at, "fields that do not match its own sha256")
    do = "update trimtab, or get the guide again"
    check(body, card_fields, of=str(path), error=CheckpointError, do=do)
    return body


def _broken(at: Path, got: str) -> CheckpointError:
    return CheckpointError(f"{at / CARD} must be as it was saved", got=got, do="get it again")


def _check_files(at: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """The files of the folder and those of the card are the same, byte for byte."""
    there = {p.relative_to(at).as_posix(): p for p in at.rglob("*") if p.is_file()}
    for name, proof in files.items():
        if name not in there:
            raise CheckpointError(f"{at} must hold {name}", got="no such file", do="get it again")
        _check_file(at, there[name], proof)
    added = sorted(name for name in there if "/" in name and name not in files)
    if added:
        raise CheckpointError(
            f"{at} must hold the files that were saved", got=f"also {added[0]}", do="remove it"
        )


def _check_file(at: Path, path: Path, proof: Mapping[str, Any]) -> None:
    if not path.resolve().is_relative_to(at.resolve()):
        raise _broken(at, f"a file outside the folder: {path.name}")
    if path.stat().st_size != proof["bytes"]:
        raise CheckpointError(
            f"{path} must be as it was saved: {proof['bytes']} bytes",
            got=f"{path.stat().st_size} bytes",
            do="get it again",
        )
    if (found := _proof(path)["sha256"]) != proof["sha256"]:
        raise CheckpointError(
            f"{path} must be as it was saved: sha256 {proof['sha256'][:16]}...",
            got=f"{found[:16]}...",
            do="get it again",
        )


def _refuse_pickles(at: Path) -> None:
    """A pickle runs code when it is read; one is never opened, whatever the card says."""
    found = [at] if at.is_file() else sorted(at.rglob("*"))
    if bad := next((path for path in found if path.suffix.lower() in PICKLES), None):
        raise CheckpointError(
            "weights must be safetensors: a pickle can run any code when it is read",
            got=f"{bad}",
            do="save the guide with save_guide",
        )
    if at.is_file():
        raise CheckpointError("a guide is a folder", got=f"the file {at}", do="pass its folder")


def _proof(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
