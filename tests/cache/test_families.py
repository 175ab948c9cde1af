"""Every family of causal models that transformers offers is read right, or refused by its name."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.cache.families import FAMILIES, NEEDS, WAYS, listed, refusal, unborn


def test_the_page_lists_every_family_that_can_be_opened() -> None:
    assert set(FAMILIES) <= set(listed()), "run `python -m tests.cache.families`"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")  # what transformers says of its own default configs
def test_a_family_is_read_as_the_page_says_or_refused_by_name(family: str) -> None:
    net = unborn(family)
    found = [refusal(net, way) for way in WAYS]
    if family not in NEEDS or find_spec(NEEDS[family]) is None:
        assert tuple(error is None for error in found) == listed()[family]
    for error in found:
        assert error is None or net.config.model_type in str(error)
