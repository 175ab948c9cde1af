"""`trimtab methods`: every decoding method with its parts."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.cli.options import OutputOptions

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method

PAPERS = {
    "args": "Khanov et al. 2024, arXiv:2402.01694",
    "args-stochastic": "Khanov et al. 2024, arXiv:2402.01694",
    "pargs": "Rashid et al. 2024, arXiv:2406.07780",
    "pargs-greedy": "Rashid et al. 2024, arXiv:2406.07780",
    "vas": "Han et al. 2024, arXiv:2405.06639",
    "cd": "Mudgal et al. 2023, arXiv:2310.17022",
    "cd-blockwise": "Mudgal et al. 2023, arXiv:2310.17022",
    "fudge": "Yang and Klein 2021, arXiv:2104.05218",
    "rad": "Deng and Raffel 2023, arXiv:2310.09520",
    "genarm": "Xu et al. 2024, arXiv:2410.08193",
}
"""Where a method was published; the others are older than their papers."""

TABLE = Path(__file__).with_name("methods.json")


def methods(*, output: OutputOptions = OutputOptions()) -> None:
    """Show every decoding method: its law, its parts and its defaults.

    Any default can be set: `trimtab generate --method best-of-n --set n=16`.
    """
    from trimtab.plugins import entry_points

    table = described()
    plugins = entry_points("trimtab.methods")
    for name, plugin in plugins.items():
        about = f"of the package {plugin.distribution}"
        table.append({"name": name, "about": about, "parts": "", "guided": True, "defaults": {}})
    if output.json:
        for one in table:
            print(json.dumps(one))
    else:
        _print(table)


def described() -> list[dict[str, Any]]:
    """Every method as `describe` says it, read from a file: importing torch takes a second."""
    table: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def describe() -> list[dict[str, Any]]:
    """Every method's name, law, parts, defaults and paper, from the methods themselves."""
    from trimtab.decoding.methods import METHODS

    return [_describe(name, factory) for name, factory in METHODS.items()]


def write() -> None:
    """Writes the file anew, when a method has changed."""
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in describe())
    TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _describe(name: str, factory: Callable[..., Method]) -> dict[str, Any]:
    method, parameters = factory(), inspect.signature(factory).parameters.values()
    return {
        "name": name,
        "about": inspect.cleandoc(factory.__doc__ or "").splitlines()[0],
        "parts": parts_of(method),
        "guided": method.guided,
        "defaults": {p.name: p.default for p in parameters},
        "paper": PAPERS.get(name, ""),
    }


def parts_of(method: Method) -> str:
    """Proposal, rule and choice."""
    rule = getattr(method.rule, "__name__", str(method.rule))
    return f"{method.proposal} > {rule} > {method.sampler}"


def _print(table: list[dict[str, Any]]) -> None:
    """One block per method: seven columns of prose would not fit a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    for one in table:
        console.print(f"[bold]{one['name']}[/bold]" + ("" if one["guided"] else "  (no guide)"))
        defaults = ", ".join(f"{k}={v}" for k, v in one["defaults"].items())
        rows = ("", one["about"]), ("parts", one["parts"]), ("defaults", defaults)
        for label, value in (*rows, ("paper", one.get("paper"))):
            if value:
                line = f"  {label}: {value}" if label else f"  {value}"
                console.print(line, markup=False, soft_wrap=True)
