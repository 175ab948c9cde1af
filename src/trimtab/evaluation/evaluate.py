"""Methods on a task, on one footing: the same prompts, the same seeds, the same length.

    evaluate(lm, task, [greedy(), sampling(), vas(beta=4)], "results", guides=[guide], n=4)

decodes what `results` does not hold yet, has the task's reward and judge score the texts, and
returns the table, which also lies in `results/tables/<split>.json`, `.csv` and `.md` (those of the
last call). A second call computes nothing, and an interrupted one goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from trimtab.decoding.methods import Method
from trimtab.evaluation.bench import Bench, Evaluation, Options, check_options
from trimtab.protocols import LanguageModel, Task
from trimtab.runs.resolve import GuideSource
from trimtab.types import Split

__all__ = ["Evaluation", "evaluate"]


def evaluate(
    lm: LanguageModel[Any],
    task: Task,
    methods: Sequence[Method],
    folder: str | Path,
    *,
    guides: Sequence[GuideSource] = (),
    split: Split = "test",
    **options: Unpack[Options],
) -> Evaluation:
    """Measure methods on a split of a task.

    Args:
        lm: the base.
        task: prompts, a reward and perhaps a judge.
        methods: with their strengths; guided ones run with every guide.
        folder: where results are kept; of one model and one task.
        guides: see `GuideSource`.
        split: of the task's prompts.
        **options: see `Options`.

    Raises:
        UsageError: the call cannot be meant; nothing was decoded.
        ResultsError: the folder holds other results, or its disk is full.
        RewardError: a text could not be scored and `on_reward_error` is "raise".
    """
    check_options("evaluate", options, split)
    bench = Bench.of(lm, task, folder)
    cells = bench.cells(methods, guides, split, options)
    return bench.run(cells, split, options)
