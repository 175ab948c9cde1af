"""A guide's folder from outside: what `guide.json` says of it, and the proof that it is whole.

A manifest may come from anybody. So each field is declared once, by its annotation, and held to it
before anything is loaded; the sums of all other files stand in it; and a pickle is never opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, get_type_hints

from trimtab.errors import CheckpointError, UnknownNameError, UsageError
from trimtab.files import replace_file
from trimtab.guides.cached import HEADS, GuideKind, head_sizes
from trimtab.guides.transforms import TRANSFORMS
from trimtab.schema import SchemaError, above, check, one_of, record, schema_of, text, whole
from trimtab.types import Vocab

FORMAT = 1
MANIFEST = "guide.json"
HEAD = "head.safetensors"
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
SHIPPED = Path(__file__).with_name("shipped")

Storage: TypeAlias = Literal["full", "base"]
"""Where a guide's backbone is: in its folder, or in the base."""

Implementation: TypeAlias = Literal[
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"
]
"""Of attention, as transformers has itself; other names make it fetch code and run it."""

Size: TypeAlias = Annotated[int, whole(1, 2**20)]  # of a network: the widest that is believed
Count: TypeAlias = Annotated[int, whole(0, 2**53)]
Positive: TypeAlias = Annotated[float, above(0)]


# --- what it says of training; names that are not read may be anything ---------------------------


class SettingsFacts(TypedDict, total=False):
    """Of an objective's parameters, those that are read."""

    threshold: float | None
    softness: Positive | None


class TrainingFacts(TypedDict, total=False):
    """Of the settings that a guide was trained with, those that are read."""

    lr: list[float]
    epochs: Count
    batch_size: Count
    max_length: Annotated[int, whole(1)]
    held_out: Annotated[float, above(0, most=1)]
    validation: str | None
    seed: Count


class ObjectiveFacts(TypedDict, total=False):
    """What a guide was trained with."""

    name: str
    settings: SettingsFacts
    lr: float
    validation: Mapping[str, float]
    training: TrainingFacts


class ModelFacts(TypedDict, total=False):
    """The model that wrote the texts."""

    name: str
    weights: str | None
    dtype: str | None
    tokenizer: str | None
    base_temperature: Positive | None
    base_top_p: Annotated[float, above(0, most=1)] | None


class PolicyFacts(TypedDict, total=False):
    """What made groups."""

    model: ModelFacts
    dtype: str | None


class CountFacts(TypedDict):
    """How many of something were read and kept, and why the others were left out."""

    what: str
    read: Count
    kept: Count
    left_out: Mapping[str, Count]


class RewardFacts(TypedDict, total=False):
    """Statistics of the reward that a guide predicts."""

    name: str
    n: Count
    mean: float
    std: Positive
    within: Annotated[float, above(0, equal=True)]
    least: float
    most: float
    unit: Literal["reward", "std"]


class DataFacts(TypedDict, total=False):
    """What a guide was trained on."""

    groups: Count
    responses: Count
    pairs: Count
    reward: str | None
    sources: list[str | PolicyFacts]  # files' names, or what made folders of groups
    counts: list[CountFacts]


# --- the guide itself ----------------------------------------------------------------------------


def _head(value: Any, name: str) -> None:
    """A kind of head and its sizes."""
    record({"kind": one_of(HEADS)}, more=True)(value, name)
    sizes = dict.fromkeys(head_sizes(value["kind"]), schema_of(Size))
    record({"kind": text, **sizes})(value, name)


def _transform(value: Any, name: str) -> None:
    """A function of the score, with its arguments."""
    record({"kind": one_of(TRANSFORMS)}, more=True)(value, name)
    hints = get_type_hints(TRANSFORMS[value["kind"]])
    arguments = {key: schema_of(hint) for key, hint in hints.items() if key != "guide"}
    record({"kind": text, **arguments})(value, name)
    if "low" in arguments and not value["low"] < value["high"]:
        raise SchemaError(f"{name}.low must be below high", f"{value['low']} and {value['high']}")


class FileProof(TypedDict):
    """What proves a file."""

    sha256: str
    bytes: Count


