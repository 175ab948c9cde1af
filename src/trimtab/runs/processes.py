"""Who does the work of a run: this process, workers that it starts, ranks of a launcher, or Ray.

All of them run the same `Worker` on the same folder, so no text, score or file depends on it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.synchronize import Event
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from trimtab.errors import ResultsError, TrimtabError, UsageError
from trimtab.plugins import optional
from trimtab.protocols import LanguageModel
from trimtab.runs.batches import Batch
from trimtab.runs.resolve import OpenModel
from trimtab.runs.store import Store
from trimtab.runs.worker import PATIENCE, OnProgress, Progress, Work, Worker, base_of, silent


@dataclass(frozen=True)
class Processes:
    """Who does the work; no text, score or file depends on it.

    Attributes:
        workers: how many processes share the work: of this machine, or of Ray's cluster.
        opener: opens the base again in a worker, such as `partial(TransformersLM, "smollm2")`; more
            than one worker needs it where texts are decoded, and so does Ray.
        on: "ray" for the cluster that the environment names, else a new one on this machine;
            "ray://HOST:PORT" or "HOST:PORT" for that one. All of its nodes must see the folder
            under its path.
        rank: of a process that a launcher started beside others, see `rank_of`; 0 finishes a kept
            folder.
        threads: CPU threads of each process, on which the last bits of numbers depend; None leaves
            this process as it is, and gives others one.
    """

    workers: int = 1
    opener: OpenModel | None = None
    on: str | None = None
    rank: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1", got=f"{value}", do="raise it")

    @property
    def elsewhere(self) -> bool:
        """Whether other processes do the work."""
        return self.workers > 1 or self.on is not None


def check_opener(processes: Processes) -> None:
    """Raise `UsageError` where other processes are to decode and cannot open the base."""
    if processes.elsewhere and processes.opener is None:
        raise UsageError(
            "several workers open the model themselves",
            got="no opener",
            do="pass a function that opens it, such as opener=partial(TransformersLM, name)",
        )


def hand_out(work: Work, processes: Processes, open_lm: OpenModel, on: OnProgress = silent) -> int:
    """Finish all batches of a run; how many this process, and those it started, decoded."""
    if not processes.elsewhere:
        with threads(processes.threads):
            return Worker(work, open_lm, on).run()
    store = Store(work.folder)
    missing = work.missing(store)
    if not missing:
        on(Progress("decode", work.total, work.total))
        return 0
    if any(batch.policy is not None and not store.has(batch.key) for batch in missing):
        check_opener(processes)
    task = Task(replace(work, batches=missing), processes.opener, processes.threads or 1)
    watch = Watch(store, work, missing, on)
    if processes.on is not None:
        return _work_on_ray(task, processes.workers, processes.on, watch)
    return _work_together(task, min(processes.workers, len(missing)), watch)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many CPU threads, as in every other process of the run; as before, afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class Watch:
    """Tells how far other processes are, by looking at the folder."""

    store: Store
    work: Work
    open: Sequence[Batch]  # what was not finished when it was last looked at
    on: OnProgress
    tokens: int = 0

    def __post_init__(self) -> None:
        self._unwritten = {b.key for b in self.open if not self.store.has(b.key)}

    def look(self) -> None:
        """Tell what was finished since the last look."""
        rewards = [scorer.key for scorer in self.work.scoring.scorers]
        finished = {b.key for b in self.open if not self.store.missing([b.key], rewards)}
        for key in finished & self._unwritten:
            rows = self.store.read(key, ledger=False)
            self.tokens += sum(len(r.tokens) for row in rows for r in row.group.responses)
        self.open = [batch for batch in self.open if batch.key not in finished]
        done = self.work.total - sum(batch.responses for batch in self.open)
        self.on(Progress("decode", done, self.work.total, self.tokens))


@dataclass(frozen=True)
class Task:
    """What a worker is sent."""

    work: Work
    opener: OpenModel | None  # None where all texts are there
    threads: int

    def open(self) -> LanguageModel[Any]:
        """The base, which must be that of the run."""
        assert self.opener is not None
        lm = self.opener()
        if base_of(lm) != self.work.base:
            raise UsageError(
                "workers must open the model of the job", got="another one", do="mend `opener`"
            )
        return lm

    def worker(self, stop: Callable[[], bool] = lambda: False) -> Worker:
        """What does it, in the process that it was sent to."""
        return Worker(self.work, self.open, silent, stop)


def _died() -> ResultsError:
    return ResultsError(
        "workers must live until the work is done",
        got="one that was killed (often: no memory left)",
        do="run it again, perhaps with fewer workers: what is finished is kept",
    )


# --- workers of this machine ---------------------------------------------------------------------


def _work_together(task: Task, count: int, watch: Watch) -> int:
    """Finish every batch with several processes."""
    try:  # one that finds out by itself may never end
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "with several workers the model's opener, guides and rewards must be picklable",
            got=f"{error}",
            do="define them at a module's top level, or use one worker",
        ) from error
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with ProcessPoolExecutor(count, spawn, _begin, (stop,)) as pool:
        futures = [pool.submit(_worker, task) for _ in range(count)]
        waiting = set(futures)
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=PATIENCE, return_when=FIRST_EXCEPTION)
                for future in ended:
                    future.result()
                watch.look()
            return sum(future.result() for future in futures)
        except BrokenProcessPool as error:
            raise _died() from error
        finally:
            stop.set()  # one has failed, or somebody has lost patience: the others need not go on
            pool.shutdown(wait=True, cancel_futures=True)


_STOP: list[Event] = []
"""Of a worker: set when it is to stop."""


def _begin(stop: Event) -> None:
    """What each worker does first. Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    disable_progress_bar()  # of loading; the parent has the one bar
    _STOP[:] = [stop]
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End when the process that started this one has ended, however it did: locks are free then."""
    connection.wait([parent])
    os._exit(1)


def _worker(task: Task) -> int:
    """What runs in each worker: its own model, its own look at the folder."""
    with threads(task.threads):
        return task.worker(_STOP[0].is_set).run()


# --- Ray -----------------------------------------------------------------------------------------
#
# A batch is a task, which any node may do, or do again. A node that dies takes its unfinished
# batches with it; Ray has others do them. Publishing is one atomic rename of bytes that are the
# same whoever makes them, so nothing is lost and nothing doubled.

CONNECTING = 10.0
"""Seconds until a cluster that does not answer counts as gone."""

RETRIES = 5
"""How often a batch is given to another node after the one that had it has died."""


def _work_on_ray(task: Task, workers: int, place: str, watch: Watch) -> int:
    """Finish every batch of a task on Ray's nodes, so many at a time."""
    ray = optional("ray", "ray", user="work on a Ray cluster")
    begun = not ray.is_initialized()
    if begun:
        _connect(ray, place)
    try:
        return _finish(ray, task, workers, watch)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TrimtabError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise _died() from error
    finally:
        if begun:
            ray.shutdown()


