"""What `guide.json` says of a saved guide: each field is declared once, by its annotation.

A manifest may come from anybody, so `trimtab.guides.proof` holds it to these before anything is
loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeAlias, TypedDict, get_type_hints

from trimtab.guides.heads import HEADS, head_sizes
from trimtab.guides.transforms import TRANSFORMS
from trimtab.schema import SchemaError, above, one_of, record, schema_of, text, whole
from trimtab.types import Vocab

HEAD = "head.safetensors"
"""The file of the head's weights, where it has any."""

GuideKind: TypeAlias = Literal["value", "vocabulary"]
"""A `ValueGuide` or a `VocabularyGuide`."""

Storage: TypeAlias = Literal["full", "base"]
"""Where a guide's backbone is: in its folder, or in the base."""

Implementation: TypeAlias = Literal[
    "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"
]
"""Of attention, as transformers has itself; other names make it fetch code and run it."""

Size: TypeAlias = Annotated[int, whole(1, 2**20)]
"""Of a network or a vocabulary: the widest that is believed."""

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
    kind = TRANSFORMS[value["kind"]]
    hints = get_type_hints(kind)
    arguments = {f.name: schema_of(hints[f.name]) for f in fields(kind) if f.name != "guide"}
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
        layers: how many layers it has.
        dtype: of its weights.
        implementation: of its attention, by transformers' name.
        attention: how k candidates share a prefix.
        adapter: whether a peft adapter in the folder goes on top of the backbone.
        head: kind of the head and the sizes that make it.
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


def check_fields(value: Any, name: str) -> None:
    """A `Schema` of all fields, and of what two of them must be together."""
    schema_of(Manifest)(value, name)
    head, files = value["head"]["kind"], value["files"]
    for path in map(PurePosixPath, files):
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise SchemaError("files must name no file outside the folder", repr(str(path))[:60])
    if (value["kind"] == "value") != (head == "scalar"):
        kinds = f"{head!r} of a {value['kind']} guide"
        raise SchemaError("head.kind must be scalar of a value guide, and of no other", kinds)
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
