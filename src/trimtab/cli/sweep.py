"""`trimtab sweep`: a grid of strengths, the best of each method, scored on fresh prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from trimtab.cli import bench as b
from trimtab.cli import bench_options as o

_CHOICE = "Choice"


def sweep(
    task: o.TaskName = None,
    prompts: o.Prompts = None,
    column: o.Column = None,
    reward: o.RewardName = None,
    judge: o.JudgeName = None,
    limit: o.Limit = None,
    method: o.Methods = None,
    guide: o.Guides = None,
    beta: o.Betas = None,
    k: o.Ks = None,
    settings: o.Set = None,
    choose_on: Annotated[
        Literal["train", "validation", "test", "all"],
        Option(help="Split on which strengths are chosen.", rich_help_panel=_CHOICE),
    ] = "validation",
    score_on: Annotated[
        Literal["train", "validation", "test", "all"],
        Option(help="Split on which the chosen are scored.", rich_help_panel=_CHOICE),
    ] = "test",
    max_kl: Annotated[
        float | None, Option(help="Most nats per response.", rich_help_panel=_CHOICE)
    ] = None,
    max_length: Annotated[
        float | None, Option(help="Most tokens, on average.", rich_help_panel=_CHOICE)
    ] = None,
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
    """How strong? Try a grid on one split, and score each method's best on another.

    **Examples**

        trimtab sweep sentiment --method args --method vas --beta 1 --beta 2 --beta 4 -n 4

        trimtab sweep detox --method vas --max-kl 10 --workers 4
    """
    methods = b.find_methods(method or b.METHODS, beta or b.BETAS, k or [], settings or [])
    found = b.find_task(task, prompts, reward, judge, max_new_tokens, column)
    metrics = b.find_metrics(metric or [])

    from trimtab.evaluation.sweep import sweep as run

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
            choose_on=choose_on,
            score_on=score_on,
            max_kl=max_kl,
            max_length=max_length,
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
    b.print_table(result.grid.table)
    for choice in result.choices:
        by = f" by {choice.guide}" if choice.guide else ""
        print(f"{choice.method}{by}: {choice.label or 'nothing'} ({choice.why})")
    if result.test is not None:
        print()
        b.print_table(result.test.table)
    b.print_times((result.test or result.grid).times)
    b.print_counts(result.computed, result.reused, folder)
