"""`trimtab inspect`: what a guide is, whether it fits the base, and how good it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from trimtab.cli.options import BASE, OUTPUT, Count, ModelOptions, OutputOptions, panel
from trimtab.cli.screen import on_screen, print_table, progress

if TYPE_CHECKING:
    from trimtab.inspection import Inspection

Folders = Annotated[tuple[str, ...], Parameter(negative="")]


@panel(Group.create_ordered("What it is measured on", sort_key=2))
class MeasureOptions:
    """What it is measured on.

    Attributes:
        data: Folders that `trimtab collect` or `evaluate` wrote; may repeat.
        validation: Labels that `trimtab collect --validation` wrote; may repeat.
        pairs: Preferences (.jsonl, .json, .csv, .parquet, hub:...), or groups; may repeat.
        learn: Which reward of the groups; default: the one that the guide was trained on.
        limit: Groups, labels and pairs, at most.
        max_length: Most tokens of a prompt and a response; default: as in training, or 512.
        rows: Responses read side by side.
        seed: Of bootstrap and pairs.
    """

    data: Annotated[Folders, Parameter(alias="-d")] = ()
    validation: Annotated[Folders, Parameter(alias="-v")] = ()
    pairs: Folders = ()
    learn: str | None = None
    limit: Count | None = None
    max_length: int | None = None
    rows: Count = 16
    seed: int = 0


@panel(BASE)
class BaseOptions(ModelOptions):
    """The base policy.

    Attributes:
        model: The base; default: the one that the guide was trained for, else smollm2.
        template: The chat template, or texts that are continued.
    """

    model: str = ""
    template: Literal["auto", "none"] = "auto"


def inspect(
    guide: str,
    *,
    measure: MeasureOptions = MeasureOptions(),
    out: Annotated[Path | None, Parameter(alias="-o", group=OUTPUT)] = None,
    strict: Annotated[bool, Parameter(negative="", group=OUTPUT)] = False,
    output: OutputOptions = OutputOptions(),
    model: BaseOptions = BaseOptions(),
) -> int:
    """Look a guide over: its card, whether it fits the base, and how good its scores are.

    A value against labels and along rollouts, as it will be decoded with:

      trimtab inspect my-guide --validation values --data rollouts --base-temperature 0.7

    A reward model on parts of responses (PARGS):

      trimtab inspect my-reward --pairs pairs.jsonl -o report

    The card and the audit alone:

      trimtab inspect my-guide --strict

    Args:
        guide: A guide by any of its names; #LABEL of a reward model with several.
        out: Folder of inspect.md, .html, .json and, of something measured, .png.
        strict: Exit with 1 on warnings too.
    """
    from trimtab.inspection.inspect import base_named, inspect_guide

    name = model.model or base_named(guide) or "smollm2"
    lm = replace(model, model=name).open(model.template)
    some = bool(measure.data or measure.validation or measure.pairs)
    with progress("scoring", quiet=output.quiet or not some) as meter:
        inspection = inspect_guide(guide, lm, **vars(measure), on=meter)
    _print(inspection, output)
    if out is not None:
        inspection.write(out)
    failed = inspection.worst == "error" or (strict and inspection.worst == "warning")
    return 1 if failed else 0


def _print(inspection: Inspection, output: OutputOptions) -> None:
    """Tables where somebody reads them, Markdown in a pipe; warnings again, a line each."""
    if output.json or not on_screen():
        print(inspection.to_json() if output.json else inspection.to_markdown(), end="")
        return
    for table in inspection.tables():
        print_table(table.head, table.rows, title=table.caption, note=table.note)
        print()
    for finding in inspection.warnings:
        print(finding)
