"""Rollouts: prompts in, groups of responses with their ledgers and rewards in a folder.

`collect` decodes and rewards, `relabel` adds a reward to what is there. Each may be killed at any
moment, and goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trimtab.decoding.checks import check_call
from trimtab.decoding.methods import Method, sampling
from trimtab.errors import (
    DataError,
    PromptError,
    UsageError,
    check_word,
)
from trimtab.protocols import Guide, LanguageModel, Reward, Task
from trimtab.runs.batches import Batch, Condition, Item, Policy, deterministic, sample_of
from trimtab.runs.identity import identify
from trimtab.runs.processes import Processes, check_opener, hand_out
from trimtab.runs.record import AGAIN, read_manifest
from trimtab.runs.resolve import (
    GuideSource,
    Scorer,
    find_guide,
    find_method,
    find_model,
    find_reward,
)
from trimtab.runs.store import Store
from trimtab.runs.worker import (
    OnProgress,
    OnRewardError,
    Progress,
    Scoring,
    Work,
    base_of,
    identities,
    silent,
    warn_of,
)
from trimtab.tasks import MAX_NEW_TOKENS, find, read_samples
from trimtab.types import Sample, Split, Template

log = logging.getLogger("trimtab")


# --- prompts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Prompts, and what their task says of responses.

    Attributes:
        name: where they came from.
        samples: in their fixed order.
        reward: the task's own; None where there is no task.
        max_new_tokens: token budget of a response.
        template: "auto" asks by the base's chat template, where it has one; "none" has the base
            continue the text.
    """

    name: str
    samples: tuple[Sample, ...]
    reward: Reward | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    template: Template = "auto"

    def __post_init__(self) -> None:
        check_word("template", self.template, Template)


def find_prompts(
    name: str | None, file: str | None, split: Split = "train", column: str | None = None
) -> Source:
    """The prompts of a split of a task, a file or a Hub data set.

    Args:
        name: of a task.
        file: instead, a file or a data set of the Hub, as for `trimtab.tasks.read_samples`.
        split: which of them.
        column: where a row has its prompt, as for `trimtab.tasks.read_samples`.

    Raises:
        UnknownNameError: no such task.
        UsageError: neither or both are named, or the file or data set cannot be read.
        PromptError: a row is no prompt, or the split is empty.
        FetchError: the Hub cannot be reached, or has no such data set.
    """
    check_word("split", split, Split)
    if (name is None) == (file is None):
        got = "neither" if name is None else "both"
        raise UsageError("name a TASK, or prompts by --prompts", got=got, do="name one of the two")
    if name is not None:
        return _of_task(find(name), split)
    assert file is not None
    return Source(f"{file}/{split}", read_samples(file, column, split))


def _of_task(task: Task, split: Split) -> Source:
    samples, name = tuple(task.samples(split)), f"{task.name}/{split}"
    return Source(name, samples, task.reward, task.max_new_tokens, task.template)


# --- rollouts ------------------------------------------------------------------------------------


