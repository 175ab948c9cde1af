"""Everything that decides a training run, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trimtab.errors import UnknownNameError, UsageError, check_word
from trimtab.schema import (
    Schema,
    SchemaError,
    above,
    anything,
    check,
    either,
    list_of,
    mapping_of,
    maybe,
    number,
    one_of,
    record,
    text,
    truth,
    whole,
)
from trimtab.training.targets import Unit

Store: TypeAlias = Literal["float32", "bfloat16"]
"""Precision of a guide's own weights on disk."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run: the same config, data and machine give the same guide.

    Attributes:
        objective: one of `trimtab.training.objectives.OBJECTIVES`.
        data: folders of groups that `trimtab collect` wrote, or files of preferences.
        out: the guide's folder; it appears when the guide is done.
        settings: the objective's own parameters, e.g. `{"lambda_": 0.95}`.
        reward: which of the groups' rewards is learnt, or a sum of them such as
            "sentiment + 0.5*similarity"; None is the only one.
        validation: folder of labels that `trimtab collect --validation` wrote; None holds out a
            part of `data` by topic.
        held_out: that part.
        unit: what one unit of the guide's score is: one of the reward, or one standard deviation.
        store: precision of the adapter and the head on disk; "bfloat16" halves a shipped guide.
        name: the guide's; None is the folder's.

        model: the base policy: folder, Hub id or fetched asset.
        layers: how many of its first layers the guide has; None is all.
        lora_rank: rank of the adapter on their linear maps; 0 trains the layers themselves.
        lora_alpha: the adapter is scaled by alpha / rank.

        lr: learning rates of the backbone: one run each, and the lowest validation error wins.
        head_lr: learning rate of the head.
        epochs: passes over the data.
        batch_size: examples (responses, or pairs) of one update, over all processes.
        accumulation: parts that an update is computed in, where memory is short.
        warmup: share of the updates in which the learning rate rises, in equal steps of which the
            first update has one; it then falls to 0.
        weight_decay: of the backbone's trained weights.
        clip: largest norm of a gradient.
        evaluations: validations per epoch; the best one's weights are kept.
        max_length: longest prompt and response, in tokens; longer ones are left out and counted.
        seed: decides the order, the adapter's start, prefix subsets and pairs.
        bf16: compute in bfloat16 where torch holds it safe (autocast); weights stay float32.
        gradient_checkpointing: compute activations twice instead of keeping them.
        device: where; None is the accelerator, where there is one.
        tensorboard: write TensorBoard's logs too, into each run's folder.

        label_threshold: FUDGE: rewards above it are of the class; None is the mean.
        label_softness: FUDGE: labels exp((r - r_max) / this) instead of a class.
        prefixes: partial Bradley-Terry: how many prefixes, in multiples of the pairs, or "all".
        prefixes_by_row: draw whole responses' prefixes together, as the authors' code does.
        margin: least difference of rewards of a pair made from groups.
        pairs_per_group: how many pairs a group gives; None is all.
    """

    objective: str
    data: tuple[str, ...]
    out: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reward: str | None = None
    validation: str | None = None
    held_out: float = 0.1
    unit: Unit = "reward"
    store: Store = "float32"
    name: str | None = None

    model: str = "smollm2"
    layers: int | None = None
    lora_rank: int = 32
    lora_alpha: int = 32

    lr: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    head_lr: float = 1e-3
    epochs: int = 1
    batch_size: int = 32
    accumulation: int = 1
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    evaluations: int = 2
    max_length: int = 512
    seed: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    device: str | None = None
    tensorboard: bool = False

    label_threshold: float | None = None
    label_softness: float | None = None
    prefixes: float | Literal["all"] = 2.0
    prefixes_by_row: bool = False
    margin: float = 0.0
    pairs_per_group: int | None = 4

    def __post_init__(self) -> None:
        _check(vars(self))
        if self.batch_size % self.accumulation:
            raise UsageError(
                "accumulation must divide the batch",
                got=f"{self.batch_size} in {self.accumulation} parts",
                do="change one of them",
            )

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self) | {"data": list(self.data), "lr": list(self.lr)}


def read_config(path: str | Path, **instead: Any) -> TrainConfig:
    """A config from a YAML file, with some values given instead of the file's.

    Raises:
        UsageError: the file cannot be read, or is no mapping of `TrainConfig`'s names.
        UnknownNameError: a name that `TrainConfig` does not have; near names are offered.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{path} must be a readable YAML file", got=why, do="mend it") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"{path} must map names to values", got=type(found).__name__, do="write name: value"
        )
    check(found, mapping_of(anything), of=str(path), error=UsageError, do="write name: value")
    return make_config({**found, **instead})


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """A config from plain values, as YAML and flags give them.

    Raises:
        UnknownNameError: a name that `TrainConfig` does not have; near names are offered.
        UsageError: one that must be there is missing, or a value is of the wrong kind.
    """
    known = {f.name: f for f in fields(TrainConfig)}
    for name in values:
        if name not in known:
            raise UnknownNameError("a training setting", str(name), known)
    for name in ("objective", "data", "out"):
        if values.get(name) is None:
            raise UsageError(f"{name} must be given", got="none", do=f"add {name}")
    plain = dict(values)
    for name in ("data", "lr"):
        if name in plain:
            one = isinstance(plain[name], str | int | float)
            plain[name] = [plain[name]] if one else plain[name]
            plain[name] = tuple(plain[name]) if isinstance(plain[name], list) else plain[name]
    for name in NUMBERS & plain.keys():
        plain[name] = _number(plain[name])
    if isinstance(plain.get("lr"), tuple):
        plain["lr"] = tuple(map(_number, plain["lr"]))
    _check(plain)
    return TrainConfig(**plain)


