"""Steer a frozen language model towards a reward while it decodes.

    import trimtab as tt

    lm = tt.TransformersLM("smollm2")
    guide = tt.TextGuide(my_score, lm.decode)
    for done in tt.decode(lm, guide, tt.vas(beta=4.0), ["An opinion on trains, in one sentence."]):
        print(done.text)

Names load on first use, so importing trimtab imports neither torch nor transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door
from trimtab.version import __version__

if TYPE_CHECKING:
    from trimtab.decoding.loop import decode, decode_steps
    from trimtab.decoding.methods import (
        METHODS,
        Greedy,
        Method,
        Stochastic,
        args,
        args_stochastic,
        best_of_n,
        cd,
        cd_blockwise,
        fudge,
        genarm,
        greedy,
        method,
        pargs,
        pargs_greedy,
        rad,
        sampling,
        tilt,
        vas,
    )
    from trimtab.errors import TrimtabError
    from trimtab.evaluation.experiment import evaluate
    from trimtab.evaluation.report import report
    from trimtab.evaluation.sweep import sweep
    from trimtab.evaluation.table import measure
    from trimtab.guides import (
        Center,
        Clamp,
        LogSigmoid,
        RewardGuide,
        TextGuide,
        ValueGuide,
        VocabularyGuide,
        WeightedSum,
        load_guide,
        save_guide,
    )
    from trimtab.inspection import inspect_guide
    from trimtab.models.proposals import TableLM
    from trimtab.models.transformers import TransformersLM
    from trimtab.runs import Processes, collect, read_groups
    from trimtab.steering import steer
    from trimtab.testing import check_guide, check_method, check_model, check_rule
    from trimtab.training import train
    from trimtab.types import (
        Candidates,
        Completion,
        Cost,
        Group,
        Prompt,
        Sample,
        Samples,
        Step,
        TopK,
        Vocabulary,
    )


__all__ = [
    "METHODS",
    "Candidates",
    "Center",
    "Clamp",
    "Completion",
    "Cost",
    "Greedy",
    "Group",
    "LogSigmoid",
    "Method",
    "Processes",
    "Prompt",
    "RewardGuide",
    "Sample",
    "Samples",
    "Step",
    "Stochastic",
    "TableLM",
    "TextGuide",
    "TopK",
    "TransformersLM",
    "TrimtabError",
    "ValueGuide",
    "Vocabulary",
    "VocabularyGuide",
    "WeightedSum",
    "args",
    "args_stochastic",
    "best_of_n",
    "cd",
    "cd_blockwise",
    "check_guide",
    "check_method",
    "check_model",
    "check_rule",
    "collect",
    "decode",
    "decode_steps",
    "evaluate",
    "fudge",
    "genarm",
    "greedy",
    "inspect_guide",
    "load_guide",
    "measure",
    "method",
    "pargs",
    "pargs_greedy",
    "rad",
    "read_groups",
    "report",
    "sampling",
    "save_guide",
    "steer",
    "sweep",
    "tilt",
    "train",
    "vas",
]
__getattr__, __dir__ = door(__name__)
