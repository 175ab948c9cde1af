"""The notebooks run from their first cell to the last, on the real model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.needs import needs_asset

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])

RUN = """
import sys
import nbformat
from nbclient import NotebookClient

source, target, folder = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
NotebookClient(notebook, timeout=280, resources={"metadata": {"path": folder}}).execute()
nbformat.write(notebook, target)
"""


def pages(notebook: Path) -> list[str]:
    """What the cells show as HTML."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    return [out.data["text/html"] for out in outputs if "text/html" in out.get("data", {})]


@names
def test_what_it_shows_is_kept_and_small(path: Path) -> None:
    nbformat.validate(nbformat.read(path, as_version=4))
    assert len(pages(path)) > 1
    text = path.read_text(encoding="utf-8")
    assert len(text) < 40_000
    assert '"stderr"' not in text


@needs_asset("smollm2")
@pytest.mark.slow
@names
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    (tmp_path / "work").mkdir()
    done = tmp_path / "done.ipynb"
    ran = subprocess.run(
        [sys.executable, "-c", RUN, path, done, tmp_path / "work"],
        capture_output=True, text=True, check=False, timeout=290,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    shown, kept = pages(done), pages(path)
    assert len(shown) == len(kept)
    assert any("KL" in page for page in shown), "a text with what it cost"
    assert any("<table" in page for page in shown)
