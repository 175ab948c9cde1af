"""Objectives by name: what a guide learns by.

Each is a frozen dataclass of one formula, which its docstring states with its source.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trimtab.errors import UnknownNameError, check_keywords
from trimtab.schema import check_settings
from trimtab.training.objectives.base import Head, Objective
from trimtab.training.objectives.preferences import (
    BradleyTerry,
    FaRMA,
    GenARM,
    PartialBradleyTerry,
)
from trimtab.training.objectives.values import (
    ILQL,
    DuelingQ,
    Fudge,
    QLearning,
    Rad,
    TDLambda,
    ValueAdvantage,
)

__all__ = [
    "ILQL",
    "OBJECTIVES",
    "BradleyTerry",
    "DuelingQ",
    "FaRMA",
    "Fudge",
    "GenARM",
    "Head",
    "Objective",
    "PartialBradleyTerry",
    "QLearning",
    "Rad",
    "TDLambda",
    "ValueAdvantage",
    "objective",
]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "td-lambda": TDLambda,
    "monte-carlo": partial(TDLambda, lambda_=1.0),
    "cd-q": partial(TDLambda, lambda_=0.0),
    "fudge": Fudge,
    "rad": Rad,
    "q": QLearning,
    "dueling-q": DuelingQ,
    "value-advantage": ValueAdvantage,
    "ilql": ILQL,
    "bradley-terry": BradleyTerry,
    "partial-bradley-terry": PartialBradleyTerry,
    "genarm": GenARM,
    "farma": FaRMA,
}
"""What makes an objective, by the name that the command line knows."""


def objective(name: str, **parameters: Any) -> Objective:
    """The objective of that name.

    Args:
        name: one of `OBJECTIVES`.
        **parameters: its own, e.g. `lambda_`.

    Raises:
        UnknownNameError: there is none, or no such parameter or word; near names are offered.
        UsageError: a value of the wrong kind.

    >>> objective("td-lambda", lambda_=0.9)
    TDLambda(lambda_=0.9)
    """
    if name not in OBJECTIVES:
        raise UnknownNameError("an objective", name, OBJECTIVES)
    plain = OBJECTIVES[name]()
    check_keywords(name, parameters, vars(plain))
    check_settings(type(plain), parameters, of=f"a parameter of {name}", do=f"it has {plain!r}")
    return OBJECTIVES[name](**parameters)
