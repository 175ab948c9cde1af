"""`guide.json`: what a saved guide is, and the proof that its files are those that were saved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trimtab.errors import CheckpointError
from trimtab.types import Vocab

CARD = "guide.json"
FORMAT = 1
KINDS = ("value", "vocabulary")
STORAGES = ("full", "base")
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
        text = json.dumps({**body, "sha256": _digest(body)}, indent=2, sort_keys=True)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")


def verify(folder: str | Path) -> Card:
    """Check that a guide's folder is whole, ours and safe; nothing in it is loaded.

    Returns:
        The card.

    Raises:
        CheckpointError: a pickle, no card, an unknown format, a missing, added or changed file.
    """
    at = Path(folder)
    _refuse_pickles(at)
    body = _read(at)
    files = body["files"]
    for name, proof in files.items():
        _check_file(at, name, proof)
    inside = (p for p in at.glob("*/**/*") if p.is_file())
    added = sorted(p.relative_to(at).as_posix() for p in inside)
    if extra := [name for name in added if name not in files]:
        raise CheckpointError(
            f"{at} must hold the files that were saved", got=f"also {extra[0]}", do="remove it"
        )
    body.pop("format")
    for name, known in (("kind", KINDS), ("storage", STORAGES)):
        if body.get(name) not in known:
            raise CheckpointError(
                f"{name} in {at / CARD} must be one of {', '.join(known)}",
                got=repr(body.get(name)),
                do="update trimtab",
            )
    try:
        return Card(**{**body, "vocab": Vocab(**body["vocab"])})
    except (TypeError, KeyError) as error:
        raise _broken(at, str(error).split("\n")[0]) from error


def _read(at: Path) -> dict[str, Any]:
    """The card's fields, once they are known to be the ones that were written."""
    path = at / CARD
    if not path.is_file():
        raise CheckpointError(
            f"a guide's folder must hold {CARD}", got=f"{at} without it", do="check the path"
        )
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        digest, version = body.pop("sha256"), body["format"]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _broken(at, f"{type(error).__name__}: {error}") from error
    if version != FORMAT:
        raise CheckpointError(
            f"{path} must be of format {FORMAT}", got=f"{version!r}", do="update trimtab"
        )
    if digest != _digest(body):
        raise _broken(at, "fields that do not match its own sha256")
    return body


def _broken(at: Path, got: str) -> CheckpointError:
    return CheckpointError(f"{at / CARD} must be as it was saved", got=got, do="get it again")


def _check_file(at: Path, name: str, proof: Mapping[str, Any]) -> None:
    path = at / name
    if not path.resolve().is_relative_to(at.resolve()):
        raise _broken(at, f"a file outside the folder: {name}")
    if not path.is_file():
        raise CheckpointError(f"{at} must hold {name}", got="no such file", do="get it again")
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