def _connect(ray: Any, place: str) -> None:
    address = None if place == "ray" else place
    try:
        if address is not None:  # Ray itself would go on trying for minutes
            host, _, port = place.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECTING).close()
        ray.init(address=address, log_to_driver=False)
    except (OSError, ValueError) as error:
        raise UsageError(
            "the Ray cluster must be there", got=f"{place} ({error})", do="start it by `ray start`"
        ) from error


def _finish(ray: Any, task: Task, workers: int, watch: Watch) -> int:
    """Keep so many batches under way until all are done."""
    gpus = 1 if task.work.base.get("device") == "cuda" else 0
    remote = ray.remote(num_cpus=task.threads, num_gpus=gpus, max_retries=RETRIES)(_one)
    shared = ray.put(replace(task, work=replace(task.work, batches=())))
    todo, running, computed = list(reversed(task.work.batches)), list[Any](), 0
    job = secrets.token_hex(8)
    try:
        while todo or running:
            while todo and len(running) < workers:
                running.append(remote.remote(job, shared, todo.pop()))
            ended, running = ray.wait(running, timeout=PATIENCE)
            computed += sum(ray.get(ended))
            watch.look()
    finally:
        for reference in running:
            ray.cancel(reference)
    return computed


_WORKERS: dict[str, Worker] = {}
"""Of a process of a node: the worker of the job that it works for, whose model is open."""


def _one(job: str, task: Task, batch: Batch) -> int:
    """What a node does: finish one batch, with the model that it has open already."""
    if job not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[job] = task.worker()
    worker = _WORKERS[job]
    before = worker.computed
    worker.work = replace(task.work, batches=(batch,))
    with threads(task.threads):
        return worker.run() - before


# --- ranks ---------------------------------------------------------------------------------------

LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""What torchrun, and srun, call the rank of a process and the number of processes."""


def rank_of(
    environment: Mapping[str, str], *, workers: int = 1, processes: int | None = None
) -> tuple[int, int]:
    """Which of how many processes this one is, by what `torchrun` or `srun` has set.

    Args:
        environment: `os.environ`.
        workers: processes that this one would start itself.
        processes: how many the user means to have started; None to take what there are. A
            launcher that quietly starts fewer is found out by it.

    Returns:
        (rank, how many).

    Raises:
        UsageError: the two do not fit, or the launcher has not said which process this is.
    """
    rank_name, many_name = next(
        (names for names in LAUNCHERS if names[1] in environment), LAUNCHERS[0]
    )
    try:
        many = int(environment.get(many_name, "1"))
        rank = int(environment.get(rank_name, "0" if many == 1 else "-1"))
    except ValueError:
        many, rank = 0, -1
    if not 0 <= rank < many:
        raise UsageError(
            f"of several processes each must know its {rank_name}, from 0 to {many_name} - 1",
            got=f"{rank_name} {environment.get(rank_name)}, "
            f"{many_name} {environment.get(many_name)}",
            do="start them by `torchrun --nproc-per-node N -m trimtab collect ...` or by srun, "
            f"or unset {many_name} and use --workers",
        )
    # A script of SLURM is a task itself, so one task may well start workers.
    if workers > 1 and ("WORLD_SIZE" in environment or many > 1):
        raise UsageError(
            "processes are started by torchrun or by --workers (or by srun)",
            got=f"{many_name} {many} and --workers {workers}",
            do=f"drop --workers, or unset {many_name}",
        )
    if processes is not None and processes != many:
        raise UsageError(
            f"there must be {processes} processes",
            got=f"{many} (accelerate launch starts one on a CPU)" if many == 1 else f"{many}",
            do=f"start them by `torchrun --nproc-per-node {processes} -m trimtab collect ...`",
        )
    return rank, many
