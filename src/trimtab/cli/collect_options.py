"""The options of `collect` that `evaluate` has not, or has otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from typer import Option

_PROMPTS, _METHOD, _REWARDS, _LABELS, _RUN = "Prompts", "Method", "Rewards", "Values", "Run"

Prompts: TypeAlias = Annotated[
    str | None,
    Option(
        "--prompts",
        metavar="FILE",
        help="Instead of TASK: a file (.txt, .jsonl, .csv, .parquet, ...), or "
        "hub:DATASET[@SPLIT][#COLUMN].",
        rich_help_panel=_PROMPTS,
    ),
]
Split: TypeAlias = Annotated[
    Literal["train", "validation", "test", "all"] | None,
    Option(
        help="Which prompts; files are split by topic. Default: train; of --validation validation.",
        rich_help_panel=_PROMPTS,
    ),
]
Limit: TypeAlias = Annotated[
    int | None, Option("--limit", min=1, help="Prompts of the split.", rich_help_panel=_PROMPTS)
]
Method: TypeAlias = Annotated[
    str | None,
    Option(
        "--method",
        "-m",
        metavar="NAME",
        help="See `trimtab methods`. Default: sampling; vas with a guide.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Guide: TypeAlias = Annotated[
    str | None,
    Option(
        "--guide",
        "-g",
        help="A guide's name or folder, a reward model, or reward:NAME to read on prefixes. "
        "Default: the task's reward.",
        show_default=False,
        rich_help_panel=_METHOD,
    ),
]
Beta: TypeAlias = Annotated[
    float | None, Option("--beta", "-b", help="Strength.", rich_help_panel=_METHOD)
]
K: TypeAlias = Annotated[
    int | None, Option("--k", "-k", min=1, help="Candidates per step.", rich_help_panel=_METHOD)
]
Set: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another parameter of the method; may repeat.",
        rich_help_panel=_METHOD,
    ),
]
Rewards: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--reward",
        "-r",
        metavar="NAME",
        help="A name, or python:FILE.py:FUNCTION; may repeat. Default: the task's own.",
        show_default=False,
        rich_help_panel=_REWARDS,
    ),
]
OnError: TypeAlias = Annotated[
    Literal["raise", "skip"],
    Option(help="What a response that cannot be scored does.", rich_help_panel=_REWARDS),
]
Relabel: TypeAlias = Annotated[
    Path | None,
    Option(
        "--relabel",
        metavar="FOLDER",
        help="Add --reward to the groups of this folder; nothing is generated.",
        rich_help_panel=_REWARDS,
    ),
]
Validation: TypeAlias = Annotated[
    bool,
    Option(
        "--validation",
        help="Label prefixes: cut responses half-way, complete each half, reward the whole texts.",
        rich_help_panel=_LABELS,
    ),
]
From: TypeAlias = Annotated[
    Path | None,
    Option(
        "--from",
        metavar="FOLDER",
        help="Cut the responses of this folder, instead of new ones.",
        rich_help_panel=_LABELS,
    ),
]
Completions: TypeAlias = Annotated[
    int, Option(min=1, help="Of each half.", rich_help_panel=_LABELS)
]
PerPrompt: TypeAlias = Annotated[
    int, Option(min=1, help="Responses of each prompt that are cut.", rich_help_panel=_LABELS)
]
Folder: TypeAlias = Annotated[
    Path,
    Option(
        "--folder",
        "-o",
        help="Where the groups are kept; a job that was interrupted goes on.",
        rich_help_panel=_RUN,
    ),
]
Workers: TypeAlias = Annotated[
    int,
    Option(min=1, help="Processes; the folder is the same for any number.", rich_help_panel=_RUN),
]
Processes: TypeAlias = Annotated[
    int | None,
    Option(min=1, help="How many torchrun must have started.", rich_help_panel=_RUN),
]
Threads: TypeAlias = Annotated[
    int, Option(min=1, help="CPU threads of each process.", rich_help_panel=_RUN)
]
