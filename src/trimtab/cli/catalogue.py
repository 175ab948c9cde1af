"""`trimtab assets` and `trimtab methods`: what there is by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from trimtab.cli.options import OutputOptions
from trimtab.cli.screen import print_json, print_table

assets = App(name="assets", help="List and fetch models that trimtab knows by a short name.")

METHODS = Path(__file__).with_name("methods.json")
"""What `tools/methods.py` says of every method; importing them all with torch takes a second."""


@assets.command(name="list")
def list_assets(*, output: OutputOptions = OutputOptions()) -> None:
    """Show what can be fetched, and what is there already."""
    from trimtab.assets import ASSETS, cache_dir, is_fetched

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


@assets.command
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

    def report(line: str) -> None:  # on stderr, so that stdout is the folder alone
        if not output.quiet:
            print(line, file=sys.stderr, flush=True)

    folder = str(bring(name, accept_terms=accept_terms, report=report))
    print_json({"name": name, "path": folder}) if output.json else print(folder)


@assets.command
def path(name: str) -> None:
    """Print the folder of a fetched model, for use in scripts.

    Args:
        name: As `trimtab assets list` shows it.
    """
    from trimtab.assets import path_of

    print(path_of(name))


def methods(*, output: OutputOptions = OutputOptions()) -> None:
    """Show every decoding method: its law, its parts and its defaults.

    Any default can be set: `trimtab generate --method best-of-n --set n=16`.
    """
    from trimtab.plugins import entry_points

    table: list[dict[str, Any]] = json.loads(METHODS.read_text(encoding="utf-8"))
    for name, plugin in entry_points("trimtab.methods").items():
        about = f"of the package {plugin.distribution}"
        table.append({"name": name, "about": about, "parts": "", "guided": True, "defaults": {}})
    for one in table:
        print(json.dumps(one)) if output.json else _print(one)


def _print(method: dict[str, Any]) -> None:
    """A method as a block: seven columns of prose would not fit a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    without = "" if method["guided"] else "  (no guide)"
    console.print(f"[bold]{method['name']}[/bold]{without}")
    console.print(f"  {method['about']}", markup=False, soft_wrap=True)
    defaults = ", ".join(f"{k}={v}" for k, v in method["defaults"].items())
    facts = {"parts": method["parts"], "defaults": defaults, "paper": method.get("paper")}
    for label, value in facts.items():
        if value:
            console.print(f"  {label}: {value}", markup=False, soft_wrap=True)
