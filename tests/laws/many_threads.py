"""Calls at the same time against the same calls one after the other; run as a script: 640 of them.

The script is for a process without shape checks, which take longer than nets of this size.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import trimtab as tt
from tests import toys
from trimtab.guides import ScalarHead
from trimtab.types import Completion

Call = Callable[[], list[Completion]]


def at_once(threads: int, work: Callable[[int], Any]) -> list[Any]:
    """What `work(i)` returns for each thread; none begins before all are there."""
    gate = threading.Barrier(threads)

    def run(i: int) -> Any:
        gate.wait()
        return work(i)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def hold_threads_to(calls: Sequence[Call], threads: int, each: int) -> None:
    """Thread i makes the calls i, i + 1, ...; every one must be as it is alone, to the last bit."""
    want = [call() for call in calls]
    got = at_once(threads, lambda i: [calls[(i + r) % len(calls)]() for r in range(each)])
    for i, done in enumerate(got):
        for r, completions in enumerate(done):
            assert completions == want[(i + r) % len(calls)]


def slots_are_free(*things: Any) -> None:
    gc.collect()
    for thing in things:
        store = thing.reader.store
        assert store.free == store.slots


def calls_of(lm: Any, guide: Any, methods: Sequence[tt.Method], **options: Any) -> list[Call]:
    """A call for each method, with prompts and a seed of its own."""

    def call(i: int, method: tt.Method) -> Call:
        if isinstance(lm, tt.TableLM):
            prompts: Any = ["ab" * (i + 1), "c"]
        else:
            prompts = toys.prompts(3 + 4 * i, 9 - 2 * i, seed=i)
        return lambda: tt.decode(lm, guide, method, prompts, seed=i, **options)

    return [call(i, method) for i, method in enumerate(methods)]


SOME = (tt.vas(beta=2.0, k=4), tt.args(beta=3.0, k=6), tt.pargs(beta=1.0, k=2))


def small(seed: int) -> Any:
    """A network that takes a millisecond."""
    config = toys.config("llama")
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 1, 16, 16
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()


def head(seed: int = 0) -> ScalarHead:
    torch.manual_seed(seed)
    made = ScalarHead(16)
    torch.nn.init.normal_(made.linear.weight, std=2.0)
    return made


def main() -> None:
    """64 threads with 10 calls each, of three kinds, on one model and guide."""
    lm = tt.TransformersLM(small(0), toys.tokenizer())
    guide = tt.ValueGuide(small(1).base_model, head())
    (one,) = calls_of(lm, guide, SOME[:1], max_new_tokens=2)
    (two,) = calls_of(lm, guide, SOME[1:2], max_new_tokens=2, n=2)
    (longer,) = calls_of(lm, guide, SOME[2:], max_new_tokens=3)
    hold_threads_to([one, two, longer], threads=64, each=10)
    slots_are_free(lm, guide)
    print("all equal, all slots free")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
