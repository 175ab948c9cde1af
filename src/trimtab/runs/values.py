"""Labels of values: responses are cut half-way, and the base goes on from there, several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab.decoding.methods import sampling
from trimtab.errors import DataError, IncompatibleError, UsageError
from trimtab.protocols import LanguageModel, Reward
from trimtab.runs.batches import Condition, Item, Policy
from trimtab.runs.identity import identify
from trimtab.runs.processes import Processes
from trimtab.runs.record import Row, read_manifest
from trimtab.runs.resolve import Scorer
from trimtab.runs.rollouts import Keeping, Source, collect
from trimtab.runs.store import Store
from trimtab.runs.worker import OnProgress, OnRewardError, silent
from trimtab.tasks import MAX_NEW_TOKENS, find
from trimtab.types import Sample

HALVES = "halves"
"""The folder, inside that of `collect_values`, of the responses that were cut."""


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
    limit: int | None = None,
    source: str = "given",
    on_reward_error: OnRewardError = "raise",
    rescore: bool = False,
    processes: Processes | None = None,
    on: OnProgress = silent,
) -> dict[str, Any]:
    """Cut responses half-way, complete each half by the base policy, and reward the whole texts.

        V(s)  =  E[ r(s + rest) ],   rest ~ pi_ref( . | s)

    The mean over completions is an unbiased estimate of the value of the prefix s under the base
    policy: what a value guide should say there. The set is for validation: a guide's error against
    these labels shows what its loss on single returns hides (Han et al. 2024, appendix).

    The groups have the half as `prefix`; `Group.mean(reward)` is the label of its value. Halves
    that leave the most room come first, so that those that are completed together have alike.

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
        limit: the first so many prompts; None takes all.
        source: where the samples came from, for the manifest.
        on_reward_error: as in `collect`.
        rescore: as in `collect`.
        processes: as in `collect`.
        on: told how far it is.

    Returns:
        The manifest.

    Raises:
        DataError: nothing can be cut, or the folder holds another job's groups.
        IncompatibleError: the responses are of another tokenizer.
        ResultsError, RewardError, UsageError: as in `collect`.
    """
    keeping = Keeping.of(folder, rewards, on_reward_error, rescore, processes, on)
    model = identify(lm)
    if (Path(folder) / "manifest.json").exists():  # refused before anything is decoded for it
        kind = read_manifest(folder)["about"].get("kind")
        if kind != "values":
            raise DataError(
                f"{folder} must hold a validation set, or nothing", got=f"{kind}", do="name another"
            )
    if isinstance(responses, str | Path):
        cut, source = Path(responses), str(responses)
        _check_cut(cut, model.tokenizer)
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
            limit=limit,
            source=source,
            processes=processes,
            on=on,
        )
    store = Store(cut)
    whole = [row for key in store.condition().batches for row in store.read(key, ledger=False)]
    items = halves(whole, max_new_tokens, per_prompt, limit)
    policy = Policy(model, sampling(), None, completions, seed, max_new_tokens)
    condition = Condition(source, "", policy, items, rows)
    return keeping.decode(lm, condition, {"kind": "values", "per_prompt": per_prompt})


def halves(
    rows: Sequence[Row], max_new_tokens: int, per_prompt: int = 1, limit: int | None = None
) -> tuple[Item, ...]:
    """What is to be completed: the first half of the tokens of some responses, each half once.

    A response of t tokens is cut after floor(t / 2), so EOS is never in the half; one of a single
    token has no half. Halves that leave no room within the budget are passed over.
    """
    items: dict[tuple[int, ...], Item] = {}
    for row in rows[:limit]:
        if row.group.prefix:
            raise DataError(
                "responses that are cut must begin at the prompt",
                got="groups with a prefix",
                do="name a folder of plain rollouts",
            )
        lengths = [(len(r.tokens) // 2, r) for r in row.group.responses]
        for half, response in [p for p in lengths if 0 < p[0] < max_new_tokens][:per_prompt]:
            prefix, room = response.tokens[:half], max_new_tokens - half
            item = replace(Item.of_row(row), id=f"{row.id}-{len(items)}", prefix=prefix, room=room)
            items.setdefault(item.read.ids, item)
    if not items:
        raise DataError("there must be responses of two tokens", got="none", do="collect longer")
    return tuple(sorted(items.values(), key=lambda item: -(item.room or 0)))


def _check_cut(folder: Path, tokenizer: str) -> None:
    """The responses must be all there, and their ids the base's own."""
    manifest = read_manifest(folder)
    theirs = manifest["about"].get("model", {}).get("tokenizer")
    if theirs != tokenizer:
        raise IncompatibleError(
            f"the responses in {folder} must be of the base's tokens",
            got=f"tokenizer {theirs!r} for a base with {tokenizer!r}",
            do="collect them with this base",
        )
    if not manifest.get("complete", True):
        raise UsageError(
            f"{folder} must be complete", got="a job that did not end", do="run it again first"
        )


def find_responses(folder: str | Path, name: str | None = None) -> Source:
    """What is known of a folder's responses that are to be cut.

    Args:
        folder: of groups.
        name: of the task that they answer, for its reward.

    Raises:
        DataError: the folder holds no groups.
        UnknownNameError: no such task.
    """
    about = read_manifest(folder)["about"]
    return Source(
        str(folder),
        (),
        find(name).reward if name is not None else None,
        about.get("max_new_tokens", MAX_NEW_TOKENS),
        about.get("template", "auto"),
    )
