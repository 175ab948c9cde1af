"""The notebooks run from their first cell to the last, on the real model."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
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

LOUD = ("stream.stderr", "error")
"""What no cell may put out."""


def outputs(notebook: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of a cell, and what it put out by kind."""
    for i, cell in enumerate(nbformat.read(notebook, as_version=4).cells):
        for out in cell.get("outputs", []):
            kind = out.output_type + (f".{out.name}" if out.output_type == "stream" else "")
            yield i, {kind: out.get("text", ""), **out.get("data", {})}


@names
def test_it_is_kept_without_outputs(path: Path) -> None:
    """What came out of one machine is no part of it; so a change of it can be read."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        if cell.cell_type == "code":
            ast.parse(cell.source)


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
    shown = list(outputs(done))
    assert not [out for _, out in shown if out.keys() & {*LOUD}]
    pages = [out["text/html"] for _, out in shown if "text/html" in out]
    assert any("nats" in page or "KL" in page for page in pages), "a tinted text"
    assert any("<table" in page for page in pages)
