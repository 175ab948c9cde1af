"""`trimtab assets`: models that are fetched once and kept."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from trimtab.cli.options import OutputOptions

app = App(name="assets", help="List and fetch models that trimtab knows by a short name.")


@app.command(name="list")
def list_assets(*, output: OutputOptions = OutputOptions()) -> None:
    """Show what can be fetched, and what is there already."""
    from trimtab.assets import ASSETS, cache_dir, is_fetched
    from trimtab.cli.screen import print_json, print_table

    if output.json:
        for asset in ASSETS:
            names = ("name", "about", "licence", "download_mb", "stored_mb")
            facts = {name: getattr(asset, name) for name in names}
            print_json(facts | {"fetched": is_fetched(asset.name)}, indent=None)
        return
    rows = [
        (asset.name, asset.about, asset.licence, f"{asset.download_mb} MB",
         f"{asset.stored_mb} MB", "yes" if is_fetched(asset.name) else "no")
        for asset in ASSETS
    ]  # fmt: skip
    print_table(("name", "what it is", "licence", "download", "on disk", "fetched"), rows)
    print(f"kept in {cache_dir()} (TRIMTAB_CACHE moves it)")


@app.command
def fetch(
    name: str,
    *,
    accept_terms: Annotated[bool, Parameter(negative="")] = False,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Fetch a model into the cache, check its bytes and store it ready for use.

    The default model:

      trimtab assets fetch smollm2

    Args:
        name: As `trimtab assets list` shows it.
        accept_terms: I have read and accept this model's terms of use.
    """
    from trimtab.assets import fetch as bring
    from trimtab.cli.screen import print_json

    def report(line: str) -> None:  # on stderr, so that stdout is the folder alone
        if not output.quiet:
            print(line, file=sys.stderr, flush=True)

    folder = str(bring(name, accept_terms=accept_terms, report=report))
    print_json({"name": name, "path": folder}) if output.json else print(folder)


@app.command
def path(name: str) -> None:
    """Print the folder of a fetched model, for use in scripts.

    Args:
        name: As `trimtab assets list` shows it.
    """
    from trimtab.assets import path_of

    print(path_of(name))
