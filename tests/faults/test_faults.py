"""The list of faults stays true to the code: each can still be put in, and names tests that exist.

That each is caught is what `python -m tests.faults` shows; it takes minutes.
"""

from __future__ import annotations

import ast

import pytest

from tests.faults.faults import FAULTS, ROOT, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_can_be_put_in(fault: Fault) -> None:
    file = ROOT / "src" / "trimtab" / fault.file
    changed = fault.put_into(file.read_text())
    assert changed != file.read_text()
    ast.parse(changed)
    for test in fault.tests:
        assert (ROOT / test.split("::", maxsplit=1)[0]).exists()


def test_there_are_twenty_and_each_is_another() -> None:
    assert len(FAULTS) >= 20
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
