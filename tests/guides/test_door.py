"""The door of the guides: what it lists is there, and nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trimtab as tt
from trimtab import guides

HEAVY = ("torch", "transformers", "trimtab.guides.cached")


def test_every_name_of_the_door_is_there() -> None:
    assert guides.__all__ == sorted(guides.__all__)
    assert set(guides.__all__) <= set(dir(guides))
    for name in guides.__all__:
        assert getattr(guides, name).__name__ == name


def test_the_front_door_gives_the_same_things() -> None:
    for name in sorted({*guides.__all__} & {*tt.__all__}):
        assert getattr(tt, name) is getattr(guides, name)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'trimtab.guides' has no attribute 'Ruder'"):
        guides.__getattr__("Ruder")


def test_importing_the_door_imports_nothing_heavy() -> None:
    code = f"import sys, trimtab.guides; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
