"""Doing what is missing: one process or several, which may be killed at any moment.

A unit is claimed by a lock that its process' death frees, decoded, and published by one rename. A
process that finds a unit claimed goes on to the next, and comes back to see whether it was done.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from trimtab.decoding.loop import decode
from trimtab.errors import ResultsError, UsageError
from trimtab.evaluation.cells import Unit
from trimtab.evaluation.store import Store
from trimtab.protocols import Guide, LanguageModel
from trimtab.runs.identity import identify
from trimtab.types import Completion

PATIENCE = 0.2
"""Seconds between two looks at units that others work on."""

OpenModel: TypeAlias = Callable[[], LanguageModel[Any]]
"""Opens the base; picklable where several workers are wanted: `partial(TransformersLM, "...")`."""


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        stage: "start" (a unit is decoded next), "unit" (one was finished), or "score".
        done: finished units, by whoever.
        total: units of this call.
        computed: units that this process and its workers finished.
        unit: key of the unit that this is about; "" where several workers report together.
    """

    stage: str
    done: int
    total: int
    computed: int
    unit: str = ""


OnProgress: TypeAlias = Callable[[Progress], object]


class Decoder:
    """A base with the guides that its units name, opened once each."""

    def __init__(self, lm: LanguageModel[Any]) -> None:
        self.lm = lm
        self._guides: dict[str, Guide[Any]] = {}

    def __call__(self, unit: Unit) -> list[Completion]:
        """The unit's completions."""
        guide = None
        if unit.guide is not None:
            key = unit.guide.fingerprint
            if key not in self._guides:
                self._guides[key] = unit.guide.open(self.lm)
            guide = self._guides[key]
        return decode(
            self.lm,
            guide,
            unit.method,
            [item.prompt for item in unit.items],
            n=unit.n,
            seed=unit.seed,
            max_new_tokens=unit.max_new_tokens,
        )


def work(store: Store, lm: LanguageModel[Any], units: Sequence[Unit], on: OnProgress) -> int:
    """Finish every unit in this process, beside whoever else works on the folder.

    Returns:
        How many this process computed.
    """
    decoder, computed = Decoder(lm), 0
    todo = deque(unit for unit in units if not store.has(unit))

    def say(stage: str, unit: Unit) -> None:
        on(Progress(stage, len(units) - len(todo), len(units), computed, unit.key))

    while todo:
        waiting = len(todo)
        for _ in range(waiting):
            unit = todo.popleft()
            with store.claim(unit.key) as mine:
                if store.has(unit):  # asked under the claim: it may have been finished just now
                    continue
                if not mine:
                    todo.append(unit)
                    continue
                say("start", unit)
                started = time.perf_counter()
                completions = decoder(unit)
                store.write(unit, completions, time.perf_counter() - started)
                computed += 1
            say("unit", unit)
        if len(todo) == waiting:
            time.sleep(PATIENCE)
    return computed


def work_together(
    store: Store,
    open_lm: OpenModel,
    task: str,
    units: Sequence[Unit],
    workers: int,
    on: OnProgress,
) -> int:
    """Finish every unit with several processes of one torch thread each.

    Returns:
        How many they computed.

    Raises:
        ResultsError: a worker died.
        UsageError: model, guides or rewards cannot be sent to another process.
    """
    spawn = multiprocessing.get_context("spawn")
    missing = [unit for unit in units if not store.has(unit)]
    if not missing:
        return 0
    _check_picklable(open_lm, missing)
    with ProcessPoolExecutor(min(workers, len(missing)), mp_context=spawn) as pool:
        asked = [
            pool.submit(_worker, str(store.folder), open_lm, task, missing)
            for _ in range(min(workers, len(missing)))
        ]
        try:
            _watch(store, asked, units, missing, on)
            return sum(future.result() for future in asked)
        except BrokenProcessPool as error:
            raise ResultsError(
                "workers must live until the work is done",
                got="one that was killed (often: no memory left)",
                do="run it again, perhaps with fewer workers: what is finished is kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _check_picklable(*parts: object) -> None:
    """Said before a pool is made: one that finds out by itself may never end."""
    try:
        pickle.dumps(parts)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "with several workers the model's opener, guides and rewards must be picklable",
            got=str(error),
            do="define them at a module's top level, or use workers=1",
        ) from error


def _watch(
    store: Store,
    asked: Sequence[Future[int]],
    units: Sequence[Unit],
    missing: Sequence[Unit],
    on: OnProgress,
) -> None:
    """Report until all workers have returned or one has failed."""
    known, total, before = len(units) - len(missing), len(units), -1
    waiting: set[Future[int]] = set(asked)
    while waiting:
        done, waiting = wait(waiting, timeout=PATIENCE, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        finished = sum(store.has(unit) for unit in missing)
        if finished != before:
            on(Progress("unit", known + finished, total, finished))
            before = finished


def _worker(folder: str, open_lm: OpenModel, task: str, units: Sequence[Unit]) -> int:
    """What runs in each worker: its own model, its own look at the folder."""
    torch.set_num_threads(1)
    lm = open_lm()
    return work(Store(Path(folder), identify(lm), task), lm, units, lambda _: None)
