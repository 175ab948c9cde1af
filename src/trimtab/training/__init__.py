"""From a reward to a guide: objectives, and one trainer for all of them.

    train("td-lambda", "rollouts", "my-guide", learn="sentiment", layers=8)
    train(read_config("train.yaml", seed=1))                         the same from a file

An objective of your own is one class (`trimtab.training.objectives.base`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.training.config import TrainConfig, read_config
    from trimtab.training.data import split
    from trimtab.training.objectives import OBJECTIVES, Objective, objective
    from trimtab.training.run import Trained, train

__all__ = [
    "OBJECTIVES",
    "Objective",
    "TrainConfig",
    "Trained",
    "objective",
    "read_config",
    "split",
    "train",
]
__getattr__, __dir__ = door(__name__)
