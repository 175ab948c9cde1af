"""What a name means: the same for the command line, YAML and Python."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import trimtab as tt
from tests import toys
from trimtab.errors import UnknownNameError, UsageError
from trimtab.runs.resolve import (
    find_guide,
    find_method,
    find_methods,
    find_model,
    find_reward,
    guide_kind,
)
from trimtab.types import Sample

SAMPLES, TEXTS = [Sample("a", "a")], ["w7 w7"]


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(
        "import trimtab as tt\n"
        "def score(prompts, texts):\n    return [float(t.count('w7')) for t in texts]\n"
        "def guide(lm):\n    return tt.TextGuide(score, lm.decode, name='made')\n"
        "def hot(beta=2.0):\n    return tt.cd(beta=beta, k=3)\n"
        "def nothing():\n    return 3\n"
        "number = 3\n"
    )
    return str(path)


def test_a_file_and_a_name_are_short_for_python(mine: str) -> None:
    short, long = find_reward(f"{mine}:score"), find_reward(f"python:{mine}:score")
    assert short == long
    assert short.name == "score"
    assert list(short.function(SAMPLES, TEXTS)) == [2.0]
    assert pickle.loads(pickle.dumps(short)).function(SAMPLES, TEXTS) == [2.0]  # noqa: S301


def test_a_guide_is_found_by_every_kind_of_name(mine: str, tmp_path: Path) -> None:
    lm = toys.language_model()
    folder = tt.save_guide(toys.value_guide(vocab=lm.vocab), tmp_path / "guide")
    kinds = {
        "brevity": "reward", "reward:sentiment": "reward", "2*words - 1*brevity": "reward",
        f"{mine}:score": "reward", f"reward:{mine}:score": "reward", "sentiment": "folder",
        str(folder): "folder", f"{mine}:guide": "plugin", "org/name": "model",
    }  # fmt: skip
    assert {name: guide_kind(name) for name in kinds} == kinds
    for name in ("brevity", f"{mine}:score", f"{mine}:guide", str(folder)):
        source = find_guide(name, lm)
        again = find_guide(source, lm)
        assert again is source
        assert source.fingerprint == find_guide(name, lm).fingerprint
        assert not source.unknown
        assert pickle.loads(pickle.dumps(source)).open(lm).name  # noqa: S301
    assert find_guide(f"{mine}:guide", lm).name == "made"
    ready = toys.value_guide(vocab=lm.vocab)
    assert find_guide(ready, lm).open(lm) is ready
    assert find_guide(find_reward("words"), lm).name == "words"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("brevty", "did you mean brevity"),
        ("reward:brevty", "did you mean brevity"),
        ("./nowhere", "a folder must be there"),
    ],
)
def test_what_can_be_no_guide_is_said_before_anything_is_loaded(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        guide_kind(name)


def test_a_guide_of_ones_own_must_be_one(mine: str) -> None:
    lm = toys.language_model()
    with pytest.raises(UsageError, match="must be a guide"):
        find_guide(f"{mine}:number", lm)


def test_methods_are_found_by_name_and_in_files(mine: str) -> None:
    assert find_method("vas", beta=2.0).beta == 2.0
    assert find_method(f"{mine}:hot", beta=3.0).beta == 3.0
    assert [m.beta for m in find_methods([f"{mine}:hot", "greedy"], {"beta": [1, 4]})] == [1, 4, 0]
    for call, says in (
        (lambda: find_method("vass"), "did you mean vas"),
        (lambda: find_method("vas", betta=2), "did you mean beta"),
        (lambda: find_methods(["greedy"], {"beta": [1.0]}), "a parameter of greedy"),
    ):
        with pytest.raises(UnknownNameError, match=says):
            call()
    with pytest.raises(UsageError, match="must return a Method"):
        find_method(f"{mine}:nothing")


def test_a_model_is_opened_by_what_can_be_sent(tmp_path: Path) -> None:
    toys.causal_lm().save_pretrained(tmp_path / "base")
    toys.tokenizer().save_pretrained(tmp_path / "base")
    opener = pickle.loads(  # noqa: S301
        pickle.dumps(find_model(str(tmp_path / "base"), device="cpu", base_temperature=0.7))
    )
    assert opener().base_temperature == 0.7
    for wrong, says in (
        ({"dtype": "flot16"}, "did you mean float16"),
        ({"device": "gpu9"}, "torch can use here"),
    ):
        with pytest.raises(UsageError, match=says):
            find_model(str(tmp_path / "base"), **wrong)
    with pytest.raises(UnknownNameError, match="did you mean smollm2"):
        find_model("smolm2")
