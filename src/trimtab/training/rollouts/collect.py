"""Rollouts: prompts in, groups of responses with log-probabilities and rewards in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from trimtab.decoding.methods import Method, sampling
from trimtab.decoding.validate import check_call
from trimtab.errors import DataError, UsageError
from trimtab.evaluation.cells import deterministic
from trimtab.protocols import LanguageModel, Reward
from trimtab.runs.resolve import GuideSource, Scorer
from trimtab.training.folder import GroupFolder
from trimtab.training.manifest import AGAIN, check_whole, read_manifest
from trimtab.training.rollouts.jobs import Job, Shard, base_of, items_of
from trimtab.training.rollouts.running import Running, check_running, finish, run_job, scorers_of
from trimtab.training.rollouts.together import Task
from trimtab.training.rollouts.work import Labels
from trimtab.types import Sample


def collect(
    lm: LanguageModel[Any],
    samples: Sequence[Sample],
    folder: str | Path,
    *,
    rewards: Sequence[Scorer | Reward | str] = (),
    method: Method | None = None,
    guide: GuideSource | None = None,
    n: int = 12,
    seed: int = 0,
    max_new_tokens: int = 128,
    rows: int = 48,
    threads: int = 1,
    limit: int | None = None,
    source: str = "given",
    **running: Unpack[Running],
) -> dict[str, Any]:
    """Decode n responses to every prompt, and keep them with their log-probabilities and rewards.

    What the folder holds already is not done again: a call that was interrupted, however abruptly,
    goes on where it stopped, and the folder ends with the same bytes.

    Args:
        lm: the base policy; `base_temperature` is its own.
        samples: what is asked, such as `task.samples("train")`; a prompt that occurs twice is
            asked once.
        folder: made where it is missing; a folder of another job is refused.
        rewards: names, functions `(samples, responses) -> one score each`, or scorers.
        method: how to decode; None is plain sampling from the base policy.
        guide: what guides the method, where it needs one.
        n: responses to each prompt; 1 where all would be the same.
        seed: with the prompt and the sample's number, decides every draw.
        max_new_tokens: token budget of a response.
        rows: most rows that are decoded side by side.
        threads: CPU threads of each process; the last bits of numbers depend on it.
        limit: the first so many prompts; None takes all.
        source: where the prompts came from, for the manifest.
        **running: see `Running`.

    Returns:
        The manifest, see `trimtab.training.store.read_manifest`; `read_groups` reads the groups.

    Raises:
        UsageError: the call cannot be meant; nothing was decoded.
        DataError: the folder holds another job's groups, or a worker died.
        ResultsError: it cannot be written: no room, no right.
        RewardError: a response could not be scored and `on_reward_error` is "raise".

    >>> import tempfile
    >>> import trimtab as tt
    >>> from trimtab.training.rollouts import collect
    >>> from trimtab.training.store import read_groups
    >>> from trimtab.types import Sample
    >>> def count_b(samples, responses):
    ...     return [float(text.count("b")) for text in responses]
    >>> asked = [Sample("a", "a"), Sample("ab", "ab")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = collect(tt.TableLM(), asked, folder, rewards=[count_b], n=3)
    ...     groups = read_groups(folder)
    >>> manifest["counts"]["responses"], len(groups), len(groups[0].responses)
    (6, 2, 3)
    >>> response = groups[1].responses[0]
    >>> response.rewards["count_b"] == response.text.count("b")
    True
    >>> len(response.logprobs) == len(response.tokens)
    True
    """
    check_running("collect", running)
    scorers = scorers_of(rewards)
    items = items_of(lm, samples, max_new_tokens, limit)
    method = method or sampling()
    guide = guide if method.guided else None
    opened = guide.open(lm) if guide is not None else None
    n = 1 if deterministic(method) else n
    check_call(lm, opened, method, [item.prompt for item in items], n, max_new_tokens, True)
    said = {"kind": "rollouts", "source": source, "max_new_tokens": max_new_tokens}
    job = Job(base_of(lm), method, guide, items, n, seed, rows, threads, said)
    return run_job(lm, job, folder, scorers, opened, **running)


def relabel(
    folder: str | Path,
    rewards: Sequence[Scorer | Reward | str],
    *,
    threads: int = 1,
    **running: Unpack[Running],
) -> dict[str, Any]:
    """Add rewards to groups that are there; no text is written again.

    A reward of the same name that was another function gives way. With
    `on_reward_error="raise"`, responses that could not be scored before are asked again.

    Args:
        folder: a complete one.
        rewards: as in `collect`.
        threads: CPU threads of each process.
        **running: see `Running`.

    Returns:
        The manifest.

    Raises:
        DataError: the folder is not there, or not complete.
        ResultsError, RewardError, UsageError: as in `collect`.
    """
    check_running("relabel", running)
    there, found = GroupFolder(folder), read_manifest(folder)
    check_whole(there.folder, there.missing(found["shards"], []))
    if not found["complete"]:
        raise DataError(f"{folder} must be complete", got="a job that did not end", do=AGAIN)
    scorers = scorers_of(rewards)
    if not scorers:
        raise UsageError("a reward must be named", got="none", do="name one")
    shards = tuple(Shard(i) for i in range(found["shards"]))
    strict = running.get("on_reward_error", "raise") == "raise"
    task = Task(there.folder, Labels(scorers, strict), shards, threads)
    return finish(task, found, found["counts"]["responses"], **running)
