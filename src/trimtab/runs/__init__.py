"""Runs: everything that decodes many prompts, in one folder that any number of processes fill.

`collect` keeps responses with their rewards, `relabel` adds a reward, `collect_values` labels half
responses; `evaluate` and `sweep` are runs that are measured. `read_groups` reads them all.
"""

from __future__ import annotations

from trimtab.runs.collect import collect, collect_values, relabel
from trimtab.runs.processes import Processes, rank_of
from trimtab.runs.progress import OnProgress, Progress
from trimtab.runs.prompts import Source, find_prompts, find_responses
from trimtab.runs.store import read_groups, read_manifest, write_groups

__all__ = [
    "OnProgress",
    "Processes",
    "Progress",
    "Source",
    "collect",
    "collect_values",
    "find_prompts",
    "find_responses",
    "rank_of",
    "read_groups",
    "read_manifest",
    "relabel",
    "write_groups",
]
