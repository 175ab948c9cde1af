"""Tokens per second of training a guide, against a bare loop around the same transformers model.

    python benchmarks/training.py                    # CPU, one thread, a few minutes
    python benchmarks/training.py --quick            # does it run? seconds, tiny model
    python benchmarks/training.py --device cuda --shape llama-1b --bf16

See benchmarks/README.md for what the columns mean.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from overhead.report import markdown_table, show
from overhead.shapes import SHAPES, build
from rich.console import Console
from torch import nn

import trimtab as tt
from trimtab.files import write_atomic
from trimtab.training import TrainConfig
from trimtab.training.examples import (
    Example,
    LikeLengths,
    Material,
    Row,
    collate,
    to_batch,
    to_network,
)
from trimtab.training.network import GuideNetwork, make_network
from trimtab.training.objectives import TDLambda
from trimtab.training.run import fit

HERE = Path(__file__).parent
HEADS = ("prompt", "bare, one response a row", "bare, shared prompts", "trainer", "trainer / bare",
         "sharing")  # fmt: skip


@dataclass(frozen=True)
class Timed:
    """Seconds of each update, by side: the bare loop on the same batches, and on unshared ones."""

    prompt: int
    unshared: list[float]
    bare: list[float]
    trainer: list[float]

    @property
    def ratio(self) -> float:
        """Time of an update by the trainer over the bare loop's: at most 1.1 is the target."""
        return median(self.trainer) / median(self.bare)

    @property
    def sharing(self) -> float:
        """Time of an update whose responses bring their own prompts, over that of ours."""
        return median(self.unshared) / median(self.bare)

    def cells(self) -> list[str]:
        sides = (self.unshared, self.bare, self.trainer)
        return [
            str(self.prompt),
            *(f"{median(side):.2f} s" for side in sides),
            f"{self.ratio:.2f}",
            f"{self.sharing:.2f}",
        ]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m", help="random weights")
    parser.add_argument("--model", help="a model by name or folder instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--bf16", action="store_true", help="autocast")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--prompt", type=int, nargs="+", default=[40], help="its tokens")
    parser.add_argument("--response", type=int, default=32, help="mean tokens")
    parser.add_argument("--batch", type=int, default=8, help="prompts of an update, 4 responses")
    parser.add_argument("--updates", type=int, default=6, help="of a block")
    parser.add_argument("--repeats", type=int, default=3, help="blocks of each side")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args(argv)


def examples(options: argparse.Namespace, prompt: int, share: int) -> list[Example]:
    """Prompts with four responses each; one by one with `share` 1."""
    draw = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, 900, (n,), generator=draw).tolist())

    found = []
    for _ in range(options.batch * options.updates):
        asked = ids(prompt)
        lengths = torch.randint(options.response // 2, 3 * options.response // 2, (4,),
                                generator=draw)  # fmt: skip
        rows = [Row(ids(int(n)), float(i)) for i, n in enumerate(lengths)]
        found += [Example(asked, tuple(rows[i : i + share])) for i in range(0, 4, share)]
    return found


def network(base: Any, options: argparse.Namespace) -> GuideNetwork:
    """A fresh network, the same each time."""
    return make_network(base, "scalar", layers=options.layers, lora_rank=options.rank,
                        lora_alpha=2 * options.rank)  # fmt: skip


def bare(
    base: Any, data: Sequence[Example], batch: int, options: argparse.Namespace
) -> list[float]:
    """The least that a training can be: collate, forward, loss, backward, clip, AdamW."""
    net, goal = network(base, options), TDLambda()
    net.train()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    order = list(LikeLengths([e.size for e in data], batch, 0))
    seconds = []
    for at in range(0, len(order), batch):
        begun = time.perf_counter()
        tensors = {k: v.to(options.device) for k, v in collate(
            [data[i] for i in order[at : at + batch]]).items()}  # fmt: skip
        step(net, goal, tensors, options)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        _wait(options.device)
        seconds.append(time.perf_counter() - begun)
    return seconds


def step(net: GuideNetwork, goal: TDLambda, tensors: Any, options: argparse.Namespace) -> None:
    """Forward and backward."""
    kind = torch.device(options.device).type
    with torch.autocast(kind, torch.bfloat16, enabled=options.bf16):
        outputs = net(**to_network(tensors))
        loss, _ = goal(outputs, to_batch(tensors))
    loss.backward()


def trained(
    lm: tt.TransformersLM, data: Sequence[Example], options: argparse.Namespace
) -> list[float]:
    """The same through `trimtab train`'s own path; an update is the time between two reports."""
    marks = [time.perf_counter()]

    def note(step: int, steps: int, logs: Mapping[str, float]) -> None:
        if not logs:
            _wait(options.device)
            marks.append(time.perf_counter())

    material = Material(tuple(data), tuple(data[:1]))
    config = TrainConfig(
        "td-lambda", ("none",), "none", layers=options.layers, lora_rank=options.rank,
        lora_alpha=2 * options.rank, head_lr=1e-4, batch_size=4 * options.batch, warmup=0.0,
        evaluations=1, bf16=options.bf16,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        fit(config, 1e-4, TDLambda(), material, lm, Path(folder), on_progress=note)
    return [after - before for before, after in pairwise(marks[1:])]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(lm: tt.TransformersLM, prompt: int, options: argparse.Namespace) -> Timed:
    """The sides in turn, block by block; each block's first update is warm-up."""
    shared, single = (examples(options, prompt, share) for share in (4, 1))
    found = Timed(prompt, [], [], [])
    for _ in range(options.repeats):
        found.unshared.extend(bare(lm.model, single, 4 * options.batch, options)[1:])
        found.bare.extend(bare(lm.model, shared, options.batch, options)[1:])
        found.trainer.extend(trained(lm, shared, options))
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, show, write."""
    options = arguments(argv)
    if options.quick:
        options.shape, options.repeats, options.updates, options.batch = "tiny", 1, 3, 2
        options.prompt, options.layers = [8], 2
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    lm = build(options.shape, options.model, torch.device(options.device), torch.float32).lm()
    rows = [measure(lm, prompt, options) for prompt in options.prompt]
    cuda = options.device.startswith("cuda")
    facts = {
        "device": torch.cuda.get_device_name(options.device) if cuda else "CPU",
        "threads": options.threads,
        "model": options.model or f"{options.shape}, random weights",
        "guide": f"{options.layers} layers, LoRA rank {options.rank}, scalar head, TD(lambda)",
        "autocast": "bfloat16" if options.bf16 else "none",
        "update": f"{options.batch} prompts x 4 responses of {options.response} tokens",
        "updates": len(rows[0].trainer),
        "versions": f"trimtab {tt.__version__}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
    }
    show(Console(width=120), "seconds of an update, medians", HEADS, [row.cells() for row in rows])
    name = Path(options.model or options.shape).name
    stem = options.out / f"training-{torch.device(options.device).type}-{name}"
    data = {"facts": facts, "rows": [asdict(r) | {"ratio": r.ratio, "sharing": r.sharing}
                                     for r in rows]}  # fmt: skip
    write_atomic(stem.with_suffix(".json"), json.dumps(data, indent=2) + "\n")
    said = "\n".join(f"- {k}: {v}" for k, v in facts.items())
    table = markdown_table(HEADS, [row.cells() for row in rows])
    write_atomic(stem.with_suffix(".md"), f"# Training against a bare loop\n\n{said}\n\n{table}\n")


if __name__ == "__main__":
    main()
