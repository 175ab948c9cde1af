"""The table's rows: which are measured, and how one is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

import trimtab as tt
from overhead.bounds import Forward, Rates, head_work
from overhead.breakdown import BASE, GUIDE, Clock, Watched, shares, top_operators, watch_forward
from overhead.reencoding import reencoding_flops, reencoding_turns
from overhead.shapes import GUIDES, Bench
from overhead.timing import Side, alternate, generate_seconds, turns_of
from trimtab.protocols import Guide, LanguageModel

BETA = 1.0


@dataclass(frozen=True)
class Cell:
    """What one row measures."""

    guide: str
    k: int
    prefix: int
    batch: int


@dataclass(frozen=True)
class Plan:
    """How often: `repeats` windows of `turns` turns; re-encoding only below a time limit."""

    repeats: int
    turns: int
    reencode_limit: float


@dataclass(frozen=True)
class Row:
    """Seconds per turn: one emitted token of every row of the batch."""

    cell: Cell
    unguided: float
    guided: float
    spread: float
    generate: float | None
    reencoding: float | None
    same_tokens: bool | None
    bound_unguided: float
    bound_guided: float
    attention: float
    kernels: float


QUICK = [Cell("same", 2, 8, 1), Cell("6-layer", 2, 16, 2), Cell("vocabulary", 2, 16, 2)]


def grid(name: str) -> list[Cell]:
    """The rows of a grid: `full` is every combination; `small` is what a CPU does in minutes."""
    if name == "full":
        full = itertools.product((64, 512, 2048), (1, 8), GUIDES, (1, 10, 20))
        return [Cell(g, k, p, b) for p, b, g, k in full]
    kinds = [("same", 1), ("same", 10), ("same", 20), ("6-layer", 10), ("vocabulary", 10)]
    few = [("same", 10), ("6-layer", 10), ("vocabulary", 10)]
    plan = {(64, 1): kinds, (512, 1): kinds, (2048, 1): few, (64, 8): few, (512, 8): few}
    return [Cell(g, k, p, b) for (p, b), cells in plan.items() for g, k in cells]


def measure(bench: Bench, cell: Cell, plan: Plan, rates: Rates, generate: float | None) -> Row:
    """One row: guided, unguided and, where it is worth its time, re-encoding, interleaved."""
    device, ids = bench.model.device, prompt_ids(bench, cell.prefix)
    guide, told = bench.guide(cell.guide), list[tuple[int, ...]]()
    lm = bench.lm()
    unguided = Side(decoding(lm, None, tt.greedy(), ids, cell.batch), device)
    guided = Side(_noted(decoding(lm, guide, tt.args(BETA, cell.k), ids, cell.batch), told), device)
    alternate([unguided, guided], plan.repeats, plan.turns)
    reencoding = same = None
    wait = _reencoding_seconds(guide, cell, rates)
    if isinstance(guide, tt.ValueGuide) and wait < plan.reencode_limit:
        turns = reencoding_turns(bench.model, guide, [ids] * cell.batch, cell.k, BETA)
        theirs = list[tuple[int, ...]]()
        side = Side(_noted(turns, theirs), device, warm_up=1)
        alternate([guided, side], 3 if wait < 1 else 1, 1)
        reencoding, same = side.seconds, theirs[1:] == told[: len(theirs) - 1]
    at = cell.prefix + plan.repeats * plan.turns // 2
    base, extra = Forward(bench.model, cell.batch, 1, at), _guide_forward(guide, cell, at)
    head = head_work(guide.head, cell.batch * extra.queries).seconds(rates)
    own = base.attention_seconds(), extra.attention_seconds()
    return Row(
        cell,
        unguided.seconds,
        guided.seconds,
        guided.spread,
        generate,
        reencoding,
        same,
        base.work.seconds(rates),
        base.work.seconds(rates) + extra.work.seconds(rates) + head,
        sum(own),
        sum(own) + base.matmul_seconds() + extra.matmul_seconds(),
    )


def measure_generate(bench: Bench, prefix: int, batch: int, plan: Plan) -> float:
    """The sanity column: transformers' own greedy loop."""
    return generate_seconds(bench.model, prompt_ids(bench, prefix), batch, 3, plan.turns + 2)


def prompt_ids(bench: Bench, length: int) -> list[int]:
    """Made-up ids, the same for every side."""
    generator = torch.Generator().manual_seed(length)
    size = bench.model.config.get_text_config().vocab_size
    return torch.randint(3, size, (length,), generator=generator).tolist()


def decoding(
    lm: LanguageModel[Any], guide: Guide[Any] | None, method: tt.Method, ids: list[int], rows: int
) -> Iterator[list[tt.Step]]:
    """Turns of our loop; all rows fork one reading of the prompt."""
    steps = tt.decode_steps(
        lm, guide, method, [tt.Prompt(tuple(ids))], n=rows, max_new_tokens=10**6, stop_at_eos=False
    )
    return turns_of(steps, rows)


def _noted(turns: Iterator[Sequence[Any]], told: list[tuple[int, ...]]) -> Iterator[None]:
    """The same turns; their tokens go to `told`."""
    for turn in turns:
        told.append(tuple(getattr(s, "tokens", (s,))[0] for s in turn))
        yield


def _guide_forward(guide: tt.ValueGuide | tt.VocabularyGuide, cell: Cell, at: int) -> Forward:
    queries = cell.k if isinstance(guide, tt.ValueGuide) else 1
    return Forward(guide.backbone, cell.batch, queries, at)


def _reencoding_seconds(
    guide: tt.ValueGuide | tt.VocabularyGuide, cell: Cell, rates: Rates
) -> float:
    """What a token of the baseline will take at least."""
    return reencoding_flops(guide.backbone, cell.batch, cell.k, cell.prefix) / rates.flops


def break_down(bench: Bench, cell: Cell, turns: int) -> tuple[dict[str, float], str]:
    """Shares of a guided turn by part, and the operators that took longest."""
    lm, guide, device = bench.lm(), bench.guide(cell.guide), bench.model.device
    clock, ids = Clock(device), prompt_ids(bench, cell.prefix)
    base: Any = Watched(lm, clock, BASE)
    aux: Any = Watched(guide, clock, GUIDE)
    stream = decoding(base, aux, tt.args(BETA, cell.k), ids, cell.batch)
    with ExitStack() as stack:
        stack.enter_context(watch_forward(bench.model, clock, "base forward"))
        stack.enter_context(watch_forward(guide.backbone, clock, "guide forward"))
        for warm in range(turns + 2):
            next(stream)
            if warm == 1:
                clock.restart()
        clock.enter("loop")
        clock.leave()
    found = shares(clock)
    return found, top_operators(stream, turns, device)
