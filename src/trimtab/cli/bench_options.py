"""The options of `evaluate` and `sweep`, with the words that explain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from typer import Option

_TASK, _METHODS, _MODEL, _RUN = "Task", "Methods", "Model", "Run"

TaskName: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[TASK]", help="sentiment, verbosity, detox, ...")
]
Prompts: TypeAlias = Annotated[
    Path | None,
    Option(
        "--prompts",
        help="Instead of TASK: a file of prompts (.txt, .jsonl, .csv, .parquet, ...).",
        rich_help_panel=_TASK,
    ),
]
Column: TypeAlias = Annotated[
    str | None,
    Option(
        "--column",
        metavar="NAME",
        help="Where a row of --prompts has its prompt. Default: prompt, or messages.",
        rich_help_panel=_TASK,
    ),
]
RewardName: TypeAlias = Annotated[
    str | None,
    Option(
        "--reward",
        "-r",
        help="A name, python:FILE.py:FUNCTION, hf:MODEL, http://HOST/PATH, or a sum: "
        "'sentiment - 0.01*length'.",
        rich_help_panel=_TASK,
    ),
]
JudgeName: TypeAlias = Annotated[
    str | None,
    Option("--judge", "-j", help="A second opinion; likewise.", rich_help_panel=_TASK),
]
Limit: TypeAlias = Annotated[
    int | None, Option("--limit", min=1, help="Prompts of a split.", rich_help_panel=_TASK)
]
Methods: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--method",
        "-m",
        metavar="NAME",
        help="See `trimtab methods`; may repeat. Default: greedy, sampling, args, vas.",
        rich_help_panel=_METHODS,
    ),
]
Guides: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--guide",
        "-g",
        help="A guide's name or folder, a reward model, or reward:NAME to read on prefixes; may "
        "repeat. "
        "Default: the task's reward.",
        rich_help_panel=_METHODS,
    ),
]
Betas: TypeAlias = Annotated[
    list[float] | None,
    Option(
        "--beta",
        "-b",
        help="Strength; may repeat. Default: the method's; of a sweep 0.5, 1, 2, 4, 8.",
        rich_help_panel=_METHODS,
    ),
]
Ks: TypeAlias = Annotated[
    list[int] | None,
    Option("--k", "-k", min=1, help="Candidates per step; may repeat.", rich_help_panel=_METHODS),
]
Set: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another parameter of the methods that have it, such as n=16 or tail=drop; "
        "may repeat.",
        rich_help_panel=_METHODS,
    ),
]
Samples: TypeAlias = Annotated[
    int, Option("--n", "-n", min=1, help="Responses per prompt.", rich_help_panel=_RUN)
]
BaseSamples: TypeAlias = Annotated[
    int | None,
    Option(
        min=1,
        help="Responses per prompt of `sampling`; best-of-n is computed from them, for every n up "
        "to that. Default: --n.",
        rich_help_panel=_RUN,
    ),
]
Seed: TypeAlias = Annotated[int, Option(help="Decides every draw.", rich_help_panel=_RUN)]
Tokens: TypeAlias = Annotated[
    int | None,
    Option("--max-new-tokens", min=1, help="Default: the task's.", rich_help_panel=_RUN),
]
Folder: TypeAlias = Annotated[
    Path,
    Option(
        "--folder",
        "-o",
        help="Where results are kept; a second run computes only what is not there.",
        rich_help_panel=_RUN,
    ),
]
Workers: TypeAlias = Annotated[
    int, Option(min=1, help="Processes of one CPU thread each.", rich_help_panel=_RUN)
]
Rows: TypeAlias = Annotated[
    int, Option(min=1, help="Rows decoded side by side.", rich_help_panel=_RUN)
]
OnError: TypeAlias = Annotated[
    Literal["raise", "skip"],
    Option(help="What a text that cannot be scored does.", rich_help_panel=_RUN),
]
Rescore: TypeAlias = Annotated[
    bool,
    Option(
        "--rescore",
        help="Ask rewards anew, whatever is kept of them: where one reads files or a server that "
        "have changed. Texts stay.",
        rich_help_panel=_RUN,
    ),
]
MetricNames: TypeAlias = Annotated[
    list[str] | None,
    Option(
        "--metric",
        metavar="NAME",
        help="Also shown: perplexity, distinct-n, repetition; also measured: rouge-l (n >= 2), "
        "coherence (MiniLM) or coherence=MODEL; may repeat.",
        rich_help_panel=_RUN,
    ),
]
Baseline: TypeAlias = Annotated[
    str | None, Option(help="The row that others are compared with.", rich_help_panel=_RUN)
]
Model: TypeAlias = Annotated[
    str,
    Option("--model", help="Folder, Hub id or fetched asset.", rich_help_panel=_MODEL),
]
Device: TypeAlias = Annotated[
    str | None, Option(help="cpu, cuda, ...; default: what is there.", rich_help_panel=_MODEL)
]
Dtype: TypeAlias = Annotated[
    str, Option(help="float32, bfloat16, auto, ...", rich_help_panel=_MODEL)
]
Threads: TypeAlias = Annotated[
    int | None, Option(min=1, help="CPU threads of a single process.", rich_help_panel=_MODEL)
]
BaseTemperature: TypeAlias = Annotated[
    float, Option(help="Shapes the base policy itself.", rich_help_panel=_MODEL)
]
BaseTopP: TypeAlias = Annotated[
    float, Option(help="Nucleus of the base policy.", rich_help_panel=_MODEL)
]
