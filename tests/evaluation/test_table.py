"""Tables and completions show themselves: in a notebook, to pandas, as text."""

from __future__ import annotations

from dataclasses import replace

import trimtab as tt
from trimtab.evaluation.presentation import TextTable, number, p_value, with_error
from trimtab.evaluation.table import Table
from trimtab.types import Response

ROWS = (
    {"method": "sampling", "guide": None, "prompts": 2, "reward": 0.25, "reward_se": 0.5},
    {"method": "vas(beta=<2>)", "guide": "mine", "prompts": 2, "reward": -1e-9, "reward_se": None},
)
ABOUT = {"task": "t", "split": "test", "model": "m", "seed": 0, "reward": "r", "baseline": "b"}
TABLE = Table(ABOUT, ROWS)


def test_a_table_becomes_a_frame() -> None:
    frame = TABLE.to_pandas()
    assert list(frame.columns) == TABLE.columns == list(ROWS[0])
    assert frame["reward"].tolist() == [0.25, -1e-9]


def test_a_table_shows_itself_in_a_notebook() -> None:
    html = TABLE._repr_html_()
    assert "<td>0.250 ± 0.500</td>" in html
    assert "vas<wbr>(beta=&lt;2&gt;) by mine" in html
    assert html.count("<tr") == 3


def test_texts_cannot_leave_their_field() -> None:
    table = TextTable("", ("a", "b"), (("x | y", "<i>\nz"),))
    assert table.to_markdown().splitlines()[2] == "| x \\| y | &lt;i> z |"
    assert "<i>" not in table._repr_html_()


def test_numbers_are_said_alike_everywhere() -> None:
    assert (number(-0.0004), number(None), number("x"), number(0.126, ".0%")) == (
        "0.000",
        "–",  # noqa: RUF001
        "x",
        "13%",
    )
    assert with_error(1.0, None, ".1f") == "1.0"
    assert (p_value(0.0001), p_value(0.04321)) == ("< 0.001", "0.043")


def test_a_completion_shows_itself_in_a_notebook() -> None:
    lm = tt.TableLM(size=4, seed=1)
    guide = tt.TextGuide(lambda prompts, texts: [float(t.count("b")) for t in texts], lm.decode)
    responses = tt.decode(lm, guide, tt.vas(2.0, k=3), ["b"], n=8, max_new_tokens=4)
    for done in responses:
        html = done._repr_html_()
        assert html.count('class="t"') == sum(1 for step in done.steps if step.text)
        assert f"KL {done.kl:.2f} nats" in html
    assert any("--c:var(--up)" in done._repr_html_() for done in responses)
    first = Response.of(responses[0])
    shown = replace(first, rewards={"bs": 2.0})._repr_html_()
    assert f"<small>bs +2, KL {first.kl:.2f} nats, {len(first.tokens)} tokens" in shown
    assert Response((), "<i>")._repr_html_().count("<i>") == 0
    (plain,) = tt.decode(lm, None, tt.greedy(), ["a"], max_new_tokens=4)
    assert "push" not in plain._repr_html_()
