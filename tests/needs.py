"""Marks for tests that need what is fetched on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from trimtab.assets import is_fetched


def needs_asset(name: str) -> Callable[[Any], Any]:
    """Marks a test with `assets`, and skips it where the asset is not on this machine."""
    skip = pytest.mark.skipif(not is_fetched(name), reason=f"run `trimtab assets fetch {name}`")

    def mark(test: Any) -> Any:
        return pytest.mark.assets(skip(test))

    return mark
