"""The work of a run on a Ray cluster: a batch is a task, which any node may do, or do again.

A node that dies takes its unfinished batches with it; Ray has others do them. Publishing is one
atomic rename of bytes that are the same whoever makes them, so nothing is lost and nothing doubled.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import replace
from typing import Any

from trimtab.errors import TrimtabError, UsageError
from trimtab.plugins import optional
from trimtab.runs.batches import Batch
from trimtab.runs.processes import Processes, Task, Watch, died, threads
from trimtab.runs.worker import PATIENCE, Worker

CONNECTING = 10.0
"""Seconds until a cluster that does not answer counts as gone."""

RETRIES = 5
"""How often a batch is given to another node after the one that had it has died."""


def work_on_ray(task: Task, processes: Processes, watch: Watch) -> int:
    """Finish every batch of a task on Ray's nodes.

    Args:
        task: what each of them is sent.
        processes: how many batches are worked on at a time, and on which cluster.
        watch: tells how far it is.

    Returns:
        How many batches were decoded.

    Raises:
        ResultsError: a batch was lost with its node too often.
        UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = optional("ray", "ray", user="work on a Ray cluster")
    begun = _connect(ray, processes.on or "ray")
    try:
        return _finish(ray, task, processes.workers, watch)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TrimtabError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise died() from error
    finally:
        if begun:
            ray.shutdown()


def _connect(ray: Any, place: str) -> bool:
    """Join the cluster; whether it was this call that did."""
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {} if place == "ray" else {"address": place}
    try:
        if options:
            _reach(place)  # Ray itself would go on trying for minutes
        ray.init(log_to_driver=False, **options)
    except (OSError, ValueError) as error:
        raise UsageError(
            "the Ray cluster must be there", got=f"{place} ({error})", do="start it by `ray start`"
        ) from error
    return True


def _reach(place: str) -> None:
    """Raise `OSError`, or `ValueError`, unless somebody listens there."""
    host, _, port = place.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=CONNECTING).close()


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