def _check(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` that names a setting which is not what it must be."""
    for name, words in (("unit", Unit), ("store", Store), ("prefixes", ("all",))):
        if isinstance(values.get(name), str):
            check_word(name, values[name], words)
    do = "correct that value"
    check(values, SETTINGS, of="a training setting", error=UsageError, do=do)


def _number(value: Any) -> Any:
    """The number that a text is: YAML reads 1e-4 as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value  # a word, such as "all", or what the check names


# --- what a setting may be -----------------------------------------------------------------------

POSITIVE = above(0)


def some(inner: Schema) -> Schema:
    """A list of one or more."""

    def holds(value: Any, name: str) -> None:
        list_of(inner)(value, name)
        if not value:
            raise SchemaError(f"{name} must have one at least", "none")

    return holds


NUMBERS = {
    "head_lr", "held_out", "warmup", "weight_decay", "clip", "label_threshold", "label_softness",
    "prefixes", "margin",
}  # fmt: skip
"""Settings that are no whole numbers."""

SETTINGS = record(
    {"objective": text, "data": some(text), "out": text},
    {
        "settings": mapping_of(anything),
        "reward": maybe(text),
        "validation": maybe(text),
        "held_out": above(0, most=1),
        "unit": one_of(("reward", "std")),
        "store": one_of(("float32", "bfloat16")),
        "name": maybe(text),
        "model": text,
        "layers": maybe(whole(1)),
        "lora_rank": whole(),
        "lora_alpha": whole(1),
        "lr": some(POSITIVE),
        "head_lr": POSITIVE,
        **dict.fromkeys(("epochs", "batch_size", "accumulation", "evaluations"), whole(1)),
        "warmup": above(0, equal=True, most=1),
        "weight_decay": above(0, equal=True),
        "clip": POSITIVE,
        "max_length": whole(2),
        "seed": whole(),
        **dict.fromkeys(
            ("bf16", "gradient_checkpointing", "tensorboard", "prefixes_by_row"), truth
        ),
        "device": maybe(text),
        "label_threshold": maybe(number),
        "label_softness": maybe(POSITIVE),
        "prefixes": either(one_of(["all"]), POSITIVE, must="a number above 0, or the word all"),
        "margin": above(0, equal=True),
        "pairs_per_group": maybe(whole(1)),
    },
)
"""What each setting of `TrainConfig` must be."""
