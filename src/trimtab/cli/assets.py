"""`trimtab assets`: models that are fetched once and kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List and fetch models that trimtab knows by a short name.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `trimtab assets list` shows it.")]


@app.command("list")
def list_assets() -> None:
    """Show what can be fetched, and what is there already."""
    from rich.console import Console
    from rich.table import Table

    from trimtab.assets import ASSETS, cache_dir, is_fetched

    table = Table("name", "what it is", "licence", "download", "on disk", "fetched", box=None)
    for asset in ASSETS:
        size = f"{asset.download_mb} MB", f"{asset.stored_mb} MB"
        there = "yes" if is_fetched(asset.name) else "no"
        table.add_row(asset.name, asset.about, asset.licence, *size, there)
    console = Console()
    console.print(table)
    console.print(f"kept in {cache_dir()} (TRIMTAB_CACHE moves it)", soft_wrap=True)


@app.command()
def fetch(
    name: Name,
    accept_terms: Annotated[
        bool,
        typer.Option("--accept-terms", help="I have read and accept this model's terms of use."),
    ] = False,
) -> None:
    """Fetch a model into the cache, check its bytes and store it ready for use.

    Example:
      trimtab assets fetch smollm2
    """
    from trimtab.assets import fetch as bring

    print(bring(name, accept_terms=accept_terms, report=_say))


@app.command()
def path(name: Name) -> None:
    """Print the folder of a fetched model, for use in scripts."""
    from trimtab.assets import path_of

    print(path_of(name))


def _say(line: str) -> None:
    """Progress goes to stderr, so that `$(trimtab assets fetch ...)` is the folder alone."""
    print(line, file=sys.stderr, flush=True)
