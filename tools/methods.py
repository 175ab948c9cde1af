"""What `trimtab methods` shows, from the methods themselves: `python -m tools.methods` writes it.

The command reads a file, because importing torch takes a second.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from trimtab.cli.catalogue import METHODS as TABLE
from trimtab.decoding.methods import METHODS, Method

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


def describe() -> list[dict[str, Any]]:
    """Every method's name, law, parts, defaults and paper."""
    return [_describe(name, factory) for name, factory in METHODS.items()]


def _describe(name: str, factory: Callable[..., Method]) -> dict[str, Any]:
    method, parameters = factory(), inspect.signature(factory).parameters.values()
    rule = getattr(method.rule, "__name__", str(method.rule))
    return {
        "name": name,
        "about": inspect.cleandoc(factory.__doc__ or "").splitlines()[0],
        "parts": f"{method.proposal} > {rule} > {method.sampler}",
        "guided": method.guided,
        "defaults": {p.name: p.default for p in parameters},
        "paper": PAPERS.get(name, ""),
    }


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in describe())
    TABLE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
