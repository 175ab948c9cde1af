"""What is trained, and how it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SEEDS = (0, 1, 2)
TOPICS, EACH = 100, 12
"""Topics that are trained on, and responses to each."""
BASE: dict[str, Any] = {
    "learn": "sentiment",
    "layers": 4,
    "lora_rank": 16,
    "lora_alpha": 32,
    "lr": [1e-3],
    "epochs": 2,
    "batch_size": 32,
    "evaluations": 1,
    "bf16": True,
    "device": "cpu",
}


@dataclass(frozen=True)
class Arm:
    """One line of the table.

    Attributes:
        name: what it is called.
        objective: what trains it.
        changes: of the training's settings.
        share: of the training groups.
        betas: strengths to decode with, in the guide's unit.
        methods: other `vas` parameters to decode with, by name; the first one is the line's own.
    """

    name: str
    objective: str = "td-lambda"
    changes: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    betas: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0)
    methods: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {"k": 10}})


DECODING: dict[str, dict[str, Any]] = {
    "": {"k": 10},
    "tail dropped": {"k": 10, "tail": "drop"},
    "k = 5": {"k": 5},
    "k = 20": {"k": 20},
    "k = 100": {"k": 100},
}
MADE = {"margin": 0.2, "pairs_per_group": 12}
PAIRS = {"unit": "std", "settings": MADE}
IN_STD = (4.0, 8.0, 16.0, 32.0)
ARGS: Any = {"betas": (2.0, 4.0, 8.0, 16.0), "methods": {"": {"k": 10, "tail": "drop"}}}

ARMS = (
    Arm("td", changes={"settings": {"lambda_": 0.95}}, methods=DECODING),
    Arm("td0", "cd-q"),
    Arm("td1", "monte-carlo"),
    Arm("data-25", share=0.25),
    Arm("data-50", share=0.5),
    Arm("full-bt", "bradley-terry", PAIRS, **ARGS),
    Arm("partial-bt", "partial-bradley-terry",
        {**PAIRS, "settings": {**MADE, "prefixes": "all"}}, **ARGS),
    Arm("q", "q"),
    Arm("dueling-q", "dueling-q"),
    Arm("value-advantage", "value-advantage"),
    Arm("ilql", "ilql"),
    Arm("farma", "farma", PAIRS, betas=IN_STD),
    Arm("genarm", "genarm", {**PAIRS, "unit": "reward", "layers": None, "lr": [3e-4], "epochs": 1},
        betas=(1.0, 2.0, 4.0, 8.0), methods={"": {"k": 100}}),
)  # fmt: skip
