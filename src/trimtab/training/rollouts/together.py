"""Several processes on one folder: workers that we start, or ranks that a launcher started."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.synchronize import Event
from pathlib import Path

from trimtab.errors import DataError, UsageError
from trimtab.evaluation.work import PATIENCE, OpenModel
from trimtab.training.folder import GroupFolder
from trimtab.training.rollouts.decoding import Roller
from trimtab.training.rollouts.jobs import Job, Shard, base_of
from trimtab.training.rollouts.work import Labels, OnProgress, Progress, Worker, threads
from trimtab.training.shards import measure

# --- workers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """What a worker is sent.

    Attributes:
        folder: where.
        labels: the rewards.
        shards: what is missing.
        threads: CPU threads of each process.
        opener: opens the base; None where all texts are there.
        job: what is decoded; likewise.
    """

    folder: Path
    labels: Labels
    shards: tuple[Shard, ...]
    threads: int
    opener: OpenModel | None = None
    job: Job | None = None


def work_together(task: Task, workers: int, total: int, on: OnProgress) -> None:
    """Finish every shard with several processes.

    Args:
        task: what each of them is sent.
        workers: how many.
        total: responses of the folder.
        on: told about every shard.

    Raises:
        DataError: a worker died.
        UsageError: model, guide or rewards cannot be sent to another process.
    """
    folder = GroupFolder(task.folder)
    count = min(workers, len(task.shards))
    _check_picklable(task)
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with ProcessPoolExecutor(count, spawn, _begin, (stop,)) as pool:
        asked = [pool.submit(_worker, task) for _ in range(count)]
        try:
            _watch(folder, task, asked, total, on)
        except BrokenProcessPool as error:
            raise DataError(
                "workers must live until the work is done",
                got="one that was killed (often: no memory left)",
                do="run it again, perhaps with fewer workers: what is finished is kept",
            ) from error
        finally:
            stop.set()  # one has failed, or somebody has lost patience: the others need not go on
            pool.shutdown(wait=True, cancel_futures=True)


def _check_picklable(task: Task) -> None:
    """Said before a pool is made: one that finds out by itself may never end."""
    try:
        pickle.dumps(task)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            "with several workers the model's opener, guide and rewards must be picklable",
            got=str(error),
            do="define them at a module's top level, or use workers=1",
        ) from error


def _watch(
    folder: GroupFolder, task: Task, asked: Sequence[Future[None]], total: int, on: OnProgress
) -> None:
    """Report until all workers have returned or one has failed."""
    open_, done, tokens = list(task.shards), 0, 0
    done = total - sum(_responses(task, folder, shard) for shard in open_)
    waiting = set(asked)
    while waiting:
        ended, waiting = wait(waiting, timeout=PATIENCE, return_when=FIRST_EXCEPTION)
        for future in ended:
            future.result()
        for shard in [s for s in open_ if _there(folder, task.labels, s)]:
            open_.remove(shard)
            responses, read = measure(folder.groups(shard.number))
            done, tokens = done + responses, tokens + (read if task.job else 0)
        on(Progress(done, total, tokens))


def _there(folder: GroupFolder, labels: Labels, shard: Shard) -> bool:
    """Whether its files are; a look that opens none of them."""
    paths = [folder.scores(scorer.key, shard.number) for scorer in labels.scorers]
    return all(path.exists() for path in [folder.groups(shard.number), *paths])


def _responses(task: Task, folder: GroupFolder, shard: Shard) -> int:
    if task.job is not None:
        return task.job.n * sum(len(batch) for batch in shard.batches)
    return measure(folder.groups(shard.number))[0]


_STOP: list[Event] = []
"""Of a worker: set when it is to stop."""


def _begin(stop: Event) -> None:
    """What each worker does first. Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _STOP[:] = [stop]
    _die_with_parent()


def _worker(task: Task) -> None:
    """What runs in each worker: its own model, its own look at the folder."""
    with threads(task.threads):
        roll = None
        if task.job is not None and task.opener is not None:
            lm = task.opener()
            if base_of(lm) != task.job.base:
                raise UsageError(
                    "workers must open the model of the job", got="another one", do="mend `opener`"
                )
            roll = Roller(lm, task.job)
        folder, stop = GroupFolder(task.folder), _STOP[0].is_set
        Worker(folder, task.labels, 0, _silent, roll, stop).work(task.shards)


def _silent(_: Progress) -> None:
    """The parent tells by looking at the folder."""


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


def rank_of(
    environment: Mapping[str, str], *, workers: int = 1, processes: int | None = None
) -> tuple[int, int]:
    """Which of how many processes this one is, by what `torchrun` has set.

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
    launched = "WORLD_SIZE" in environment
    try:
        many = int(environment.get("WORLD_SIZE", "1"))
        rank = int(environment.get("RANK", "0" if many == 1 else "-1"))
    except ValueError:
        many, rank = 0, -1
    if not 0 <= rank < many:
        raise UsageError(
            "of several processes each must know its RANK, from 0 to WORLD_SIZE - 1",
            got=f"RANK {environment.get('RANK')}, WORLD_SIZE {environment.get('WORLD_SIZE')}",
            do="start them by `torchrun --nproc-per-node N -m trimtab collect ...`, "
            "or unset WORLD_SIZE and use --workers",
        )
    if launched and workers > 1:
        raise UsageError(
            "processes are started by torchrun or by --workers",
            got=f"WORLD_SIZE {many} and --workers {workers}",
            do="drop --workers, or unset WORLD_SIZE",
        )
    if processes is not None and processes != many:
        raise UsageError(
            f"there must be {processes} processes",
            got=f"{many} (accelerate launch starts one on a CPU)" if many == 1 else f"{many}",
            do=f"start them by `torchrun --nproc-per-node {processes} -m trimtab collect ...`",
        )
    return rank, many
