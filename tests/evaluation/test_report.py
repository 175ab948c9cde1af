"""Reports: complete, self-contained, the same every time, and saying no more than the figures."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests.evaluation import worlds
from tests.evaluation.test_experiment import GUIDE, TASK
from tests.runs.test_store import files
from tests.shell import trimtab
from trimtab.errors import ResultsError, UsageError
from trimtab.evaluation.experiment import evaluate
from trimtab.evaluation.metrics import Metric
from trimtab.evaluation.presentation import number
from trimtab.evaluation.report import compose, page
from trimtab.evaluation.results import comparisons, read_results
from trimtab.evaluation.sweep import sweep
from trimtab.evaluation.words import curves, find_peak, verdict
from trimtab.runs.resolve import Scorer, find_methods
from trimtab.types import Sample
from trimtab.types.html import TintedToken, tinted_html

NAMES = {
    "report.html",
    "report.md",
    "gain.png",
    "frontier.png",
    "strength.png",
    "cost.png",
    "test.csv",
    "validation.csv",
    "best-of-n.csv",
}
VOID = {"meta", "link", "br", "wbr", "hr", "img", "input"}


def opposite(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
    """What the reward gains, this judge loses."""
    return [-float(text.count("b")) for text in responses]


def swept(folder: Path, judge: Any = worlds.early) -> Path:
    names = ["sampling", "greedy", "args", "vas", "best-of-n"]
    methods = find_methods(names, {"beta": [0.5, 3.0, 9.0], "k": [2], "n": [2]})
    task = replace(TASK, judge=judge)
    sweep(worlds.model(), task, methods, folder, guides=[GUIDE], n=16)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = swept(tmp_path_factory.mktemp("swept"))
    tt.report(found)
    return found


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report" / "report.html").read_text()


class Page(HTMLParser):
    """Checks that what is opened is closed, and collects what a browser would ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


# --- the files -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_files_are_there_and_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    assert set(files(folder / "report")) == NAMES
    again = tt.report(folder, tmp_path / "deep" / "elsewhere")
    assert again[0].name == "report.html"
    assert files(tmp_path / "deep" / "elsewhere") == files(folder / "report")


def test_a_users_plot_style_changes_nothing(folder: Path, html: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"lines.linewidth": 9.0, "font.size": 30.0}):
        assert page(compose(read_results(folder))) == html


def test_csv_holds_the_tables(folder: Path) -> None:
    for split in ("test", "validation"):
        table = (folder / "tables" / f"{split}.csv").read_text()
        assert (folder / "report" / f"{split}.csv").read_text() == table
    rows = list(csv.DictReader((folder / "report" / "best-of-n.csv").read_text().splitlines()))
    assert [row["n"] for row in rows] == ["1", "2", "4", "8", "16"]


def test_markdown_shows_every_cell_and_picture(folder: Path) -> None:
    text = (folder / "report" / "report.md").read_text()
    for entry in [e for s in read_results(folder).sheets.values() for e in s.entries]:
        assert f"| {entry.name} |" in text
    for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
        assert (folder / "report" / name).exists()
    assert json.loads(text.split("```json\n")[1].split("```")[0])["about"]["task"] == "letters"


def test_the_command_writes_and_names_the_files(folder: Path, tmp_path: Path) -> None:
    done = trimtab("report", str(folder), "--out", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    assert {Path(line).name for line in done.stdout.split()} == NAMES


# --- the page ------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    found = Page(html)
    assert found.open == []
    asked = [v for name in ("src", "href", "xlink:href", "srcset") for v in found.values(name)]
    assert [v for v in asked if not v.startswith(("#", "data:"))] == []
    assert re.findall(r"url\((?!['\"]?#)|@import|fetch|XMLHttp|<script [^>]", html) == []
    outside = {v for v in re.findall(r"https?://[^\"'<\s]+", html) if "www.w3.org" not in v}
    assert outside == set()
    assert any(a.get("name") == "viewport" for t, a in found.tags if t == "meta")
    assert ("html", {"lang": "en"}) in found.tags


def test_ids_are_unique_and_every_reference_has_one(html: str) -> None:
    found = Page(html)
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    named = {v[1:] for v in found.values("href") + found.values("xlink:href") if v[:1] == "#"}
    named |= set(re.findall(r"url\(#([^)]+)\)", html)) | set(found.values("aria-describedby"))
    assert named <= set(ids)


def test_the_page_shows_every_cell_and_four_pictures_in_words(folder: Path, html: str) -> None:
    found = Page(html)
    words = "".join(found.words)
    for sheet in read_results(folder).sheets.values():
        for entry in sheet.entries:
            assert entry.name in words
            assert entry.condition.key in words
    pictures = [a for t, a in found.tags if t == "svg"]
    assert [a["role"] for a in pictures] == ["img"] * 4
    assert all(a["aria-label"] for a in pictures)
    assert "vas(beta=9, k=2) reward" in words
    assert html.count("<figcaption>") == 4


def test_tables_scroll_in_boxes_that_the_keyboard_reaches(html: str) -> None:
    found = Page(html)
    boxes = [a for t, a in found.tags if a.get("class") == "scroll"]
    assert len(boxes) == html.count("<table>") >= 5
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in boxes)


