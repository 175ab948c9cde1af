"""The options of `train`, with the words that explain them. Defaults are `TrainConfig`'s."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from typer import Option

_WHAT, _NET, _RUN = "What", "Network", "Run"

ObjectiveName: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="OBJECTIVE",
        help="td-lambda, monte-carlo, cd-q, fudge, rad, q, dueling-q, value-advantage, ilql, "
        "bradley-terry, partial-bradley-terry, genarm, farma.",
        show_default=False,
    ),
]
Data: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DATA...",
        help="Folders that `trimtab collect` wrote, or files of preferences.",
        show_default=False,
    ),
]
Out: TypeAlias = Annotated[
    Path | None, Option("--out", "-o", help="The guide's folder.", rich_help_panel=_WHAT)
]
Config: TypeAlias = Annotated[
    Path | None,
    Option("--config", "-c", help="YAML of these settings; flags win.", rich_help_panel=_WHAT),
]
Learn: TypeAlias = Annotated[
    str | None,
    Option(
        "--learn",
        help="Which of the groups' rewards, or a sum: 'sentiment + 0.5*similarity'.",
        rich_help_panel=_WHAT,
    ),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of the objective: lambda_=0.9, bootstrap=exact, threshold=0.5, "
        "prefixes=2, margin=0.3.",
        rich_help_panel=_WHAT,
    ),
]
Validation: TypeAlias = Annotated[
    Path | None,
    Option(
        help="Labels by `trimtab collect --validation`; their topics are held out.",
        rich_help_panel=_WHAT,
    ),
]
HeldOut: TypeAlias = Annotated[
    float | None,
    Option(min=0, max=1, help="Share of topics to validate on. [0.1]", rich_help_panel=_WHAT),
]
UnitName: TypeAlias = Annotated[
    Literal["reward", "std"] | None,
    Option(
        help="One unit of score: of the reward, or a standard deviation. [reward]",
        rich_help_panel=_WHAT,
    ),
]
Store: TypeAlias = Annotated[
    Literal["float32", "bfloat16"] | None,
    Option(help="Precision of the trained weights on disk. [float32]", rich_help_panel=_WHAT),
]
Name: TypeAlias = Annotated[
    str | None, Option(help="The guide's name. [the folder's]", rich_help_panel=_WHAT)
]
Overwrite: TypeAlias = Annotated[
    bool, Option("--overwrite", help="Replace a guide that is there.", rich_help_panel=_WHAT)
]
Model: TypeAlias = Annotated[
    str | None, Option("--model", help="The base. [smollm2]", rich_help_panel=_NET)
]
Layers: TypeAlias = Annotated[
    int | None,
    Option(min=1, help="How many of its first layers to use. [all]", rich_help_panel=_NET),
]
LoraRank: TypeAlias = Annotated[
    int | None, Option(min=0, help="0 trains the layers themselves. [32]", rich_help_panel=_NET)
]
LoraAlpha: TypeAlias = Annotated[
    int | None, Option(min=1, help="Scales the adapter by alpha / rank. [32]", rich_help_panel=_NET)
]
Lr: TypeAlias = Annotated[
    str | None,
    Option(
        "--lr",
        metavar="LR,LR",
        help="One run each; the lowest validation error wins. [1e-4,3e-4,1e-3]",
        rich_help_panel=_RUN,
    ),
]
HeadLr: TypeAlias = Annotated[float | None, Option(help="[1e-3]", rich_help_panel=_RUN)]
Epochs: TypeAlias = Annotated[int | None, Option(min=1, help="[1]", rich_help_panel=_RUN)]
BatchSize: TypeAlias = Annotated[
    int | None,
    Option(min=1, help="Responses, or pairs, of an update. [32]", rich_help_panel=_RUN),
]
Accumulation: TypeAlias = Annotated[
    int | None, Option(min=1, help="Parts of an update. [1]", rich_help_panel=_RUN)
]
Warmup: TypeAlias = Annotated[
    float | None, Option(min=0, max=1, help="Share of updates. [0.05]", rich_help_panel=_RUN)
]
WeightDecay: TypeAlias = Annotated[float | None, Option(min=0, help="[0]", rich_help_panel=_RUN)]
Clip: TypeAlias = Annotated[
    float | None, Option(min=0, help="Largest norm of a gradient. [1]", rich_help_panel=_RUN)
]
Evaluations: TypeAlias = Annotated[
    int | None, Option(min=1, help="Validations per epoch. [2]", rich_help_panel=_RUN)
]
MaxLength: TypeAlias = Annotated[
    int | None,
    Option(min=2, help="Tokens; longer ones are left out. [512]", rich_help_panel=_RUN),
]
Seed: TypeAlias = Annotated[int | None, Option(help="[0]", rich_help_panel=_RUN)]
Bf16: TypeAlias = Annotated[
    bool | None, Option("--bf16/--fp32", help="Compute in bfloat16.", rich_help_panel=_RUN)
]
GradientCheckpointing: TypeAlias = Annotated[
    bool | None,
    Option(
        "--gradient-checkpointing/--no-gradient-checkpointing",
        help="Less memory, more time.",
        rich_help_panel=_RUN,
    ),
]
Device: TypeAlias = Annotated[
    str | None, Option(help="cpu, cuda, ...; default: what is there.", rich_help_panel=_RUN)
]
Tensorboard: TypeAlias = Annotated[
    bool | None,
    Option("--tensorboard/--no-tensorboard", help="TensorBoard's logs too.", rich_help_panel=_RUN),
]
Threads: TypeAlias = Annotated[
    int | None, Option(min=1, help="CPU threads of each process.", rich_help_panel=_RUN)
]
Processes: TypeAlias = Annotated[
    int | None,
    Option(min=1, help="How many must train together, else stop.", rich_help_panel=_RUN),
]
