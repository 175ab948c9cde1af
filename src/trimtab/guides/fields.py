"""What the fields of a guide's card may be: a card may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from trimtab.schema import (
    Schema,
    SchemaError,
    above,
    anything,
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

HEAD_SIZES: dict[str, tuple[str, ...]] = {
    "scalar": ("hidden",),
    "vocabulary": ("hidden", "vocabulary"),
    "dueling": ("hidden", "vocabulary"),
    "advantage": ("hidden", "vocabulary"),
    "log_probability": (),
    "identity": (),
}
"""Kinds of heads, and the sizes that make each."""

ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Implementations that transformers has itself; other names make it fetch code and run it."""

WIDEST = 2**20
"""The widest network and the largest vocabulary that are believed."""

size = whole(1, WIDEST)


def head(value: Any, name: str) -> None:
    """A kind of head and its sizes."""
    record({"kind": one_of(HEAD_SIZES)}, more=True)(value, name)
    sizes = dict.fromkeys(HEAD_SIZES[value["kind"]], size)
    record({"kind": text, **sizes})(value, name)


def transform(value: Any, name: str) -> None:
    """A function of the score, with its arguments."""
    record({"kind": one_of(("log_sigmoid", "clamp", "center"))}, more=True)(value, name)
    clamp = value["kind"] == "clamp"
    record({"kind": text, **({"low": number, "high": number} if clamp else {})})(value, name)
    if clamp and not value["low"] < value["high"]:
        raise SchemaError(f"{name}.low must be below high", f"{value['low']} and {value['high']}")


count = whole(0, 2**53)


def files(value: Any, name: str) -> None:
    """Files of the folder and what proves them."""
    mapping_of(record({"sha256": text, "bytes": count}))(value, name)
    for path in map(PurePosixPath, value):
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise SchemaError(f"{name} must name no file outside the folder", repr(str(path))[:60])


OBJECTIVE: Schema = record(
    {},
    {
        "name": text,
        "settings": mapping_of(anything),
        "lr": number,
        "validation": mapping_of(number),
        "training": record(
            {},
            {
                "lr": list_of(number),
                "epochs": count,
                "batch_size": count,
                "max_length": whole(1),
                "held_out": above(0, most=1),
                "validation": maybe(text),
                "label_threshold": maybe(number),
                "label_softness": maybe(above(0)),
            },
            more=True,
        ),
    },
    more=True,
)
"""What a guide was trained with; names that are not read may be anything."""

POLICY = record(
    {},
    {
        "model": record(
            {},
            {
                "name": text,
                "weights": maybe(text),
                "dtype": maybe(text),
                "tokenizer": maybe(text),
                "base_temperature": maybe(above(0)),
                "base_top_p": maybe(above(0, most=1)),
            },
            more=True,
        ),
        "dtype": maybe(text),
    },
    more=True,
)
"""What made groups."""

DATA: Schema = record(
    {},
    {
        "groups": count,
        "responses": count,
        "pairs": count,
        "reward": maybe(text),
        "sources": list_of(either(text, POLICY, must="a text, or what a manifest says of a job")),
        "counts": list_of(
            record({"what": text, "read": count, "kept": count, "left_out": mapping_of(count)})
        ),
    },
    more=True,
)
"""What a guide was trained on."""

_KNOWN = {
    "name": text,
    "n": count,
    "mean": number,
    "std": above(0),
    "within": above(0, equal=True),
    "least": number,
    "most": number,
}


def statistics(value: Any, name: str) -> None:
    """The statistics of the reward that a guide predicts: some of them, in order."""
    record({}, {**_KNOWN, "unit": one_of(("reward", "std"))}, more=True)(value, name)
    if {"least", "most"} <= value.keys() and not value["least"] < value["most"]:
        got = f"{value['least']} and {value['most']}"
        raise SchemaError(f"{name}.least must be below most", got)


_FIELDS: dict[str, Schema] = {
    "format": whole(1),
    "kind": one_of(("value", "vocabulary")),
    "name": text,
    "base": maybe(text),
    "revision": maybe(text),
    "vocab": record({"size": size, "fingerprint": maybe(text)}, {"rows": maybe(size)}),
    "template": maybe(text),
    "storage": one_of(("full", "base")),
    "causal": truth,
    "model_type": text,
    "hidden": size,
    "layers": whole(1, 10_000),
    "dtype": one_of(("float32", "float16", "bfloat16", "float64")),
    "implementation": maybe(one_of(ATTENTION)),
    "attention": one_of(("tree", "expanded")),
    "adapter": truth,
    "head": head,
    "transforms": list_of(transform),
    "objective": OBJECTIVE,
    "data": DATA,
    "reward": statistics,
    "version": text,
    "files": files,
}


def card_fields(value: Any, name: str) -> None:
    """All fields, and what two of them must be together."""
    record(_FIELDS)(value, name)
    if (value["kind"] == "value") != (value["head"]["kind"] == "scalar"):
        kinds = f"{value['head']['kind']!r} of a {value['kind']} guide"
        raise SchemaError("head.kind must be scalar of a value guide, and of no other", kinds)
    _has(value["files"], "backbone/config.json", value["storage"] == "full")
    _has(value["files"], "adapter/adapter_config.json", value["adapter"])
    _has(value["files"], "head.safetensors", bool(HEAD_SIZES[value["head"]["kind"]]))
    if value["adapter"] and value["storage"] == "full":
        raise SchemaError("adapter must be false where storage is 'full'", "true")


def _has(files: Mapping[str, Any], name: str, wanted: bool) -> None:
    """A file is there where the other fields ask for it."""
    if wanted and name not in files:
        raise SchemaError(f"files must name {name}", f"{', '.join(files) or 'none'}")
