"""Everything that decides a training run, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

from trimtab.errors import UnknownNameError, UsageError
from trimtab.schema import above, check, check_settings, schema_of, whole

Unit: TypeAlias = Literal["reward", "std"]
"""What one unit of a guide's score is: one of the reward, or one standard deviation of it."""

Store: TypeAlias = Literal["float32", "bfloat16"]
"""Precision of a guide's own weights on disk."""

Reads: TypeAlias = Literal["layers", "states"]
"""What a guide reads: the text, by layers of its own, or the base's own hidden states."""

Count: TypeAlias = Annotated[int, whole(1)]
Positive: TypeAlias = Annotated[float, above(0)]


@dataclass(frozen=True)
class TrainConfig:
    """A training run: the same config, data and machine give the same guide.

    Attributes:
        objective: one of `trimtab.training.objectives.OBJECTIVES`.
        data: folders of groups, as `trimtab collect` writes them, or files of preferences.
        out: the guide's folder; it appears when the guide is done.
        settings: the objective's own parameters, e.g. `{"lambda_": 0.95}`.
        learn: which of the groups' rewards is learnt, or a sum of them such as
            "sentiment + 0.5*similarity"; None is the only one.
        validation: folder of labels that `trimtab collect --validation` wrote; None holds out a
            part of `data` by topic.
        held_out: that part: the topics that a task keeps for validation, else this share of all.
        unit: what one unit of the guide's score is: one of the reward, or one standard deviation.
        store: precision of the adapter and the head on disk; "bfloat16" halves a shipped guide.
        name: the guide's; None is the folder's.

        model: the base policy: folder, Hub id or fetched asset.
        reads: "layers", a network of the guide's own, made from the base's first layers; or
            "states", the base's own hidden states, at no cost: only a head is trained.
        layers: how many of its first layers the guide has, or its states have passed; None is all.
        width: of the hidden layer of a head that speaks through the base's token embeddings; 0 is
            a linear head, where the guide reads layers, and 1024 where it reads states.
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
        seed: decides the order, the adapter's start, held-out topics, prefix subsets and pairs.
        bf16: compute in bfloat16 where torch holds it safe (autocast); weights stay float32.
        gradient_checkpointing: compute activations twice instead of keeping them.
        device: where; None is the accelerator, where there is one.
        tensorboard: write TensorBoard's logs too, into each run's folder.
    """

    objective: str
    data: tuple[str, ...]
    out: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    learn: str | None = None
    validation: str | None = None
    held_out: Annotated[float, above(0, most=1)] = 0.1
    unit: Unit = "reward"
    store: Store = "float32"
    name: str | None = None

    model: str = "smollm2"
    reads: Reads = "layers"
    layers: Count | None = None
    width: Annotated[int, whole(0, 2**16)] = 0
    lora_rank: int = 32
    lora_alpha: Count = 32

    lr: tuple[Positive, ...] = (1e-4, 3e-4, 1e-3)
    head_lr: Positive = 1e-3
    epochs: Count = 1
    batch_size: Count = 32
    accumulation: Count = 1
    warmup: Annotated[float, above(0, equal=True, most=1)] = 0.05
    weight_decay: Annotated[float, above(0, equal=True)] = 0.0
    clip: Positive = 1.0
    evaluations: Count = 2
    max_length: Annotated[int, whole(2)] = 512
    seed: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    device: str | None = None
    tensorboard: bool = False

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
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError(f"{path} must be a readable YAML file", got=why, do="mend it") from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} must map names to values", got=type(values).__name__, do="write name: value"
        )
    check(values, schema_of(dict[str, Any]), of=str(path), error=UsageError, do="write name: value")
    return make_config({**values, **instead})


def make_config(values: Mapping[str, Any]) -> TrainConfig:
    """A config from plain values, as YAML and flags give them; errors as of `read_config`."""
    names = [f.name for f in fields(TrainConfig)]
    for name in values:
        if name not in names:
            raise UnknownNameError("a training setting", str(name), names)
    for name in ("objective", "data", "out"):
        if values.get(name) is None:
            raise UsageError(f"{name} must be given", got="none", do=f"add {name}")
    plain = dict(values)
    for name in ("data", "lr"):
        if isinstance(plain.get(name), str | int | float):
            plain[name] = (plain[name],)
        elif isinstance(plain.get(name), list):
            plain[name] = tuple(plain[name])
    for name, hint in get_type_hints(TrainConfig).items():
        if float in (hint, *get_args(hint)) and name in plain:
            value = plain[name]
            several = isinstance(value, tuple)
            plain[name] = tuple(map(_number, value)) if several else _number(value)
    _check(plain)
    return TrainConfig(**plain)


def _check(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` that names a setting which is not what it must be."""
    check_settings(TrainConfig, values, of="a training setting", do="correct that value")


def _number(value: Any) -> Any:
    """The number that a text is: YAML reads 1e-4 as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value  # the check names it
