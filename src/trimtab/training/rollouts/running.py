"""From a job to a finished folder, by this process, its workers, or ranks of a launcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from trimtab.errors import UsageError, check_keywords, check_word
from trimtab.evaluation.bench import OnRewardError, warn_of
from trimtab.evaluation.work import OpenModel
from trimtab.protocols import Guide, LanguageModel, Reward
from trimtab.runs.resolve import Scorer, find_reward
from trimtab.training.folder import GroupFolder
from trimtab.training.manifest import read_manifest
from trimtab.training.rollouts.decoding import Roller
from trimtab.training.rollouts.jobs import Job
from trimtab.training.rollouts.together import Task, work_together
from trimtab.training.rollouts.work import Labels, OnProgress, Progress, Worker, threads

NEVER = "its texts are never gone on with"


class Running(TypedDict, total=False):
    """How the work is done; no text, score or file depends on it.

    Attributes:
        workers: processes on this machine; more than one needs `opener` where texts are decoded.
        opener: opens the base again in a worker, such as `partial(TransformersLM, "smollm2")`.
        rank: of a process that a launcher started beside others; 0 finishes the folder.
        on_reward_error: "raise" stops at a response that cannot be scored, keeping what is
            finished; "skip" leaves its score out and counts it.
        rescore: ask the rewards anew, whatever is kept of them; texts stay.
        on: told how far it is.
    """

    workers: int
    opener: OpenModel | None
    rank: int
    on_reward_error: OnRewardError
    rescore: bool
    on: OnProgress | None


def check_running(function: str, running: Running) -> None:
    """Raise `UnknownNameError` for an option, or a word of one, that is none."""
    check_keywords(function, running, Running.__annotations__)
    check_word("on_reward_error", running.get("on_reward_error", "raise"), OnRewardError)


def scorers_of(rewards: Sequence[Scorer | Reward | str]) -> tuple[Scorer, ...]:
    """Rewards under their names.

    Raises:
        UnknownNameError: there is none of that name.
        UsageError: two have one name.
    """
    found: dict[str, Scorer] = {}
    for reward in rewards:
        if isinstance(reward, str):
            scorer = find_reward(reward)
        else:
            scorer = reward if isinstance(reward, Scorer) else find_reward(reward)
        if scorer.name in found:
            raise UsageError(
                "rewards must differ in name", got=f"{scorer.name!r} twice", do="rename one"
            )
        found[scorer.name] = scorer
    return tuple(found.values())


def run_job(
    lm: LanguageModel[Any],
    job: Job,
    folder: str | Path,
    scorers: tuple[Scorer, ...],
    guide: Guide[Any] | None,
    **running: Unpack[Running],
) -> dict[str, Any]:
    """Do what is missing of a job; the manifest.

    Args:
        lm: the base.
        job: what is decoded.
        folder: where.
        scorers: the rewards.
        guide: the job's guide, open.
        **running: see `Running`.
    """
    there = GroupFolder(folder)
    opener = running.get("opener")
    if running.get("workers", 1) > 1 and opener is None:
        raise UsageError(
            "several workers open the model themselves",
            got="no opener",
            do="pass a function that opens it, such as opener=partial(TransformersLM, name)",
        )
    if job.guide is not None:
        warn_of(f"guide {job.guide.name}", job.guide.unknown, NEVER)
    unknown: list[str] = []
    about = job.about(unknown)
    warn_of(f"method {job.method.name}", "; ".join(unknown), NEVER)
    found = there.open(about, len(job.shards), _identities(scorers))
    labels = Labels(scorers, running.get("on_reward_error", "raise") == "raise")
    task = Task(there.folder, labels, job.shards, job.threads, opener, job)
    return finish(task, found, job.n * len(job.items), Roller(lm, job, guide), **running)


def finish(
    task: Task,
    manifest: Mapping[str, Any],
    total: int,
    roll: Roller | None = None,
    **running: Unpack[Running],
) -> dict[str, Any]:
    """Do what is missing of a folder, and say in its manifest that all is there.

    Args:
        task: what is to be there.
        manifest: as it is.
        total: responses of the folder.
        roll: decodes a shard; None where all texts are there.
        **running: see `Running`.
    """
    there, on = GroupFolder(task.folder), running.get("on") or _silent
    rank, rescore = running.get("rank", 0), running.get("rescore", False)
    for scorer in task.labels.scorers:
        if scorer.unknown and rank:
            raise UsageError(
                "processes that a launcher started must agree on what their rewards are",
                got=f"{scorer.name}: {scorer.unknown}",
                do="give it a text as its attribute `fingerprint`, or use --workers",
            )
        warn_of(scorer.name, scorer.unknown, "it is asked anew each time")
        if rescore and rank == 0:
            there.forget(scorer.key)
    if _whole(there, task.labels, manifest):
        on(Progress(total, total, 0))
        there.tidy(manifest)
        return dict(manifest)
    if running.get("workers", 1) > 1:
        missing = [s for s in task.shards if not task.labels.settled(there, s.number)]
        if missing:
            task = replace(task, shards=tuple(missing))
            work_together(task, running.get("workers", 1), total, on)
    else:
        with threads(task.threads):
            Worker(there, task.labels, total, on, roll).work(task.shards)
    if rank == 0:
        return there.finish(_identities(task.labels.scorers))
    found = read_manifest(task.folder)
    if found["complete"]:  # rank 0 was faster: the locks that this one made since are its to clear
        there.tidy(found)
    return found


def _whole(there: GroupFolder, labels: Labels, manifest: Mapping[str, Any]) -> bool:
    """Whether a finished folder needs nothing more."""
    if not manifest["complete"]:
        return False
    for scorer in labels.scorers:
        known = manifest["rewards"].get(scorer.name, {})
        again = labels.strict and known.get("failed")
        if known.get("fingerprint") != scorer.fingerprint or again:
            return False
    folders = [facts["folder"] for facts in manifest["rewards"].values()]
    return not there.missing(manifest["shards"], folders)


def _identities(scorers: Sequence[Scorer]) -> dict[str, dict[str, str]]:
    """What the manifest says of rewards before there are statistics."""
    return {s.name: {"fingerprint": s.fingerprint, "folder": s.key} for s in scorers}


def _silent(_: Progress) -> None:
    """Nobody listens."""