def collect(
    lm: LanguageModel[Any] | str,
    samples: Sequence[Sample] | Task | str | Path,
    folder: str | Path,
    *,
    rewards: Sequence[Scorer | Reward | str] = (),
    method: Method | str | None = None,
    guide: GuideSource | Guide[Any] | str | Path | None = None,
    n: int = 12,
    seed: int = 0,
    max_new_tokens: int | None = None,
    rows: int = 48,
    limit: int | None = None,
    source: str = "given",
    on_reward_error: OnRewardError = "raise",
    rescore: bool = False,
    processes: Processes | None = None,
    on: OnProgress = silent,
) -> dict[str, Any]:
    """Decode n responses to every prompt, and keep them with their ledgers and rewards.

    What the folder holds already is not done again: a call that was interrupted, however abruptly,
    goes on where it stopped, and the folder ends with the same bytes.

    Args:
        lm: the base policy, or its name; `base_temperature` is its own.
        samples: what is asked; or a task or its name, whose training prompts are asked, or a file
            of prompts. One that occurs twice is asked once.
        folder: made where it is missing; a folder of another job is refused.
        rewards: names, functions `(samples, responses) -> one score each`, or scorers; of a task,
            where there are none, its own.
        method: how to decode, or its name; None is plain sampling from the base policy.
        guide: what guides the method, where it needs one: by name, or open.
        n: responses to each prompt; 1 where all would be the same.
        seed: with the prompt and the sample's number, decides every draw.
        max_new_tokens: token budget of a response; None takes the task's, else 128.
        rows: most rows that are decoded side by side.
        limit: the first so many prompts; None takes all.
        source: where the prompts came from, for the manifest.
        on_reward_error: "raise" stops at a response that cannot be scored, keeping what is
            finished; "skip" leaves its score out and counts it.
        rescore: ask the rewards anew, whatever is kept of them; texts stay.
        processes: who does the work; None is this process, with one CPU thread.
        on: told how far it is.

    Returns:
        The manifest, see `read_manifest`; `read_groups` reads the groups.

    Raises:
        UsageError: the call cannot be meant; nothing was decoded.
        ResultsError: the folder holds another job's groups or cannot be written, or a worker died.
        RewardError: a response could not be scored and `on_reward_error` is "raise".

    >>> import tempfile
    >>> import trimtab as tt
    >>> from trimtab.runs import collect, read_groups
    >>> from trimtab.types import Sample
    >>> def count_b(samples, responses):
    ...     return [float(text.count("b")) for text in responses]
    >>> prompts = [Sample("a", "a"), Sample("ab", "ab")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = collect(tt.TableLM(), prompts, folder, rewards=[count_b], n=3)
    ...     groups = read_groups(folder)
    >>> manifest["counts"]["responses"], len(groups), len(groups[0].responses)
    (6, 2, 3)
    >>> response = groups[1].responses[0]
    >>> response.rewards["count_b"] == response.text.count("b")
    True
    >>> len(response.logprobs) == len(response.tokens)
    True
    """
    template: Template = "auto"
    if isinstance(samples, str | Path | Task):
        named = _training_prompts(samples)
        samples, source = named.samples, named.name
        rewards = rewards or ([named.reward] if named.reward is not None else [])
        max_new_tokens = max_new_tokens or named.max_new_tokens
        template = named.template
    if isinstance(lm, str):
        opener = find_model(lm, template=template)
        processes = processes or Processes()
        processes, lm = replace(processes, opener=processes.opener or opener), opener()
    keeping = Keeping.of(folder, rewards, on_reward_error, rescore, processes, on)
    items = items_of(lm, samples, limit)
    method = find_method(method) if isinstance(method, str) else method or sampling()
    given = find_guide(guide, lm) if guide is not None and method.guided else None
    n = 1 if deterministic(method) else n
    policy = Policy(identify(lm), method, given, n, seed, max_new_tokens or MAX_NEW_TOKENS)
    condition = Condition(source, "", policy, items, rows)
    return keeping.decode(lm, condition, {"kind": "rollouts"})


def _training_prompts(given: Task | str | Path) -> Source:
    """All prompts of a file or a data set of the Hub, or the training prompts of a task."""
    if isinstance(given, Task):
        return _of_task(given, "train")
    if f"{given}".startswith("hub:") or Path(given).is_file():
        return find_prompts(None, f"{given}", "all")
    return find_prompts(f"{given}", None)


def items_of(
    lm: LanguageModel[Any], samples: Iterable[Sample], limit: int | None = None
) -> tuple[Item, ...]:
    """The first prompts, encoded, each once: a prompt twice would get the same texts twice."""
    if limit is not None and limit < 1:
        raise UsageError("limit must be at least 1", got=f"{limit}", do="raise it")
    items: dict[tuple[int, ...], Item] = {}
    twice = 0
    for sample in samples:
        prompt = lm.encode(sample.prompt)
        twice += prompt.ids in items
        if prompt.ids not in items:
            items[prompt.ids] = Item.of(prompt, sample_of(prompt, sample.topic, sample.meta))
    if twice:
        log.warning("prompts that occur again are asked once: %d were passed over", twice)
    if not items:
        raise PromptError("there must be prompts", got="none", do="name another file or split")
    return tuple(items.values())[:limit]


def relabel(
    folder: str | Path,
    rewards: Sequence[Scorer | Reward | str],
    *,
    on_reward_error: OnRewardError = "raise",
    rescore: bool = False,
    processes: Processes | None = None,
    on: OnProgress = silent,
) -> dict[str, Any]:
    """Add rewards to groups that are there; no text is written again.

    A reward of the same name that was another function gives way. With
    `on_reward_error="raise"`, responses that could not be scored before are asked again. Arguments
    are those of `collect`, as is the manifest that is returned; the folder is a complete one.

    Raises:
        ResultsError: the folder is not there, or not complete.
        RewardError, UsageError: as in `collect`.
    """
    keeping = Keeping.of(folder, rewards, on_reward_error, rescore, processes, on)
    store, manifest = Store(folder), read_manifest(folder)
    if "complete" not in manifest:
        raise DataError(
            f"{folder} must hold what `trimtab collect` wrote",
            got="an evaluation",
            do="run `trimtab evaluate` again with another --reward or --judge",
        )
    facts = store.condition()
    store.check_whole(facts.batches)
    if not manifest["complete"]:
        raise DataError(f"{folder} must be complete", got="a job that did not end", do=AGAIN)
    if not rewards:
        raise UsageError("a reward must be named", got="none", do="name one")
    batches = []
    for key in facts.batches:
        rows = store.read(key, ledger=False)
        responses = sum(len(row.group.responses) for row in rows)
        batches.append(Batch(key, tuple(map(Item.of_row, rows)), responses))
    return keeping.finish(None, tuple(batches), manifest)


