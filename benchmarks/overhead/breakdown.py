"""Where a turn's time goes, seen from outside: hooks on the networks, a clock around each reader.

The device is waited for at every border, so parts add up but nothing overlaps: on an accelerator
the sum is more than a turn takes when nobody looks.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from overhead.timing import settle


class Clock:
    """Seconds by name. An inner part is taken from the outer one, so every moment counts once."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.spent = device, defaultdict[str, float](float)
        self._open: list[str] = []
        self._last = time.perf_counter()

    def _tick(self) -> None:
        settle(self.device)
        now = time.perf_counter()
        self.spent[self._open[-1] if self._open else "loop"] += now - self._last
        self._last = now

    def enter(self, name: str) -> None:
        """A part begins."""
        self._tick()
        self._open.append(name)

    def leave(self) -> None:
        """The innermost part ends."""
        self._tick()
        self._open.pop()

    def restart(self) -> None:
        """Forget what was counted."""
        self._tick()
        self.spent.clear()


class Watched:
    """A reader whose methods are clocked; all else is the reader's own."""

    def __init__(self, reader: Any, clock: Clock, names: dict[str, str]) -> None:
        self._reader, self._clock, self._names = reader, clock, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if name not in self._names:
            return found

        def clocked(*args: Any, **kwargs: Any) -> Any:
            self._clock.enter(self._names[name])
            try:
                return found(*args, **kwargs)
            finally:
                self._clock.leave()

        return clocked


@contextmanager
def watch_forward(net: nn.Module, clock: Clock, name: str) -> Iterator[None]:
    """Clock the network's forward, and attention layers (all but their projections) inside it."""
    hooks = []
    for module, label in [(net, name), *((m, f"{name}: attention") for m in _attentions(net))]:
        hooks += _hooked(module, clock, label)
        if module is not net:
            for child in module.children():
                hooks += _hooked(child, clock, name)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hooked(module: nn.Module, clock: Clock, label: str) -> list[Any]:
    return [
        module.register_forward_pre_hook(lambda *_: clock.enter(label)),
        module.register_forward_hook(lambda *_: clock.leave()),
    ]


def _attentions(net: nn.Module) -> list[nn.Module]:
    """Attention layers, by the name that transformers gives them."""
    return [m for name, m in net.named_modules() if name.endswith(("self_attn", ".attn"))]


BASE = {"extend": "base: masks, cache, log-softmax", "propose": "propose: top k"}
GUIDE = {"extend": "guide: keep the chosen", "score": "guide: masks, cache, head"}


def shares(clock: Clock) -> dict[str, float]:
    """Part of the whole by name, the largest first."""
    total = sum(clock.spent.values())
    ordered = sorted(clock.spent.items(), key=lambda kv: -kv[1])
    return {name: spent / total for name, spent in ordered}


def top_operators(turns: Iterator[Any], count: int, device: torch.device, most: int = 12) -> str:
    """torch.profiler's table of the operators that took longest."""
    cuda = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as found:
        for _ in range(count):
            next(turns)
        settle(device)
    key = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=key, row_limit=most, max_name_column_width=40))
