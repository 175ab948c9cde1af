"""`trimtab collect`: rollouts to train guides on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trimtab.cli import bench_options as b
from trimtab.cli import collect_options as o
from trimtab.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.evaluation.work import OpenModel
    from trimtab.protocols import LanguageModel
    from trimtab.runs.resolve import GuideSource
    from trimtab.training.rollouts import Source
    from trimtab.types import Split


def collect(
    task: b.TaskName = None,
    prompts: o.Prompts = None,
    column: b.Column = None,
    split: o.Split = None,
    limit: o.Limit = None,
    method: o.Method = None,
    guide: o.Guide = None,
    beta: o.Beta = None,
    k: o.K = None,
    settings: o.Set = None,
    reward: o.Rewards = None,
    on_reward_error: o.OnError = "raise",
    rescore: b.Rescore = False,
    relabel: o.Relabel = None,
    validation: o.Validation = False,
    from_: o.From = None,
    completions: o.Completions = 10,
    per_prompt: o.PerPrompt = 1,
    n: b.Samples = 12,
    seed: b.Seed = 0,
    max_new_tokens: b.Tokens = None,
    folder: o.Folder = Path("rollouts"),
    rows: b.Rows = 48,
    workers: o.Workers = 1,
    processes: o.Processes = None,
    threads: o.Threads = 1,
    model: b.Model = "smollm2",
    device: b.Device = None,
    dtype: b.Dtype = "auto",
    base_temperature: b.BaseTemperature = 0.7,
    base_top_p: b.BaseTopP = 1.0,
) -> None:
    """Collect responses with log-probabilities and rewards, to train guides on.

    Twelve responses to each training prompt of a task, by four processes:

      trimtab collect sentiment -o rollouts --workers 4

    Prompts and rewards of your own:

      trimtab collect --prompts mine.jsonl -r python:mine.py:score -r length -o rollouts

    Another reward for what is there; nothing is generated:

      trimtab collect --relabel rollouts -r toxicity

    Labels to validate a value guide by: half a response, completed ten times:

      trimtab collect sentiment --validation -o values

    From a guided policy, by processes that torchrun starts:

      torchrun --nproc-per-node 2 -m trimtab collect sentiment -g my-guide -b 4 -o guided

    A job that was stopped goes on where it was when the same command is run again.
    """
    from trimtab.cli.collect_screen import rolling, say
    from trimtab.training import rollouts

    rank, _ = rollouts.rank_of(os.environ, workers=workers, processes=processes)
    running: dict[str, Any] = {"workers": workers, "rank": rank, "on_reward_error": on_reward_error}
    running |= {"threads": threads, "rescore": rescore}
    if relabel is not None:
        _check_relabel(reward, task or prompts or from_ or validation)
        with rolling(rank) as (running["on"], pace):
            manifest = rollouts.relabel(relabel, reward or [], **running)
        say(manifest, relabel, rank, pace)
        return
    source = _source(task, prompts, split, from_, validation, column)
    own = [source.reward] if source.reward is not None else []
    parts = _method(method, guide, beta, k, settings, validation)
    open_lm = _opener(model, source.template, _device(device), dtype, base_temperature, base_top_p)
    lm = open_lm()
    shared: dict[str, Any] = {
        "rewards": reward or own,
        "seed": seed,
        "max_new_tokens": max_new_tokens or source.max_new_tokens,
        "rows": rows,
        "limit": limit,
        "source": source.name,
        "opener": open_lm,
        **running,
    }
    with rolling(rank) as (shared["on"], pace):
        if validation:
            cut = from_ if from_ is not None else source.samples
            shared |= {"completions": completions, "per_prompt": per_prompt}
            manifest = rollouts.collect_values(lm, cut, folder, **shared)
        else:
            steering = _guide(guide, parts, source, lm)
            manifest = rollouts.collect(
                lm, source.samples, folder, method=parts, guide=steering, n=n, **shared
            )
    say(manifest, folder, rank, pace)


def _check_relabel(rewards: Sequence[str] | None, others: object) -> None:
    if not rewards or others:
        raise UsageError(
            "--relabel takes a folder and --reward, and nothing that is generated",
            got="a task, prompts or --validation" if others else "no --reward",
            do="e.g. trimtab collect --relabel rollouts --reward toxicity",
        )


def _source(
    task: str | None,
    prompts: str | None,
    split: Split | None,
    from_: Path | None,
    validation: bool,
    column: str | None,
) -> Source:
    """The prompts that were named, or what is known of the responses that are cut."""
    from trimtab.training.rollouts import find_prompts, find_responses

    if column and not prompts:
        raise UsageError("--column names a column of --prompts", got="no --prompts", do="add it")
    if from_ is not None:
        if not validation or prompts:
            raise UsageError(
                "--from names the responses that --validation cuts",
                got="--prompts beside it" if prompts else "no --validation",
                do="e.g. trimtab collect sentiment --validation --from rollouts -o values",
            )
        return find_responses(from_, task)
    return find_prompts(task, prompts, split or ("validation" if validation else "train"), column)


def _method(
    name: str | None,
    guide: str | None,
    beta: float | None,
    k: int | None,
    settings: Sequence[str] | None,
    validation: bool,
) -> Method:
    from trimtab.cli.building import build_method

    if validation and (name or guide or beta or k or settings):
        raise UsageError(
            "--validation labels the value of the base policy, which completes the halves",
            got="a method or its parameters",
            do="drop them; halves of another policy come by --from",
        )
    name = name or ("vas" if guide else "sampling")
    return build_method(name, {"beta": beta, "k": k}, settings or [])


def _guide(
    name: str | None, method: Method, source: Source, lm: LanguageModel[Any]
) -> GuideSource | None:
    """The guide that was named, or the task's own reward read on prefixes."""
    from trimtab.runs.resolve import GuideSource, find_guide, find_reward

    if not method.guided:
        if name:
            raise UsageError(f"{method.name} needs no guide", got=repr(name), do="drop one of them")
        return None
    if name:
        return find_guide(name, lm)
    if source.reward is None:
        raise UsageError(f"{method.name} needs a guide", got="none", do="add --guide")
    return GuideSource.on_prefixes(find_reward(source.reward))


def _device(name: str | None) -> str | None:
    """Of several accelerators each of several processes takes its own."""
    import torch

    local = os.environ.get("LOCAL_RANK", "0")
    if name in (None, "cuda") and int(local) and torch.cuda.device_count() > 1:
        return f"cuda:{int(local) % torch.cuda.device_count()}"
    return name


def _opener(
    model: str,
    template: Literal["auto", "none"],
    device: str | None,
    dtype: str,
    base_temperature: float,
    base_top_p: float,
) -> OpenModel:
    """A function that opens the base as its prompts want it; it can be sent to workers."""
    from trimtab.cli.building import DTYPES, check_spelling, quiet_libraries

    check_spelling(model)
    if dtype not in DTYPES:
        raise UnknownNameError("a dtype", dtype, DTYPES)
    from trimtab.models.transformers import TransformersLM

    quiet_libraries()
    loading: dict[str, Any] = {"dtype": dtype} | ({"device": device} if device else {})
    return partial(
        TransformersLM,
        model,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
        template=template,
        **loading,
    )