# --- a run that is kept --------------------------------------------------------------------------


@dataclass(frozen=True)
class Keeping:
    """From prompts to a folder that is complete: all texts and all rewards of one condition."""

    store: Store
    scorers: tuple[Scorer, ...]
    strict: bool  # whether a response that cannot be scored is an error
    rescore: bool
    processes: Processes
    on: OnProgress

    @classmethod
    def of(
        cls,
        folder: str | Path,
        rewards: Sequence[Scorer | Reward | str],
        on_reward_error: OnRewardError,
        rescore: bool,
        processes: Processes | None,
        on: OnProgress,
    ) -> Keeping:
        """What `collect` is called with; each process has one CPU thread if nothing is said."""
        check_word("on_reward_error", on_reward_error, OnRewardError)
        scorers = [find_reward(reward) for reward in rewards]
        names = [scorer.name for scorer in scorers]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    "rewards must differ in name", got=f"{name!r} twice", do="rename one"
                )
        who = processes or Processes()
        who = replace(who, threads=who.threads or 1)
        strict = on_reward_error == "raise"
        return cls(Store(folder), tuple(scorers), strict, rescore, who, on)

    def decode(
        self, lm: LanguageModel[Any], condition: Condition, about: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Answer the prompts of a condition, and reward the answers."""
        policy, prompts = condition.policy, [item.read for item in condition.items]
        guide = policy.guide.open(lm) if policy.guide else None
        check_call(lm, guide, policy.method, prompts, policy.n, policy.max_new_tokens, True)
        check_opener(self.processes)
        never = "its texts are never gone on with"
        if policy.guide is not None:
            warn_of(f"guide {policy.guide.name}", policy.guide.unknown, never)
        warn_of(f"method {policy.method.name}", "; ".join(policy.unknown), never)
        about = {**base_of(lm), **condition.about, "threads": self.processes.threads or 1, **about}
        manifest = self.store.open(about, identities(self.scorers), kept=True)
        self.store.register([condition.facts])
        return self.finish(lm, condition.batches, manifest)

    def finish(
        self,
        lm: LanguageModel[Any] | None,
        batches: tuple[Batch, ...],
        manifest: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Do what is missing of a folder, and say in its manifest that all is there."""
        store, rank = self.store, self.processes.rank
        for scorer in self.scorers:
            if scorer.unknown and rank:
                raise UsageError(
                    "processes that a launcher started must agree on what their rewards are",
                    got=f"{scorer.name}: {scorer.unknown}",
                    do="give it a text as its attribute `fingerprint`, or use --workers",
                )
            warn_of(scorer.name, scorer.unknown, "it is asked anew each time")
            if self.rescore and rank == 0:
                store.forget(scorer.key)
        scoring = Scoring(self.scorers, again=self.strict, stop=self.strict)
        work = Work(store.folder, batches, scoring, base_of(lm) if lm is not None else {})
        if self._whole(batches, manifest):
            self.on(Progress("decode", work.total, work.total))
            store.tidy(manifest)
            return dict(manifest)
        hand_out(work, self.processes, lambda: _given(lm), self.on)
        if rank == 0:
            return store.finish(identities(self.scorers))
        manifest = read_manifest(store.folder)
        if manifest["complete"]:  # rank 0 was faster: the locks made since are this one's to clear
            store.tidy(manifest)
        return manifest

    def _whole(self, batches: Iterable[Batch], manifest: Mapping[str, Any]) -> bool:
        """Whether a finished folder needs nothing more."""
        if not manifest["complete"]:
            return False
        for scorer in self.scorers:
            known = manifest["rewards"].get(scorer.name, {})
            again = self.strict and known.get("failed")
            if known.get("fingerprint") != scorer.fingerprint or again:
                return False
        folders = [facts["folder"] for facts in manifest["rewards"].values()]
        return not self.store.missing([batch.key for batch in batches], folders)


def _given(lm: LanguageModel[Any] | None) -> LanguageModel[Any]:
    assert lm is not None, "a batch without its policy is never decoded"
    return lm
