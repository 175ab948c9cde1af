"""`trimtab evaluate`: methods on a task, on one footing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from trimtab.cli import bench as b
from trimtab.cli import bench_options as o


def evaluate(
    task: o.TaskName = None,
    prompts: o.Prompts = None,
    column: o.Column = None,
    reward: o.RewardName = None,
    judge: o.JudgeName = None,
    split: Annotated[
        Literal["train", "validation", "test", "all"],
        Option(help="Of the task's prompts.", rich_help_panel="Task"),
    ] = "test",
    limit: o.Limit = None,
    method: o.Methods = None,
    guide: o.Guides = None,
    beta: o.Betas = None,
    k: o.Ks = None,
    settings: o.Set = None,
    n: o.Samples = 1,
    base_samples: o.BaseSamples = None,
    seed: o.Seed = 0,
    max_new_tokens: o.Tokens = None,
    folder: o.Folder = Path("results"),
    workers: o.Workers = 1,
    rows: o.Rows = 32,
    baseline: o.Baseline = None,
    metric: o.MetricNames = None,
    on_reward_error: o.OnError = "raise",
    rescore: o.Rescore = False,
    model: o.Model = "smollm2",
    device: o.Device = None,
    dtype: o.Dtype = "auto",
    threads: o.Threads = None,
    base_temperature: o.BaseTemperature = 1.0,
    base_top_p: o.BaseTopP = 1.0,
) -> None:
    """Measure methods: reward, judge, KL, diversity, length and cost, compared prompt by prompt.

    **Examples**

        trimtab evaluate sentiment --method sampling --method vas --beta 2 --beta 4 -n 8

        trimtab evaluate --prompts mine.jsonl --reward python:my.py:score --method args
    """
    methods = b.find_methods(method or b.METHODS, beta or [], k or [], settings or [])
    found = b.find_task(task, prompts, reward, judge, max_new_tokens, column)
    metrics = b.find_metrics(metric or [])

    from trimtab.evaluation.evaluate import evaluate as run

    open_lm = b.opener(
        model,
        found,
        device=device,
        dtype=dtype,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
    )
    lm = b.open_model(open_lm, threads)
    with b.progress_bar() as on:
        result = run(
            lm,
            found,
            methods,
            folder,
            guides=b.find_guides(guide or [], found, lm),
            split=split,
            opener=open_lm,
            prompts=limit,
            n=n,
            base_samples=base_samples,
            seed=seed,
            max_new_tokens=max_new_tokens,
            rows=rows,
            workers=workers,
            on_reward_error=on_reward_error,
            rescore=rescore,
            baseline=baseline,
            metrics=metrics,
            on=on,
        )
    b.print_table(result.table)
    b.print_times(result.times)
    b.print_counts(result.computed, result.reused, folder)
