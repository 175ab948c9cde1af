"""Who does the work of a run: this process, workers that it starts, ranks of a launcher, or Ray.

All of them run the same `Worker` on the same folder, so no text, score or file depends on it.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.synchronize import Event

import torch
from transformers.utils.logging import disable_progress_bar

from trimtab.errors import ResultsError, UsageError
from trimtab.runs.batches import Batch
from trimtab.runs.progress import OnProgress, Progress, silent
from trimtab.runs.resolve import OpenModel
from trimtab.runs.store import Store
from trimtab.runs.worker import PATIENCE, Work, Worker, base_of


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
    """Finish all batches of a run.

    Args:
        work: what is to be there.
        processes: who does it.
        open_lm: gives the base in this process.
        on: told how far it is.

    Returns:
        How many batches were decoded by this process and those that it started.

    Raises:
        ResultsError: a worker died.
        UsageError: model, guides or rewards cannot be sent to another process.
    """
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
        from trimtab.runs.ray import work_on_ray

        return work_on_ray(task, processes, watch)
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
    """Tells how far other processes are, by looking at the folder.

    Attributes:
        store: the folder.
        work: what is to be there.
        open: the batches that were not finished when it was last looked at.
        on: told.
    """

    store: Store
    work: Work
    open: Sequence[Batch]
    on: OnProgress
    tokens: int = 0

    def __post_init__(self) -> None:
        self._unwritten = {b.key for b in self.open if not self.store.has(b.key)}

    def look(self) -> None:
        """Tell what was finished since the last look."""
        rewards = [scorer.key for scorer in self.work.scoring.scorers]
        finished = [b for b in self.open if not self.store.missing([b.key], rewards)]
        for batch in finished:
            if batch.key in self._unwritten:
                rows = self.store.read(batch.key, ledger=False)
                self.tokens += sum(len(r.tokens) for row in rows for r in row.group.responses)
        keys = {batch.key for batch in finished}
        self.open = [batch for batch in self.open if batch.key not in keys]
        done = self.work.total - sum(batch.responses for batch in self.open)
        self.on(Progress("decode", done, self.work.total, self.tokens))


# --- workers of this machine ---------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What a worker is sent.

    Attributes:
        work: what is to be there.
        opener: opens the base; None where all texts are there.
        threads: CPU threads.
    """

    work: Work
    opener: OpenModel | None
    threads: int

    def open(self) -> object:
        """The base, which must be that of the run.

        Raises:
            UsageError: it is another one.
        """
        assert self.opener is not None
        lm = self.opener()
        if base_of(lm) != self.work.base:
            raise UsageError(
                "workers must open the model of the job", got="another one", do="mend `opener`"
            )
        return lm

    def worker(self, stop: Callable[[], bool] = lambda: False) -> Worker:
        """What does it, in the process that it was sent to."""
        return Worker(self.work, self.open, silent, stop)  # type: ignore[arg-type]


def _work_together(task: Task, count: int, watch: Watch) -> int:
    """Finish every batch with several processes."""
    _check_picklable(task)
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with ProcessPoolExecutor(count, spawn, _begin, (stop,)) as pool:
        futures = [pool.submit(_worker, task) for _ in range(count)]
        try:
            _until_done(futures, watch)
            return sum(future.result() for future in futures)
        except BrokenProcessPool as error:
            raise died() from error
        finally:
            stop.set()  # one has failed, or somebody has lost patience: the others need not go on
            pool.shutdown(wait=True, cancel_futures=True)


def died() -> ResultsError:
    """The error that says that a worker is gone."""
    return ResultsError(
        "workers must live until the work is done",
        got="one that was killed (often: no memory left)",
        do="run it again, perhaps with fewer workers: what is finished is kept",
    )


def _check_picklable(task: Task) -> None:
    """Said before a pool is made: one that finds out by itself may never end."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "with several workers the model's opener, guides and rewards must be picklable",
            got=f"{error}",
            do="define them at a module's top level, or use one worker",
        ) from error


def _until_done(futures: Sequence[Future[int]], watch: Watch) -> None:
    """Tell how far it is until all workers have returned or one has failed."""
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, timeout=PATIENCE, return_when=FIRST_EXCEPTION)
        for future in ended:
            future.result()
        watch.look()


_STOP: list[Event] = []
"""Of a worker: set when it is to stop."""


def _begin(stop: Event) -> None:
    """What each worker does first. Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    disable_progress_bar()  # of loading; the parent has the one bar
    _STOP[:] = [stop]
    _die_with_parent()


def _worker(task: Task) -> int:
    """What runs in each worker: its own model, its own look at the folder."""
    with threads(task.threads):
        return task.worker(_STOP[0].is_set).run()


def _die_with_parent() -> None:
    """End when the process that started this one has ended, however it did: locks are free then."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        connection.wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()


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