@pytest.mark.slow
def test_texts_cannot_become_markup(tmp_path: Path) -> None:
    report = compose(read_results(swept(tmp_path)))
    (first, *_) = report.comparisons
    evil = "<script>alert(1)</script> | ' \" & $title {{ title }}"
    token = TintedToken(evil, 0.5, 0.1, -1.0, ((evil, -1.0, 0.0, -1.0),))
    answers = tuple(replace(a, tokens=(token,), method=evil) for a in first.answers)
    shown = page(
        replace(
            report,
            title=evil,
            opening=evil,
            warnings=(evil,),
            comparisons=(replace(first, prompt=evil, why=evil, answers=answers),),
        )
    )
    assert "<script>alert" not in shown
    assert shown.count("<script") == page(report).count("<script") == 1
    assert Page(shown).open == []


# --- what it says --------------------------------------------------------------------------------


@pytest.mark.slow
def test_over_optimisation_is_said_where_it_is_seen(tmp_path: Path) -> None:
    results = read_results(swept(tmp_path, opposite))
    peaks = [find_peak(c, results.grid) for c in curves(results.grid)]
    (vas,) = [p for p in peaks if p and p.curve.name == "vas(k=2)"]
    assert vas.verdict == "over-optimised"
    assert (vas.at.beta, vas.last.beta) == (0.5, 9.0)
    assert vas.judge is not None
    assert vas.judge.p < 0.05
    said = verdict(vas)
    assert "the reward keeps rising after beta 0.5 while the judge's score falls" in said
    assert said in compose(results).warnings


@pytest.mark.slow
def test_over_optimisation_is_not_said_of_noise_nor_of_a_judge_that_agrees(tmp_path: Path) -> None:
    agreed = read_results(swept(tmp_path / "agrees", worlds.count_b))
    verdicts = compose(agreed).verdicts
    assert not any("optimises the guide" in said for said in verdicts)
    assert all("no over-optimisation was seen" in said for said in verdicts)
    constant = read_results(swept(tmp_path / "same", lambda p, r: [0.0] * len(r)))
    assert not any("optimises the guide" in said for said in compose(constant).verdicts)


def test_the_summary_gives_the_tables_own_figures(folder: Path) -> None:
    results = read_results(folder)
    best = max(results.head.entries, key=lambda e: e.number("reward") or 0.0)
    report = compose(results)
    said = " ".join([report.opening, *(f"{f.answer} {f.words}" for f in report.facts)])
    assert best.name in said
    for column in (
        "reward",
        "reward_se",
        "reward_gain",
        "reward_gain_se",
        "judge_gain",
        "reward_low",
    ):
        assert number(best.number(column)).lstrip("-") in said
    assert "9 prompts of letters" in said


def test_without_a_judge_without_samples_without_strengths(tmp_path: Path) -> None:
    task = replace(TASK, judge=None)
    evaluate(worlds.model(), task, [tt.greedy(), tt.args(1.0, k=2)], tmp_path, guides=[GUIDE])
    tt.report(tmp_path)
    report = compose(read_results(tmp_path))
    assert [d.name for d in report.drawings] == ["frontier", "cost"]
    assert report.verdicts[0].startswith("Without a judge")
    assert not (tmp_path / "report" / "best-of-n.csv").exists()