@dataclass(frozen=True)
class Manifest:
    """Everything about a guide but its numbers.

    Attributes:
        kind: which class of guide it is.
        name: what errors and tables call it.
        base: id of the base model, as the one who saved it named it.
        revision: of the base.
        vocab: whose token ids it reads.
        template: the prompt template that it was trained with.
        storage: where the backbone's weights are: in the folder ("full"), or in the base ("base").
        causal: whether the backbone is a language model with its own output layer.
        model_type: transformers' name of the architecture.
        hidden: the backbone's hidden size.
        layers: how many layers it has; of a state guide, how many of the base's its states passed.
        dtype: of its weights.
        implementation: of its attention, by transformers' name.
        attention: how k candidates share a prefix.
        adapter: whether a peft adapter in the folder goes on top of the backbone.
        head: its kind and the sizes that make it.
        transforms: functions of the score, innermost first, with their arguments.
        objective: what it was trained with.
        data: what it was trained on.
        reward: statistics of the reward it predicts.
        version: trimtab's, when it was saved.
        files: sha256 and size in bytes of every file beside the manifest.
    """

    kind: GuideKind
    name: str
    base: str | None
    revision: str | None
    vocab: Vocab
    template: str | None
    storage: Storage
    causal: bool
    model_type: str
    hidden: Size
    layers: Annotated[int, whole(1, 10_000)]
    dtype: Literal["float32", "float16", "bfloat16", "float64"]
    implementation: Implementation | None
    attention: Literal["tree", "expanded"]
    adapter: bool
    head: Annotated[dict[str, Any], _head]
    transforms: list[Annotated[dict[str, Any], _transform]]
    objective: ObjectiveFacts
    data: DataFacts
    reward: RewardFacts
    version: str
    files: Mapping[str, FileProof]


def _check_fields(value: Any, name: str) -> None:
    """A `Schema` of all fields, and of what two of them must be together."""
    schema_of(Manifest)(value, name)
    head, files = value["head"]["kind"], value["files"]
    for path in map(PurePosixPath, files):
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise SchemaError("files must name no file outside the folder", repr(str(path))[:60])
    if (value["kind"] == "value") != (head == "scalar"):
        kinds = f"{head!r} of a {value['kind']} guide"
        raise SchemaError("head.kind must be scalar of a value guide, and of no other", kinds)
    if value["kind"] == "state" and (head != "embedding" or value["storage"] == "full"):
        given = f"{head!r}, storage {value['storage']!r}"
        raise SchemaError("a state guide must have an embedding head and storage 'base'", given)
    wanted = {
        "backbone/config.json": value["storage"] == "full",
        "adapter/adapter_config.json": value["adapter"],
        HEAD: bool(head_sizes(head)),
    }
    if missing := next((path for path, must in wanted.items() if must and path not in files), None):
        raise SchemaError(f"files must name {missing}", ", ".join(files) or "none")
    if value["adapter"] and value["storage"] == "full":
        raise SchemaError("adapter must be false where storage is 'full'", "true")
    reward = value["reward"]
    if {"least", "most"} <= reward.keys() and not reward["least"] < reward["most"]:
        bounds = f"{reward['least']} and {reward['most']}"
        raise SchemaError("reward.least must be below most", bounds)


# --- proving a folder ----------------------------------------------------------------------------


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
    facts = _read(folder)
    _check_files(folder, facts["files"])
    return Manifest(**{**facts, "vocab": Vocab(**facts["vocab"])})


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
    check(body, _check_fields, of=str(path), error=CheckpointError, do=do)
    return body


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


def _changed(path: Path, got: str, *, was: str = "") -> CheckpointError:
    return CheckpointError(f"{path} must be as it was saved{was}", got=got, do="get it again")


def _proof(path: Path) -> FileProof:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `guide.json` last, with the sums of all files that lie in the folder by then."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _proof(path) for path in paths}
    try:
        fields = json.loads(json.dumps({**asdict(manifest), "files": files}))  # as it will be read
    except (TypeError, ValueError) as error:
        raise UsageError(
            "objective, data and reward must be of JSON's types", got=str(error), do="convert them"
        ) from error
    do = "say it so, or leave it out: nobody could load the guide"
    check(fields, _check_fields, of="a guide's manifest", error=UsageError, do=do)
    body = {"format": FORMAT, **fields}
    written = json.dumps({**body, "sha256": _digest(body)}, indent=2, sort_keys=True)
    replace_file(folder / MANIFEST, written + "\n")


# --- where guides are ----------------------------------------------------------------------------


def shipped_guides() -> dict[str, Path]:
    """The folders of the guides that come with the package, by name.

    >>> sorted(shipped_guides())
    ['concise', 'sentiment']
    """
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{MANIFEST}"))}


def guide_folder(name: str | Path) -> Path | None:
    """Where a guide is: the folder of that name, or a shipped guide's; None where it is neither."""
    folder = Path(name)
    if (folder / MANIFEST).is_file():
        return folder
    return shipped_guides().get(str(name))


def check_name(name: str, also: Iterable[str] = ()) -> None:
    """Raise `UnknownNameError` for a name that can be no guide's, before the Hub is asked.

    A guide is a folder, one that comes with the package or is known as one of `also`, or a reward
    model: a folder or ORG/NAME on the Hub, either with #LABEL.
    """
    if guide_folder(name) is not None or "/" in name or Path(name.partition("#")[0]).exists():
        return
    shipped = shipped_guides()
    raise UnknownNameError(
        "a guide",
        name,
        {*shipped, *also},
        do=f"with the package come {' and '.join(shipped)}; or name a folder, or a reward model of "
        "the Hub as ORG/NAME",
    )
