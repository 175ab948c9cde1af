"""Clocks: seconds per turn of generators that are driven side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria


def settle(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Median seconds of a call after one warm-up call."""
    work()
    settle(device)
    times = [_timed(work, device) for _ in range(repeats)]
    return median(times)


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    settle(device)
    return time.perf_counter() - start


class Side:
    """One of the things compared: an endless stream of turns, timed a window at a time.

    The first turns hold the reading of the prompt, the growth of caches and the device's warm-up,
    so they are taken before the clock runs. The device is idle at both ends of a window; else a
    turn that is still in flight would count for the other side.
    """

    def __init__(self, turns: Iterator[Any], device: torch.device, warm_up: int = 2) -> None:
        self.turns, self.device, self.windows = turns, device, list[float]()
        for _ in range(warm_up):
            next(turns)
        settle(device)

    def window(self, turns: int) -> None:
        """Time some turns."""
        start = time.perf_counter()
        for _ in range(turns):
            next(self.turns)
        settle(self.device)
        self.windows.append((time.perf_counter() - start) / turns)

    @property
    def seconds(self) -> float:
        """Median over windows of the seconds per turn."""
        return median(self.windows)

    @property
    def spread(self) -> float:
        """Distance between the quartiles over the median."""
        ordered, n = sorted(self.windows), len(self.windows)
        return (ordered[(3 * n) // 4] - ordered[n // 4]) / self.seconds if n > 1 else 0.0


def alternate(sides: Sequence[Side], repeats: int, turns: int) -> None:
    """Windows of all sides in turn, so that a drift of the machine meets all of them."""
    for _ in range(repeats):
        for side in sides:
            side.window(turns)


def turns_of(steps: Iterator[Any], rows: int) -> Iterator[list[Any]]:
    """Steps in groups of one per row: one turn of the loop each."""
    while True:
        yield [next(steps) for _ in range(rows)]


class _Stamps(StoppingCriteria):
    """Notes when each token of `generate` is there."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.times = device, list[float]()

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        settle(self.device)
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def generate_seconds(model: Any, ids: Sequence[int], rows: int, repeats: int, turns: int) -> float:
    """Median seconds per token of `model.generate`, greedy, after the prompt has been read."""
    prompt = torch.tensor([list(ids)], device=model.device)
    cache = DynamicCache(config=model.config)
    model.base_model(prompt[:, :-1], past_key_values=cache)
    cache.batch_repeat_interleave(rows)
    prompt, found = prompt.repeat(rows, 1), []
    for _ in range(repeats + 1):
        stamps = _Stamps(model.device)
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=cache,
            max_new_tokens=turns + 2,
            min_new_tokens=turns + 2,
            do_sample=False,
            pad_token_id=0,
            stopping_criteria=[stamps],
        )
        found.append((stamps.times[-1] - stamps.times[1]) / (len(stamps.times) - 2))
        cache.crop(len(ids) - 1 - cache.get_seq_length())
    return median(found[1:])