def test_one_method_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    evaluate(worlds.model(), TASK, [tt.greedy()], tmp_path)
    tt.report(tmp_path)
    assert "nothing to compare" in (tmp_path / "report" / "report.html").read_text()


# --- texts ---------------------------------------------------------------------------------------


def test_side_by_side_texts_are_the_first_responses(folder: Path) -> None:
    results = read_results(folder)
    shown = comparisons(results.head)
    evenly = [c.prompt for c in shown if c.why == "picked by nobody"]
    assert evenly == ["baa", "bba", "bbc", "bcc"]
    assert {c.why for c in shown} >= {"picked by nobody", "most gained"}
    assert len({c.prompt for c in shown}) == len(shown) > 4
    for one in shown:
        assert one.answers[0].method == "sampling"
        for answer in one.answers:
            assert dict(answer.scores)["reward"] == answer.text.count("b")
        guided = next(a for a in one.answers if a.method.startswith("vas"))
        assert all(t.score is not None and t.push is not None for t in guided.tokens)
        assert all(t.push is None for t in one.answers[0].tokens)


def test_tints_say_the_push_and_its_numbers() -> None:
    tokens = [
        TintedToken("<a>", push=9.0, score=1.5, logprob=0.0),
        TintedToken("b"),
        TintedToken("", push=1.0),
        TintedToken("c", push=-0.001),
        TintedToken("d", push=-1.5, logprob=-0.5, alternatives=(("<", -1.0, 2.0, -0.5),)),
    ]
    strong, plain, faint, weak = re.findall(r"<b.*?</b>|b", tinted_html(tokens))
    assert '"--c:var(--up);--a:.65"' in strong
    assert 'title="push +9.00, score +1.5, π 100%, base 0%">&lt;a&gt;' in strong
    assert plain == "b"
    assert "style" not in faint
    assert '"--c:var(--down);--a:.33"' in weak
    assert 'data-a="[[&quot;&lt;&quot;,&quot;36.8%&quot;,&quot;+2&quot;' in weak


def test_a_mended_reward_is_not_mistaken_for_the_one_before(folder: Path, tmp_path: Path) -> None:
    def count_b(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        return [7.0] * len(responses)

    methods = [tt.sampling(), tt.args(1.0, k=2)]
    for reward in (count_b, worlds.count_b):
        task = replace(TASK, reward=reward)
        evaluate(worlds.model(), task, methods, tmp_path, guides=[GUIDE], n=4)
    results = read_results(tmp_path)
    sheet = results.head
    assert 7.0 not in sheet.entries[0].measured.scores["reward"]


# --- bad input -----------------------------------------------------------------------------------


def test_a_folder_that_is_none_or_has_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="must hold its manifest.json"):
        tt.report(tmp_path)
    evaluate(worlds.model(), TASK, [tt.greedy()], tmp_path)
    (table,) = (tmp_path / "tables").glob("*.json")
    record = next((tmp_path / "records").iterdir())
    record.write_text("{")
    with pytest.raises(ResultsError, match="must be a whole Parquet file"):
        tt.report(tmp_path)
    table.unlink()  # it is measured again, from the same record
    with pytest.raises(ResultsError, match="must be a whole Parquet file"):
        tt.report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_a_missing_plotting_package_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'trimtab\[eval\]'"):
        tt.report(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_metrics_that_were_asked_for_are_columns(tmp_path: Path) -> None:
    shares = Metric(
        "share",
        (("share", "share of b", ".2f"),),
        lambda answers: [answers.mean(answers.scores["share"])],
        Scorer("share", worlds.early, "1"),
    )
    methods = [tt.sampling(), tt.vas(1.0, k=2)]
    evaluate(worlds.model(), TASK, methods, tmp_path, guides=[GUIDE], n=8, metrics=[shares])
    report = compose(read_results(tmp_path))
    by_method, best, _of_steered = report.tables[0], *report.tables[-2:]
    of_base, one, eight = (
        table.rows[row][table.head.index("share of b")].partition(" ")[0]
        for table, row in ((by_method, 0), (best, 0), (best, -1))
    )
    assert of_base == one != eight, "it is read at the response that the reward chose"
