"""The front door: its names, and what opening it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import trimtab as tt

NAMES = [
    "METHODS",
    "Candidates",
    "Center",
    "Clamp",
    "Completion",
    "Cost",
    "LogSigmoid",
    "Method",
    "Processes",
    "Prompt",
    "RewardGuide",
    "Samples",
    "Step",
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
    "sampling",
    "save_guide",
    "steer",
    "sweep",
    "train",
    "vas",
]


def test_public_names() -> None:
    assert tt.__all__ == NAMES, "a public name came or went: say so in the changelog"


def test_every_public_name_is_there_and_documented() -> None:
    for name in tt.__all__:
        assert getattr(tt, name).__doc__ or name == "METHODS"
    assert {*tt.__all__, "__version__"} <= set(dir(tt))


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'vass'"):
        tt.vass  # noqa: B018


def loaded_by(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    report = "import sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_importing_trimtab_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "numpy", "jaxtyping", "rich", "cyclopts", "pyarrow", "peft"}
    assert not loaded_by("import trimtab; dir(trimtab)") & heavy


def test_methods_do_not_load_transformers() -> None:
    loaded = loaded_by("import trimtab; trimtab.vas(beta=1.0); trimtab.TableLM; trimtab.decode")
    assert "torch" in loaded
    assert not loaded & {"transformers", "peft", "pyarrow", "rich", "cyclopts"}
