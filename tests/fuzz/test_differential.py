"""Two hundred decodes of anything by anything, each row held to recomputation without a cache."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.cases import Case, cases, run

CASES = 200
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_every_row_is_what_recomputation_says(part: int) -> None:
    @seed(part)
    @settings(
        max_examples=CASES // PARTS,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # `python -m tests.fuzz` shrinks
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def holds(case: Case) -> None:
        run(case)

    holds()
