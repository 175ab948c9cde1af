"""Plain sampling, as rollouts are made, against transformers' own `model.generate`.

    python benchmarks/rollouts.py --model smollm2             # CPU, one thread, some minutes
    python benchmarks/rollouts.py --quick                     # does it run? seconds, tiny model
    python benchmarks/rollouts.py --device cuda --dtype bfloat16 --shape llama-1b

See benchmarks/README.md for what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from overhead.report import markdown_table, show
from overhead.shapes import SHAPES, build
from overhead.timing import settle
from rich.console import Console

import trimtab as tt
from trimtab.files import write_atomic
from trimtab.types import Sample

HERE = Path(__file__).parent
SCALING = ("processes", "tokens/s of one", "tokens/s of all", "all / one")
HEADS = ("batch", "generate s", "decode s", "decode / generate", "spread")
WORDS = ["river", "salt", "window", "seven", "music", "north", "paper", "glass", "winter", "engine"]
"""Prompts of a few words each; no two rows of a batch have the same length and text."""


@dataclass(frozen=True)
class Row:
    """Seconds of each whole call, side by side; `ratio` is of the medians."""

    batch: int
    generate: list[float]
    decode: list[float]

    @property
    def ratio(self) -> float:
        return median(self.decode) / median(self.generate)

    @property
    def spread(self) -> float:
        """Distance between the quartiles of the calls' own ratios."""
        own = sorted(ours / theirs for ours, theirs in zip(self.decode, self.generate, strict=True))
        return own[(3 * len(own)) // 4] - own[len(own) // 4]

    def cells(self) -> list[str]:
        times = (f"{median(side):.2f}" for side in (self.generate, self.decode))
        return [str(self.batch), *times, f"{self.ratio:.2f}", f"{self.spread:.2f}"]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", choices=SHAPES, default="smollm2-135m", help="random weights of this shape"
    )
    parser.add_argument("--model", help="a model by name or folder instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32, 64], help="rows")
    parser.add_argument("--new", type=int, default=48, help="tokens of every response")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=5, help="calls per side, interleaved")
    parser.add_argument("--workers", type=int, default=2, help="processes that collect beside one")
    parser.add_argument("--quick", action="store_true", help="a tiny shape and two batches")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    return parser.parse_args(argv)


def prompts(lm: tt.TransformersLM, rows: int) -> list[tt.Prompt]:
    """Short prompts that differ."""
    texts = (" ".join([*WORDS[: 1 + i % len(WORDS)], str(i)]) for i in range(rows))
    return [lm.encode(text) for text in texts]


def decode(
    lm: tt.TransformersLM, rows: Sequence[tt.Prompt], options: argparse.Namespace
) -> list[int]:
    """Our loop, texts and ledger included; the number of new tokens of each row."""
    done = tt.decode(
        lm,
        None,
        tt.sampling(options.temperature),
        rows,
        max_new_tokens=options.new,
        stop_at_eos=False,
    )
    return [len(response.tokens) for response in done]


