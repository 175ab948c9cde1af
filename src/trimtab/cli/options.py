"""The options of `generate`, with the words that explain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(*names: str, panel: str, **rest: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, **rest)


_IN, _STEER, _BASE, _OUT = "Prompts and length", "Steering", "Base model", "Output"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="One or more prompts; none, or -, reads all of stdin as one prompt.",
        show_default=False,
    ),
]
File = Annotated[
    str | None,
    _option(
        "--file", "-f", panel=_IN, metavar="PATH",
        help="Prompts: .txt, one per line; .jsonl, .json, .csv, .tsv or .parquet with the column "
        "prompt or messages; - is stdin, text or JSON lines.",
    ),
]  # fmt: skip
Column = Annotated[
    str | None,
    _option("--column", panel=_IN, metavar="NAME", help="Where a row of --file has its prompt."),
]
N = Annotated[int, _option("--n", "-n", panel=_IN, min=1, help="Responses per prompt.")]
MaxNewTokens = Annotated[
    int, _option("--max-new-tokens", panel=_IN, min=1, help="Longest response, in tokens.")
]
Stop = Annotated[
    list[str] | None,
    _option("--stop", panel=_IN, metavar="TEXT", help="End at this text; may be repeated."),
]
Seed = Annotated[int, _option("--seed", panel=_IN, help="The same seed gives the same text.")]

Guide = Annotated[
    str | None,
    _option(
        "--guide", "-g", panel=_STEER, metavar="PATH",
        help="sentiment, concise, a guide's folder, or a reward model (folder or Hub id, with "
        "#LABEL for one of several).",
    ),
]  # fmt: skip
Reward = Annotated[
    str | None,
    _option(
        "--reward", "-r", panel=_STEER, metavar="NAME",
        help="A reward read on prefixes: sentiment, brevity, ..., python:file.py:function, "
        "hf:MODEL, http://HOST/PATH, or a sum: 'sentiment - 0.01*length'.",
    ),
]  # fmt: skip
Method = Annotated[
    str | None,
    _option(
        "--method", "-m", panel=_STEER, metavar="NAME",
        help="See `trimtab methods`. Default: vas with a guide or reward, else sampling.",
        show_default=False,
    ),
]  # fmt: skip
Beta = Annotated[
    float | None,
    _option("--beta", "-b", panel=_STEER, help="Strength: nats of log-odds per unit of score."),
]
K = Annotated[int | None, _option("--k", "-k", panel=_STEER, min=1, help="Candidates per token.")]
Temperature = Annotated[
    float | None,
    _option("--temperature", "-t", panel=_STEER, min=0, help="After steering; 0 is greedy."),
]
Set = Annotated[
    list[str] | None,
    _option("--set", panel=_STEER, metavar="NAME=VALUE", help="Another parameter of the method."),
]
OnGuideError = Annotated[
    str,
    _option("--on-guide-error", panel=_STEER, help="A NaN score: raise, or base to go on alone."),
]

Model = Annotated[
    str,
    _option("--model", panel=_BASE, help="A fetched model's name, a folder, or a Hub id."),
]
BaseTemperature = Annotated[
    float, _option("--base-temperature", panel=_BASE, help="Shapes the base before steering.")
]
BaseTopP = Annotated[
    float, _option("--base-top-p", panel=_BASE, help="Cuts the base to this nucleus.")
]
Device = Annotated[
    str | None, _option("--device", panel=_BASE, help="cpu, cuda, cuda:1, mps. Default: the best.")
]
Dtype = Annotated[
    str | None, _option("--dtype", panel=_BASE, help="auto, float32, bfloat16 or float16.")
]
Threads = Annotated[int | None, _option("--threads", panel=_BASE, min=1, help="CPU threads.")]

Stream = Annotated[bool, _option("--stream", "-s", panel=_OUT, help="Print text as it comes.")]
Json = Annotated[
    bool,
    _option("--json", panel=_OUT, help="One JSON object per response, with the token ledger."),
]
Alternatives = Annotated[
    int,
    _option("--alternatives", panel=_OUT, min=0, help="Likeliest candidates per token in --json."),
]
Out = Annotated[
    Path | None,
    _option(
        "--out", "-o", panel=_OUT, metavar="FILE",
        help="A .jsonl, .csv or .parquet of responses, with their figures (of a .jsonl with --json "
        "also the token ledger). Stopped and called again, it goes on where it was.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool, _option("--overwrite", panel=_OUT, help="Replace --out, or what was begun of it.")
]
Rows = Annotated[
    int,
    _option(
        "--rows", panel=_OUT, min=1,
        help="Responses decoded side by side. More takes memory; no text depends on it.",
    ),
]  # fmt: skip
