"""`trimtab inspect`: what a guide is, whether it fits the base, and how good it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from trimtab.cli import bench_options as b
from trimtab.cli import inspect_options as o

if TYPE_CHECKING:
    from trimtab.models.transformers import TransformersLM
    from trimtab.training.inspection import Inspection
    from trimtab.training.inspection.inspect import OnProgress


def inspect(
    guide: o.Guide,
    data: o.Data = None,
    validation: o.Validation = None,
    pairs: o.Pairs = None,
    reward: o.Reward = None,
    label: o.Label = None,
    limit: o.Limit = None,
    max_length: o.MaxLength = None,
    rows: o.Rows = 16,
    seed: o.Seed = 0,
    json: o.Json = None,
    png: o.Png = None,
    out: o.Out = None,
    strict: o.Strict = False,
    model: o.Model = None,
    template: o.Template = "auto",
    device: b.Device = None,
    dtype: b.Dtype = "auto",
    threads: b.Threads = None,
    base_temperature: b.BaseTemperature = 1.0,
    base_top_p: b.BaseTopP = 1.0,
) -> None:
    """Look a guide over: its card, whether it fits the base, and how good its scores are.

    A value against labels and along rollouts, as it will be decoded with:

      trimtab inspect my-guide --validation values --data rollouts --base-temperature 0.7

    A reward model on parts of responses (PARGS):

      trimtab inspect my-reward --pairs pairs.jsonl -o report

    The card and the audit alone:

      trimtab inspect my-guide --strict
    """  # fmt: skip
    from trimtab.training.inspection.opened import base_named

    lm = _base(
        model or base_named(guide) or "smollm2", template, device, dtype, threads,
        base_temperature, base_top_p,
    )  # fmt: skip
    from trimtab.training.inspection import inspect_guide

    with _bar(bool(data or validation or pairs)) as on:
        found = inspect_guide(
            guide,
            lm,
            data=data or (),
            validation=validation or (),
            pairs=pairs or (),
            reward=reward,
            label=label,
            limit=limit,
            max_length=max_length,
            rows=rows,
            seed=seed,
            on=on,
        )
    _print(found)
    _write(found, json, png, out)
    if found.worst == "error" or (strict and found.worst == "warning"):
        raise typer.Exit(1)


def _base(
    model: str,
    template: Literal["auto", "none"],
    device: str | None,
    dtype: str,
    threads: int | None,
    base_temperature: float,
    base_top_p: float,
) -> TransformersLM:
    """The base as it will decode."""
    from trimtab.cli.building import build_model
    from trimtab.models.text import Codec

    lm = build_model(
        model,
        device=device,
        dtype=dtype,
        threads=threads,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
    )
    lm.codec = Codec(lm.tokenizer, template)
    return lm


@contextmanager
def _bar(wanted: bool) -> Iterator[OnProgress]:
    """A bar on stderr, when there is something to score and somebody is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    quiet = not wanted or not sys.stderr.isatty()
    with Bar(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        shown = bar.add_task("", total=None)

        def on(done: int, total: int) -> None:
            bar.update(shown, completed=done, total=total)

        yield on


def _print(found: Inspection) -> None:
    """Tables where somebody reads them, Markdown in a pipe; warnings again, a line each."""
    from rich.console import Console
    from rich.table import Table

    from trimtab.training.inspection.words import grids, to_markdown, warning

    if not sys.stdout.isatty():
        print(to_markdown(found), end="")
        return
    console = Console()
    for grid in grids(found):
        table = Table(*grid.head, box=None, header_style="bold", title_justify="left",
                      title=grid.caption, caption=grid.note, caption_justify="left",
                      show_header=any(grid.head))  # fmt: skip
        for row in grid.rows:
            table.add_row(*row)
        console.print(table, "")
    for f in found.findings:
        if line := warning(f.level, f.about, f.said, f.do):
            console.print(line, style="bold yellow" if f.level == "warning" else "bold red")


def _write(found: Inspection, json: Path | None, png: Path | None, out: Path | None) -> None:
    """The files that were asked for; of a folder, no picture where nothing was measured."""
    from trimtab.files import write_atomic
    from trimtab.training.inspection import picture, to_json, to_markdown

    if out is not None:
        write_atomic(out / "inspect.md", to_markdown(found))
    for path in filter(None, (json, out and out / "inspect.json")):
        write_atomic(path, to_json(found))
    drawn = out / "inspect.png" if out is not None and found.measured else None
    for path in filter(None, (png, drawn)):
        write_atomic(path, picture(found))
