"""Runs: everything that decodes many prompts, in a folder that any number of processes fill.

    collect(lm, samples, "rollouts", rewards=["sentiment"], n=12)     responses, kept with rewards
    relabel("rollouts", ["toxicity"])                                 another reward for them
    collect_values(lm, "rollouts", "values", rewards=["sentiment"])   labels of half responses
    read_groups("rollouts")                                           what any run has written
    find_reward("sentiment"), find_guide("concise", lm)               what names mean
    Processes(4, opener=partial(TransformersLM, "smollm2"))           who does the work

`evaluate` and `sweep` (`trimtab.evaluation`) are runs that are measured, in the same folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.runs.groups import read_groups, write_groups
    from trimtab.runs.processes import Processes, rank_of
    from trimtab.runs.record import read_manifest
    from trimtab.runs.resolve import (
        GuideSource,
        Scorer,
        find_guide,
        find_method,
        find_methods,
        find_model,
        find_reward,
    )
    from trimtab.runs.rollouts import Source, collect, find_prompts, relabel
    from trimtab.runs.values import collect_values, find_responses
    from trimtab.runs.worker import OnProgress, Progress

__all__ = [
    "GuideSource",
    "OnProgress",
    "Processes",
    "Progress",
    "Scorer",
    "Source",
    "collect",
    "collect_values",
    "find_guide",
    "find_method",
    "find_methods",
    "find_model",
    "find_prompts",
    "find_responses",
    "find_reward",
    "rank_of",
    "read_groups",
    "read_manifest",
    "relabel",
    "write_groups",
]
__getattr__, __dir__ = door(__name__)
