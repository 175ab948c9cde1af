"""Time per emitted token, guided against unguided, beside what the machine allows.

    python benchmarks/decode_overhead.py                                     # CPU, minutes
    python benchmarks/decode_overhead.py --quick                             # does it run?
    python benchmarks/decode_overhead.py --device cuda --dtype bfloat16 --shape llama-7b --grid full

See benchmarks/README.md for what the columns mean.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from overhead.bounds import Rates, measure_rates
from overhead.cells import QUICK, Cell, Plan, Row, break_down, grid, measure, measure_generate
from overhead.report import (
    ROW_HEADS,
    VERDICT_HEADS,
    as_json,
    markdown,
    row_cells,
    show,
    verdict_cells,
)
from overhead.shapes import SHAPES, Bench, build
from overhead.targets import judge
from rich.console import Console

import trimtab as tt
from trimtab.files import write_atomic

HERE = Path(__file__).parent


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", choices=SHAPES, default="smollm2-135m", help="random weights of this shape"
    )
    parser.add_argument("--model", help="a model by name or folder instead; the guide is its copy")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--grid", choices=("small", "full"), default="small")
    parser.add_argument("--repeats", type=int, default=5, help="windows per side, interleaved")
    parser.add_argument("--turns", type=int, default=3, help="tokens per window")
    parser.add_argument("--reencode-limit", type=float, default=20.0, metavar="S",
                        help="skip the baseline where a token would take longer")  # fmt: skip
    parser.add_argument("--profile", action="store_true", help="say where the time goes, too")
    parser.add_argument("--quick", action="store_true", help="a tiny shape and three rows")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    return parser.parse_args(argv)


def run(bench: Bench, cells: list[Cell], plan: Plan, rates: Rates) -> list[Row]:
    """All rows; the sanity column once per prefix and batch."""
    generate: dict[tuple[int, int], float] = {}
    rows = []
    for number, cell in enumerate(cells, 1):
        print(f"{number}/{len(cells)} {cell}", file=sys.stderr, flush=True)
        at = (cell.prefix, cell.batch)
        if at not in generate:
            generate[at] = measure_generate(bench, *at, plan)
        rows.append(measure(bench, cell, plan, rates, generate[at]))
    return rows


def facts(options: argparse.Namespace, rates: Rates) -> dict[str, Any]:
    """What the numbers hang on."""
    cuda = options.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(options.device) if cuda else "CPU",
        "threads": options.threads,
        "model": options.model or f"{options.shape}, random weights",
        "dtype": options.dtype,
        "versions": f"trimtab {tt.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "matrix rate, Gflop/s": round(rates.flops / 1e9, 1),
        "copy rate, GB/s": round(rates.bytes / 1e9, 1),
    }


def main(argv: list[str] | None = None) -> None:
    """Measure, show, write."""
    options, console = arguments(argv), Console(width=200)
    if options.quick:
        options.shape, options.repeats, options.turns = "tiny", 2, 1
    torch.set_num_threads(options.threads)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    rates = measure_rates(device, dtype)
    bench = build(options.shape, options.model, device, dtype)
    plan = Plan(options.repeats, options.turns, options.reencode_limit)
    rows = run(bench, QUICK if options.quick else grid(options.grid), plan, rates)
    broken = {}
    for cell in profiled(rows) if options.profile else ():
        name = f"{cell.guide}, k {cell.k}, prefix {cell.prefix}, batch {cell.batch}"
        broken[name], operators = break_down(bench, cell, options.turns + 2)
        console.print(f"[bold]{name}[/bold]\n{operators}")
        lines = [[part, f"{share:.1%}"] for part, share in broken[name].items()]
        show(console, f"where a turn goes: {name}", ("part", "share"), lines)
    verdicts, told = judge(rows), facts(options, rates)
    show(console, "per turn: one token of every row", ROW_HEADS, [row_cells(r) for r in rows])
    show(console, "targets", VERDICT_HEADS, [verdict_cells(v) for v in verdicts])
    stem = f"decode_overhead-{device.type}-{Path(options.model or options.shape).name}"
    write_atomic(options.out / f"{stem}.json", as_json(told, rows, verdicts, broken))
    write_atomic(options.out / f"{stem}.md", markdown(told, rows, verdicts, broken))


def profiled(rows: list[Row]) -> list[Cell]:
    """The longest prefix of each batch size, guided by a model of the base's own size."""
    last = {r.cell.batch: r.cell for r in rows if r.cell.guide == "same"}
    return list(last.values())


if __name__ == "__main__":
    main()
