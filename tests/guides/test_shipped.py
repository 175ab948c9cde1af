"""The guides that come with the package."""

from __future__ import annotations

from statistics import fmean

import pytest

import trimtab as tt
from tests import toys
from tests.needs import needs_asset
from trimtab import rewards, tasks
from trimtab.errors import IncompatibleError
from trimtab.guides import shipped_guides, verify
from trimtab.guides.manifest import guide_folder

MOST = 3_000_000


@pytest.mark.parametrize("name", ["concise", "sentiment"])
def test_a_shipped_guide_is_whole_small_and_says_what_it_is(name: str):
    folder = shipped_guides()[name]
    manifest = verify(folder)
    assert manifest.base == "smollm2"
    assert manifest.storage == "base"
    assert manifest.objective["name"] == "td-lambda"
    assert manifest.reward["n"] >= 1000
    assert sum(p.stat().st_size for p in folder.rglob("*.safetensors")) <= MOST
    assert guide_folder(name) == folder


def test_names_that_are_no_guide(tmp_path):
    assert guide_folder("no-such-guide") is None
    assert guide_folder(tmp_path) is None


def test_another_base_is_refused():
    with pytest.raises(IncompatibleError, match="use the base that it was trained for, smollm2"):
        tt.load_guide("sentiment", lm=toys.language_model())


@pytest.mark.slow
@needs_asset("smollm2")
def test_the_sentiment_guide_steers_topics_that_it_has_not_seen():
    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="float32")
    guide = tt.load_guide("sentiment", lm=lm)
    samples = tasks.find("sentiment").samples("test")[:6]
    asked = [s for s in samples for _ in range(2)]

    def mean(beta: float) -> float:
        out = tt.decode(
            lm, guide, tt.vas(beta, k=10), [s.prompt for s in samples], n=2, max_new_tokens=32
        )
        return fmean(rewards.find("sentiment")(asked, [c.text for c in out]))

    assert mean(20.0) > mean(0.0) + 0.2


@pytest.mark.slow
@needs_asset("smollm2")
def test_the_concise_guide_shortens():
    lm = tt.TransformersLM("smollm2", base_temperature=0.7, dtype="float32")
    guide = tt.load_guide("concise", lm=lm)
    prompts = [s.prompt for s in tasks.find("verbosity").samples("test")[:4]]

    def mean(beta: float) -> float:
        out = tt.decode(lm, guide, tt.vas(beta, k=10), prompts, n=2, max_new_tokens=100)
        return fmean(len(c.tokens) for c in out)

    assert mean(10.0) < 0.8 * mean(0.0)
