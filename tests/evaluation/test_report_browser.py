"""The report in a real browser, where there is one: it is silent, fits any width, and answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import trimtab as tt
from tests.evaluation.test_report import swept

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")

FRAMES = """<!doctype html><title>-</title>
<iframe id="a" src="report.html" width="390" height="800"></iframe>
<iframe id="b" src="report.html" width="1200" height="800"></iframe>
<script>
function use(page) {
  // Sort by reward, twice: the best method stands first.
  const head = () => page.querySelector("main th:nth-child(2) button");
  head().click(); head().click();
  const best = page.querySelector("tbody th").textContent;
  // One prompt is shown; the next button shows another one.
  const prompts = [...page.querySelectorAll(".comparison")];
  const shown = () => prompts.findIndex(prompt => !prompt.hidden);
  const alone = prompts.filter(prompt => !prompt.hidden).length;
  page.querySelector("[data-step='1']").click();
  // A token says its numbers when it has the focus, and the arrow key moves on.
  const token = prompts[1].querySelector(".t[data-words*=push]");
  const key = new page.defaultView.KeyboardEvent("keydown", {key: "ArrowRight"});
  token.dispatchEvent(new Event("focus"));
  const tip = page.querySelector("#tip");
  const rows = [...tip.querySelectorAll("tr")].map(row => row.cells.length);
  const said = !tip.hidden && tip.textContent.startsWith(token.dataset.words)
    && rows.length > 1 && rows.every(cells => cells === 4);
  token.dispatchEvent(key);
  return `${best}|${alone}|${shown()}|${said}|${token.tabIndex}`;
}
addEventListener("load", () => {
  document.title = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument.documentElement;
    const pictures = [...frame.contentDocument.querySelectorAll("svg")];
    const seen = pictures.filter(p => p.getBoundingClientRect().height > 100).length;
    return `${page.scrollWidth - page.clientWidth}/${seen}`;
  }).join(" ") + " " + use(document.querySelector("#b").contentDocument);
});
</script>
"""


def browse(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page after it has run, and what the console said."""
    assert CHROMIUM is not None
    quiet = ("background-networking", "component-update", "gpu", "quic", "sync", "extensions")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--no-first-run",
            *(f"--disable-{name}" for name in quiet),
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_browser_shows_it_silently_at_any_width(tmp_path: Path) -> None:
    # The page's own policy forbids every request: one that was tried would be on the console.
    tt.report(swept(tmp_path / "results"), tmp_path / "out")
    frames = tmp_path / "out" / "frames.html"
    frames.write_text(FRAMES)
    dom, console = browse(frames, tmp_path / "profile")
    assert console == []
    (title,) = re.findall("<title>(.*?)</title>", dom)
    fits, used = title[:7], title[8:]
    assert fits == "0/4 0/4"  # nothing to scroll to sideways; four pictures seen
    assert used == "vas(beta=9, k=2)|1|1|true|-1"


def test_a_request_would_be_seen(tmp_path: Path) -> None:
    (page, *_) = tt.report(swept(tmp_path / "results"), tmp_path / "out")
    page.write_text(page.read_text().replace("<main>", '<main><img src="http://localhost:1/x">'))
    _, console = browse(page, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)
