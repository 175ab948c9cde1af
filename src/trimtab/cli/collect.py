"""`trimtab collect`: rollouts to train guides on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from trimtab.cli.options import (
    BASE,
    PROMPTS,
    RUN,
    Count,
    MethodOptions,
    ModelOptions,
    Names,
    OutputOptions,
    PromptOptions,
    RunOptions,
    Split,
    panel,
)
from trimtab.cli.screen import print_json, progress
from trimtab.errors import UsageError


@panel(Group.create_ordered("Rewards", sort_key=2))
class RewardOptions:
    """What judges responses.

    Attributes:
        reward: What scores finished texts; may repeat. Default: the task's own.
        on_reward_error: What a response that cannot be scored does.
        rescore: Ask rewards anew, whatever is kept of them.
        relabel: Add --reward to the groups of this folder; nothing is generated.
    """

    reward: Annotated[Names, Parameter(alias="-r")] = ()
    on_reward_error: Literal["raise", "skip"] = "raise"
    rescore: Annotated[bool, Parameter(negative="")] = False
    relabel: Path | None = None


@panel(Group.create_ordered("Values", sort_key=2))
class LabelOptions:
    """Labels to validate a value by.

    Attributes:
        validation: Label prefixes: cut responses half-way, complete each half, reward the whole
            texts.
        from_: Cut the responses of this folder, instead of new ones.
        completions: Of each half.
        per_prompt: Responses of each prompt that are cut.
    """

    validation: Annotated[bool, Parameter(negative="")] = False
    from_: Annotated[Path | None, Parameter(name="--from")] = None
    completions: Count = 10
    per_prompt: Count = 1


@panel(RUN)
class CollectionOptions(RunOptions):
    """How many responses, and where.

    Attributes:
        out: Folder of the groups; a job that was interrupted goes on.
        processes: How many torchrun must have started.
    """

    n: Annotated[Count, Parameter(alias="-n")] = 12
    rows: Count = 48
    out: Annotated[Path, Parameter(alias="-o")] = Path("rollouts")
    processes: Count | None = None


@panel(BASE)
class BaseOptions(ModelOptions):
    """The base policy, a little calmer than elsewhere."""

    threads: Count | None = 1
    base_temperature: float = 0.7


def collect(
    task: str | None = None,
    *,
    source: PromptOptions = PromptOptions(),
    split: Annotated[Split | None, Parameter(group=PROMPTS)] = None,
    steering: MethodOptions = MethodOptions(),
    rewards: RewardOptions = RewardOptions(),
    labels: LabelOptions = LabelOptions(),
    run: CollectionOptions = CollectionOptions(),
    output: OutputOptions = OutputOptions(),
    model: BaseOptions = BaseOptions(),
) -> None:
    """Collect responses with log-probabilities and rewards, to train guides on.

    Twelve responses to each training prompt of a task, by four processes:

      trimtab collect sentiment -o rollouts --workers 4

    Prompts and rewards of your own:

      trimtab collect --prompts mine.jsonl -r mine.py:score -r length -o rollouts

    Another reward for what is there; nothing is generated:

      trimtab collect --relabel rollouts -r toxicity

    Labels to validate a value guide by: half a response, completed ten times:

      trimtab collect sentiment --validation -o values

    From a guided policy, by processes that torchrun starts:

      torchrun --nproc-per-node 2 -m trimtab collect sentiment -g my-guide -b 4 -o guided

    A job that was stopped goes on where it was when the same command is run again.

    Args:
        task: sentiment, verbosity, detox, ...; or --prompts.
        split: Which prompts; files are split by topic. Default: train; of --validation validation.
    """
    from trimtab import runs

    _check(task, source.prompts, steering, rewards, labels)
    source.check()
    rank, _ = runs.rank_of(os.environ, workers=run.workers, processes=run.processes)
    shared: dict[str, Any] = {
        "processes": runs.Processes(run.workers, on=run.on, rank=rank, threads=model.threads),
        "on_reward_error": rewards.on_reward_error,
        "rescore": rewards.rescore,
    }
    quiet = output.quiet or rank != 0
    if rewards.relabel is not None:
        with progress("scoring", quiet=quiet) as meter:
            manifest = runs.relabel(rewards.relabel, rewards.reward, on=meter.on, **shared)
        _report(manifest, rewards.relabel, meter.rate, rank, output)
        return
    if labels.from_ is not None:
        named = runs.find_responses(labels.from_, task)
    else:
        split = split or ("validation" if labels.validation else "train")
        named = runs.find_prompts(task, source.prompts, split, source.column)
    method = steering.find()
    opener = replace(model, device=_device(model.device)).opener(named.template)
    lm = opener()
    shared |= {
        "rewards": rewards.reward or ([named.reward] if named.reward is not None else []),
        "seed": run.seed,
        "max_new_tokens": run.max_new_tokens or named.max_new_tokens,
        "rows": run.rows,
        "limit": source.limit,
        "source": named.name,
        "processes": replace(shared["processes"], opener=opener),
    }
    with progress("decoding", quiet=quiet) as meter:
        if labels.validation:
            cut = labels.from_ if labels.from_ is not None else named.samples
            shared |= {"completions": labels.completions, "per_prompt": labels.per_prompt}
            manifest = runs.collect_values(lm, cut, run.out, on=meter.on, **shared)
        else:
            guide: Any = steering.guide or named.reward  # the task's own, read on prefixes
            if method.guided and guide is None:
                raise UsageError(f"{method.name} needs a guide", got="none", do="add --guide")
            shared["guide"] = runs.find_guide(guide, lm) if method.guided else None
            shared |= {"method": method, "n": run.n}
            manifest = runs.collect(lm, named.samples, run.out, on=meter.on, **shared)
    _report(manifest, run.out, meter.rate, rank, output)


def _check(
    task: str | None,
    prompts: str | None,
    steering: MethodOptions,
    rewards: RewardOptions,
    labels: LabelOptions,
) -> None:
    """Raise a `UsageError` for options that do not go together."""
    others = task or prompts or labels.from_ or labels.validation
    if rewards.relabel is not None and (others or not rewards.reward):
        raise UsageError(
            "--relabel takes a folder and --reward, and nothing that is generated",
            got="a task, prompts or --validation" if others else "no --reward",
            do="e.g. trimtab collect --relabel rollouts --reward toxicity",
        )
    if labels.from_ is not None and (prompts or not labels.validation):
        raise UsageError(
            "--from names the responses that --validation cuts",
            got="--prompts beside it" if prompts else "no --validation",
            do="e.g. trimtab collect sentiment --validation --from rollouts -o values",
        )
    if labels.validation and steering != MethodOptions():
        raise UsageError(
            "--validation labels the value of the base policy, which completes the halves",
            got="a method or its parameters",
            do="drop them; halves of another policy come by --from",
        )


def _device(name: str | None) -> str | None:
    """Of several accelerators each of several processes takes its own."""
    import torch

    local = int(os.environ.get("LOCAL_RANK", "0"))
    if name in (None, "cuda") and local and torch.cuda.device_count() > 1:
        return f"cuda:{local % torch.cuda.device_count()}"
    return name


def _report(
    manifest: Mapping[str, Any], folder: Path, rate: str, rank: int, output: OutputOptions
) -> None:
    """What the folder holds: in one line on stderr, or as JSON on stdout."""
    if rank:
        return
    counts, rewards = manifest["counts"], sorted(manifest["rewards"].items())
    if output.json:
        print_json({"folder": str(folder), "counts": counts, "rewards": dict(rewards)}, indent=None)
    if output.quiet or output.json:
        return
    tokens = f"{counts['tokens']} tokens" + (f" ({rate})" if rate else "")
    size = f"{counts['groups']} groups, {counts['responses']} responses, {tokens}"
    parts = [size, *(_reward(name, facts) for name, facts in rewards), f"in {folder}"]
    print("; ".join(parts), file=sys.stderr)


def _reward(name: str, facts: Mapping[str, Any]) -> str:
    if facts["mean"] is None:
        return f"{name}: none of {facts['failed']} scored"
    spread = "" if facts["std"] is None else f" ± {facts['std']:.3f}"
    failed = f" ({facts['failed']} without a score)" if facts["failed"] else ""
    return f"{name} {facts['mean']:.3f}{spread}{failed}"
