"""Labels of half a response: complete it several times, and take the mean reward.

    V(s)  =  E[ r(s + rest) ],   rest ~ pi_ref( . | s)

The mean over completions is an unbiased estimate of the value of the prefix s under the base
policy: what a value guide should say there. The set is for validation: a guide's error against
these labels shows what its loss on single returns hides (Han et al. 2024, appendix).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from trimtab.decoding.methods import sampling
from trimtab.decoding.validate import check_call
from trimtab.errors import DataError, IncompatibleError, UsageError
from trimtab.protocols import LanguageModel, Reward
from trimtab.runs.resolve import Scorer
from trimtab.training.folder import GroupFolder
from trimtab.training.manifest import read_manifest
from trimtab.training.rollouts.collect import collect
from trimtab.training.rollouts.jobs import Item, Job, base_of
from trimtab.training.rollouts.running import Running, check_running, run_job, scorers_of
from trimtab.training.shards import Row, load_rows
from trimtab.types import Sample

HALVES = "halves"
"""The folder, inside the set's own, of the responses that were cut."""


def collect_values(
    lm: LanguageModel[Any],
    responses: str | Path | Sequence[Sample],
    folder: str | Path,
    *,
    rewards: Sequence[Scorer | Reward | str] = (),
    completions: int = 10,
    per_prompt: int = 1,
    seed: int = 0,
    max_new_tokens: int = 128,
    rows: int = 48,
    threads: int = 1,
    limit: int | None = None,
    source: str = "given",
    **running: Unpack[Running],
) -> dict[str, Any]:
    """Cut responses half-way, complete each half by the base policy, and reward the whole texts.

    The groups have the half as `prefix`; `Group.mean(reward)` is the label of its value.

    Args:
        lm: the base policy, whose value it is.
        responses: a folder of groups, whose responses are cut; or samples, which are answered by
            the base policy first (in `<folder>/halves`).
        folder: made where it is missing; a folder of another job is refused.
        rewards: as in `collect`; they see the whole text.
        completions: of each half.
        per_prompt: responses of each prompt that are cut, the first ones that have two tokens.
        seed: decides every draw.
        max_new_tokens: token budget of a whole response.
        rows: most rows that are decoded side by side.
        threads: CPU threads of each process.
        limit: the first so many prompts; None takes all.
        source: where the samples came from, for the manifest.
        **running: see `Running`.

    Returns:
        The manifest.

    Raises:
        DataError: nothing can be cut, or the folder holds another job's groups.
        IncompatibleError: the responses are of another tokenizer.
        ResultsError, RewardError, UsageError: as in `collect`.
    """
    check_running("collect_values", running)
    _check_kind(Path(folder))
    scorers = scorers_of(rewards)
    base = base_of(lm)
    if isinstance(responses, str | Path):
        cut, source = Path(responses), str(responses)
        _check_tokens(cut, base["model"]["tokenizer"])
    else:
        cut = Path(folder) / HALVES
        collect(
            lm,
            responses,
            cut,
            n=per_prompt,
            seed=seed,
            max_new_tokens=max_new_tokens,
            rows=rows,
            threads=threads,
            limit=limit,
            source=source,
            **running,
        )
    items = halves(_rows(cut), max_new_tokens, per_prompt, limit)
    check_call(lm, None, sampling(), [i.read for i in items], completions, max_new_tokens, True)
    said = {
        "kind": "values",
        "source": source,
        "max_new_tokens": max_new_tokens,
        "per_prompt": per_prompt,
    }
    job = Job(base, sampling(), None, items, completions, seed, rows, threads, said)
    return run_job(lm, job, folder, scorers, None, **running)


def halves(
    rows: Sequence[Row], max_new_tokens: int, per_prompt: int = 1, limit: int | None = None
) -> tuple[Item, ...]:
    """What is to be completed: the first half of the tokens of some responses, each half once.

    A response of t tokens is cut after floor(t / 2), so EOS is never in the half; one of a single
    token has no half. Halves that leave no room within the budget are passed over.

    Raises:
        DataError: nothing is left, or the groups are halves themselves.
    """
    found: dict[tuple[int, ...], Item] = {}
    for row in rows[:limit]:
        group = row.group
        if group.prefix:
            raise DataError(
                "responses that are cut must begin at the prompt",
                got="groups with a prefix",
                do="name a folder of plain rollouts",
            )
        lengths = [(len(r.tokens) // 2, r) for r in group.responses]
        for half, response in [p for p in lengths if 0 < p[0] < max_new_tokens][:per_prompt]:
            prefix = response.tokens[:half]
            room = max_new_tokens - half
            item = Item(len(found), group.prompt, group.topic, room, row.meta, prefix)
            found.setdefault(item.read.ids, item)
    if not found:
        raise DataError("there must be responses of two tokens", got="none", do="collect longer")
    return tuple(found.values())


def _rows(folder: Path) -> list[Row]:
    """All rows of a folder, in the order of their prompts."""
    there = GroupFolder(folder)
    shards = range(read_manifest(folder)["shards"])
    return sorted((r for i in shards for r in load_rows(there.groups(i))), key=lambda r: r.index)


def _check_kind(folder: Path) -> None:
    """A folder of rollouts is refused before anything is decoded for it."""
    if not (folder / "manifest.json").exists():
        return
    kind = read_manifest(folder)["about"].get("kind")
    if kind != "values":
        raise DataError(
            f"{folder} must hold a validation set, or nothing", got=f"{kind}", do="name another"
        )


def _check_tokens(folder: Path, tokenizer: str) -> None:
    """The ids of the responses must be the base's own."""
    manifest = read_manifest(folder)
    theirs = manifest["about"].get("model", {}).get("tokenizer")
    if theirs != tokenizer:
        raise IncompatibleError(
            f"the responses in {folder} must be of the base's tokens",
            got=f"tokenizer {theirs!r} for a base with {tokenizer!r}",
            do="collect them with this base",
        )
    if not manifest["complete"]:
        raise UsageError(
            f"{folder} must be complete", got="a job that did not end", do="run it again first"
        )
