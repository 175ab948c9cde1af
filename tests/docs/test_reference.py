"""The pages of the reference list what the doors give, each in an order that a reader needs."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT

DIRECTIVE = re.compile(r"^::: (?P<path>[\w.]+)\n(?P<options>(?: {4}.*\n)*)", re.M)

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))

LISTED = [
    (path, options["options"]["members"])
    for page in PAGES
    for path, text in DIRECTIVE.findall(page.read_text(encoding="utf-8"))
    if "members" in (options := yaml.safe_load(text) or {}).get("options", {})
]


@pytest.mark.parametrize(("path", "members"), LISTED, ids=[path for path, _ in LISTED])
def test_a_page_lists_all_that_a_door_gives(path: str, members: list[str]) -> None:
    module = importlib.import_module(path)
    assert len(members) == len(set(members))
    if hasattr(module, "__all__"):
        assert set(members) == set(module.__all__)
    else:
        assert all(hasattr(module, name) for name in members)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_page_of_the_reference_can_be_reached(page: Path) -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f"reference/{page.name}\n" in settings
