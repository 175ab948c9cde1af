"""The options of `inspect`, with the words that explain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer


def _option(*names: str, panel: str, **rest: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **rest)


_ON, _OUT, _MODEL = "What it is measured on", "Output", "Model"

Guide: TypeAlias = Annotated[
    str,
    typer.Argument(help="A guide's folder, a shipped guide, or a reward model (folder, Hub id)."),
]
Data: TypeAlias = Annotated[
    list[str] | None,
    _option(
        "--data", "-d", panel=_ON, metavar="FOLDER",
        help="Groups that `trimtab collect` wrote; may repeat.",
    ),
]  # fmt: skip
Validation: TypeAlias = Annotated[
    list[str] | None,
    _option(
        "--validation", "-v", panel=_ON, metavar="FOLDER",
        help="Labels that `trimtab collect --validation` wrote; may repeat.",
    ),
]  # fmt: skip
Pairs: TypeAlias = Annotated[
    list[str] | None,
    _option(
        "--pairs", "-p", panel=_ON, metavar="FILE|FOLDER",
        help="Preferences (.jsonl, .json, .csv, .parquet, hub:...), or groups; may repeat.",
    ),
]  # fmt: skip
Reward: TypeAlias = Annotated[
    str | None,
    _option(
        "--reward", "-r", panel=_ON,
        help="Of the groups; default: the one that the guide was trained on.",
    ),
]  # fmt: skip
Label: TypeAlias = Annotated[
    str | None, _option("--label", panel=_ON, help="Which label of a reward model with several.")
]
Limit: TypeAlias = Annotated[
    int | None, _option("--limit", panel=_ON, min=1, help="Groups, labels and pairs, at most.")
]
MaxLength: TypeAlias = Annotated[
    int | None,
    _option(
        "--max-length", panel=_ON, min=2,
        help="Most tokens of a prompt and a response; default: as in training, or 512.",
    ),
]  # fmt: skip
Rows: TypeAlias = Annotated[
    int, _option("--rows", panel=_ON, min=1, help="Responses read side by side.")
]
Seed: TypeAlias = Annotated[int, _option("--seed", panel=_ON, help="Of bootstrap and pairs.")]

Json: TypeAlias = Annotated[
    Path | None, _option("--json", panel=_OUT, metavar="FILE", help="All figures.")
]
Png: TypeAlias = Annotated[
    Path | None, _option("--png", panel=_OUT, metavar="FILE", help="The picture.")
]
Out: TypeAlias = Annotated[
    Path | None,
    _option(
        "--out", "-o", panel=_OUT, metavar="FOLDER",
        help="All three: inspect.md, inspect.json, inspect.png.",
    ),
]  # fmt: skip
Strict: TypeAlias = Annotated[
    bool, _option("--strict", panel=_OUT, help="Exit with 1 on warnings too.")
]

Model: TypeAlias = Annotated[
    str | None,
    _option(
        "--model", panel=_MODEL,
        help="The base; default: the one that the guide was trained for, else smollm2.",
    ),
]  # fmt: skip
Template: TypeAlias = Annotated[
    Literal["auto", "none"],
    _option("--template", panel=_MODEL, help="The chat template, or texts that are continued."),
]