@torch.inference_mode()
def generate(
    lm: tt.TransformersLM, rows: Sequence[tt.Prompt], options: argparse.Namespace
) -> list[int]:
    """transformers' loop, ids only. Without EOS it has neither a stop to test nor one to forbid."""
    width = max(len(p.ids) for p in rows)
    ids = torch.tensor([[0] * (width - len(p.ids)) + list(p.ids) for p in rows])
    mask = torch.tensor([[0] * (width - len(p.ids)) + [1] * len(p.ids) for p in rows])
    model: Any = lm.model
    out = model.generate(
        ids.to(lm.device),
        attention_mask=mask.to(lm.device),
        max_new_tokens=options.new,
        do_sample=True,
        temperature=options.temperature,
        top_k=0,
        top_p=1.0,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [len(row) - width for row in out.tolist()]


def seconds(side: Callable[[], Any], device: torch.device) -> float:
    """One whole call. On the CPU in seconds of this process, which others' work does not enter."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    side()
    settle(device)
    return clock() - start


def measure(lm: tt.TransformersLM, batch: int, options: argparse.Namespace) -> Row:
    """Whole calls of both sides in turn, after a warm-up of each; which goes first alternates."""
    rows = prompts(lm, batch)
    sides: list[Callable[[], list[int]]]
    sides = [partial(side, lm, rows, options) for side in (generate, decode)]
    for side in sides:
        assert side() == [options.new] * batch, "both sides must write the same number of tokens"
    times: list[list[float]] = [[], []]
    for repeat in range(options.repeats):
        for i in (0, 1) if repeat % 2 else (1, 0):
            times[i].append(seconds(sides[i], lm.device))
    return Row(batch, *times)


# --- several processes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaling:
    """Tokens per second of `collect` by one process and by several, of the same folder."""

    workers: int
    one: list[float]
    several: list[float]

    def cells(self) -> list[str]:
        one, several = median(self.one), median(self.several)
        return [str(self.workers), f"{one:.1f}", f"{several:.1f}", f"{several / one:.2f}"]


def opened(shape: str, model: str | None, device: str, dtype: str) -> tt.TransformersLM:
    """The base again, in this process or in a worker."""
    torch.manual_seed(0)
    return build(shape, model, torch.device(device), getattr(torch, dtype)).lm()


def scaling(options: argparse.Namespace) -> Scaling:
    """Whole calls in turn, on the clock of the wall; the start of the workers is part of them."""
    opener = partial(opened, options.shape, options.model, options.device, options.dtype)
    lm, rows = opener(), max(options.batch)
    count = 2 * options.workers * rows
    asked = [Sample(f"{' '.join(WORDS[: 1 + i % len(WORDS)])} {i}", f"{i}") for i in range(count)]
    speeds: list[list[float]] = [[], []]
    for repeat in range(options.repeats):
        for side in (0, 1) if repeat % 2 else (1, 0):
            processes = tt.Processes(options.workers if side else 1, opener)
            with TemporaryDirectory() as folder:
                start = time.perf_counter()
                manifest = tt.collect(
                    lm, asked, folder, n=1, rows=rows, max_new_tokens=options.new,
                    processes=processes,
                )  # fmt: skip
                taken = time.perf_counter() - start
            speeds[side].append(manifest["counts"]["tokens"] / taken)
    return Scaling(options.workers, *speeds)


def facts(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers hang on."""
    cuda = options.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(options.device) if cuda else "CPU",
        "threads": options.threads,
        "clock": "wall" if cuda else "CPU time of the process",
        "model": options.model or f"{options.shape}, random weights",
        "dtype": options.dtype,
        "new tokens": options.new,
        "temperature": options.temperature,
        "repeats": options.repeats,
        "versions": f"trimtab {tt.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
    }


def save(stem: Path, told: dict[str, Any], rows: Iterable[Row], several: Scaling | None) -> None:
    """The same results as data and as a page."""
    data = {"facts": told, "rows": [asdict(row) | {"ratio": row.ratio} for row in rows]}
    data |= {"processes": asdict(several)} if several else {}
    write_atomic(stem.with_suffix(".json"), json.dumps(data, indent=2) + "\n")
    parts = [
        "# Rollouts: decode against generate",
        "\n".join(f"- {k}: {v}" for k, v in told.items()),
    ]
    write_atomic(
        stem.with_suffix(".md"),
        "\n\n".join(
            [
                *parts,
                markdown_table(HEADS, [r.cells() for r in rows]),
                *([markdown_table(SCALING, [several.cells()])] if several else []),
            ]
        )
        + "\n",
    )


def main(argv: list[str] | None = None) -> None:
    """Measure, show, write."""
    options = arguments(argv)
    if options.quick:
        options.shape, options.batch, options.new, options.repeats = "tiny", [2, 5], 4, 2
        options.workers = 1
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bench = build(
        options.shape, options.model, torch.device(options.device), getattr(torch, options.dtype)
    )
    rows = [measure(bench.lm(), batch, options) for batch in options.batch]
    told = facts(options)
    show(Console(width=120), "whole calls", HEADS, [row.cells() for row in rows])
    several = scaling(options) if options.workers > 1 else None
    if several is not None:
        show(Console(width=120), "collect", SCALING, [several.cells()])
    name = Path(options.model or options.shape).name
    save(options.out / f"rollouts-{torch.device(options.device).type}-{name}", told, rows, several)


if __name__ == "__main__":
    main()
