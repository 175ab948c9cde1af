"""A reward behind a real server on this machine."""

from __future__ import annotations

import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import pytest

from tests.toys import samples
from trimtab import rewards
from trimtab.errors import RewardError, UnavailableError, UsageError
from trimtab.rewards import ask
from trimtab.rewards.server import Server
from trimtab.runs.resolve import GuideSource, find_reward, short_name

Answer: TypeAlias = tuple[int, str]
Asked: TypeAlias = list[dict[str, list[str]]]


@contextmanager
def listening(answer: Callable[[int, dict[str, Any]], Answer]) -> Iterator[tuple[str, Asked]]:
    """A server on a free port, and what it was asked; `answer` sees the request's number."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            status, text = answer(len(asked) - 1, body)
            try:
                self.send_response(status)
                if status in (301, 302, 303, 307, 308):
                    self.send_header("Location", text)
                self.end_headers()
                self.wfile.write(text.encode())
            except OSError:  # who asked did not wait
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/score", asked
    finally:
        server.shutdown(), thread.join(), server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def lengths(_: int, body: dict[str, Any]) -> Answer:
    pairs = zip(body["prompts"], body["responses"], strict=True)
    return 200, json.dumps({"scores": [len(p) + len(r) / 10 for p, r in pairs]})


def quick(url: str, **options: Any) -> Server:
    return Server(url, **({"wait": 0.001, "tries": 3} | options))


def test_texts_go_there_in_batches_and_scores_come_back() -> None:
    with listening(lengths) as (url, asked):
        found = quick(url, batch_size=2)(samples("a", "bb", "ccc"), ["x", "yy", "z"])
        assert found == [1.1, 2.2, 3.1]
        assert asked == [
            {"prompts": ["a", "bb"], "responses": ["x", "yy"]},
            {"prompts": ["ccc"], "responses": ["z"]},
        ]
        assert rewards.find(url)(samples("a"), ["x"]) == [1.1]
        assert rewards.find(f"http:{url}") == rewards.find(url) == Server(url)
        assert rewards.find(f"-2*{url}")(samples("a"), ["x"]) == [-2.2]
        assert quick(url)([], []) == []


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_twice_is_asked_again(status: int) -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        return (status, "busy") if number < 2 else lengths(number, body)

    with listening(answer) as (url, asked):
        assert quick(url)(samples("a"), ["x"]) == [1.1]
        assert len(asked) == 3


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_always_fails_is_given_up(status: int) -> None:
    with listening(lambda *_: (status, "no luck")) as (url, asked):
        with pytest.raises(
            UnavailableError, match=f"status {status} 'no luck', asked 3 times"
        ) as e:
            ask(quick(url), samples("a", "b"), ["x", "y"])
        assert url.removeprefix("http://") in str(e.value)
        assert len(asked) == 3 + (status == 500), "the texts are not tried one by one"


def test_a_text_that_breaks_the_server_costs_only_itself() -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        return (500, "oops") if "y" in body["responses"] else lengths(number, body)

    with listening(answer) as (url, asked):
        good, bad = ask(quick(url), samples("a", "b"), ["x", "y"])
        assert good == 1.1
        assert "status 500 'oops', asked 3 times" in str(bad)
        assert len(asked) == 3 + 1 + 1 + 3 + 1  # both, a word, the good one, the bad one, a word


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RewardError), (401, UnavailableError), (404, UnavailableError)]
)
def test_a_refusal_is_final(status: int, kind: type[Exception]) -> None:
    with listening(lambda *_: (status, "no")) as (url, asked):
        with pytest.raises(RewardError, match=f"status {status} 'no', asked 1 time;") as got:
            quick(url)(samples("a"), ["x"])
        assert type(got.value) is kind
        assert len(asked) == 1


def test_a_refusal_after_failures_says_how_often_was_asked() -> None:
    with (
        listening(lambda number, _: (503, "busy") if number < 2 else (400, "no")) as (url, _),
        pytest.raises(RewardError, match="status 400 'no', asked 3 times"),
    ):
        quick(url)(samples("a"), ["x"])


def test_a_server_that_does_not_answer_in_time_is_asked_again() -> None:
    given_up = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> Answer:
        if number == 0:
            given_up.wait()
        return lengths(number, body)

    with listening(answer) as (url, asked):
        assert quick(url, timeout=0.5, tries=20)(samples("a"), ["x"]) == [1.1]
        given_up.set()
        assert len(asked) >= 2


def test_a_server_that_never_answers_is_given_up() -> None:
    given_up = threading.Event()

    def answer(number: int, body: dict[str, Any]) -> Answer:
        given_up.wait()
        return lengths(number, body)

    with listening(answer) as (url, _):
        with pytest.raises(UnavailableError, match="ReadTimeout.*asked 2 times"):
            quick(url, timeout=0.2, tries=2)(samples("a"), ["x"])
        given_up.set()


def test_where_nobody_listens_no_text_is_to_blame() -> None:
    with listening(lengths) as (url, _):
        pass
    with pytest.raises(UnavailableError, match="ConnectError.*asked 3 times"):
        ask(quick(url), samples("a", "b"), ["x", "y"])


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"scores": [1, 2, 3]}', "3 scores for 2 texts"),
        ('{"scores": [1, NaN]}', "the score nan"),
        ('{"scores": [1, Infinity]}', "the score inf"),
        ('{"scores": [1, null]}', "the score None"),
        ('{"scores": [1, "2"]}', "the score '2'"),
        ('{"scores": [1, true]}', "the score True"),
        ('{"values": [1, 2]}', "JSON without `scores`"),
        ("[1, 2]", "JSON without `scores`"),
        ("<html>", "no JSON: '<html>'"),
    ],
)
def test_an_answer_that_is_none_is_said(said: str, why: str) -> None:
    with listening(lambda *_: (200, said)) as (url, asked):
        with pytest.raises(RewardError, match="must answer") as got:
            quick(url)(samples("a", "b"), ["x", "y"])
        assert why in str(got.value)
        assert len(asked) == 1


def test_one_text_that_it_cannot_score_costs_only_itself() -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        return (400, "bad") if "y" in body["responses"] else lengths(number, body)

    with listening(answer) as (url, _):
        one, two, three = ask(quick(url), samples(*"abc"), ["x", "y", "z"])
        assert (one, three) == (1.1, 1.1)
        assert "status 400" in str(two)


@pytest.mark.parametrize("name", ["http:", "http:host/score", "https:///score", "http://"])
def test_a_server_must_be_named(name: str) -> None:
    with pytest.raises(UsageError, match="must be http://HOST/PATH"):
        rewards.find(name)


# --- secrets and redirects -----------------------------------------------------------------------

SECRETS = ("bob", "PASS%40WORD", "PASS@WORD", "QUERY7", "api_key")


def secret(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://bob:PASS%40WORD@{rest}?api_key=QUERY7&model=m1"


def silent(*said: object) -> None:
    for one in map(str, said):
        assert not [word for word in SECRETS if word in one], one


@pytest.mark.parametrize("spelled", ["{}", "http:{}", "0.5*{} - 0.01*length", "-2*{}"])
def test_no_name_shows_a_secret(spelled: str) -> None:
    name = spelled.format(secret("http://127.0.0.1:9/score"))
    scorer = find_reward(name)
    guide = GuideSource.on_prefixes(scorer)
    silent(scorer.name, scorer.key, scorer, guide, rewards.find(name), short_name(name))
    assert "127.0.0.1:9/score" in scorer.name


@pytest.mark.parametrize(
    "name",
    [
        "htp://bob:PASS@WORD@host/score?api_key=QUERY7",
        "http://bob:PASS@WORD@:x/score?api_key=QUERY7",
        "http://bob:QUERY7/PASS@WORD@host/score",
        "http:///score?api_key=QUERY7",
        "2* http://host/score?api_key=QUERY7",
        "sentimet + 2*http://bob:PASS@WORD@host/score?api_key=QUERY7",
        "htp://bob:PASS@WORD@host/?api_key=QUERY7 + 2*sentiment",
    ],
)
def test_no_error_on_a_name_shows_a_secret(name: str) -> None:
    with pytest.raises(UsageError) as got:
        rewards.find(name)
    silent(got.value, got.value.must, got.value.got, got.value.do, repr(got.value))


@pytest.mark.parametrize(
    "answer",
    [
        (400, "no such key: QUERY7 of bob, in api_key=QUERY7&model=m1"),
        (500, "PASS@WORD"),
        (200, "QUERY7"),
        (200, '{"scores": ["QUERY7"]}'),
        (302, "http://elsewhere/?api_key=QUERY7"),
    ],
)
def test_no_answer_brings_a_secret_back(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(lambda *_: answer) as (url, _), pytest.raises(RewardError) as got:
        quick(secret(url))(samples("a"), ["x"])
    shown = "".join(traceback.format_exception(got.value))
    silent(shown, repr(got.value), caplog.text)
    assert any(record.name == "httpx" for record in caplog.records)


def test_secrets_are_sent_and_tell_no_server_from_another() -> None:
    mine = Server("http://bob:word@host/score?model=m1&api_key=QUERY7")
    assert mine.fingerprint == Server("http://host/score?model=m1&token=other").fingerprint
    assert mine.fingerprint != Server("http://host/score?model=m2&api_key=QUERY7").fingerprint
    assert mine.fingerprint != Server("http://other/score?model=m1").fingerprint
    assert find_reward(mine.url).key == find_reward("http://host/score?model=m1").key
    with listening(lengths) as (url, asked):
        assert quick(secret(url))(samples("a"), ["x"]) == [1.1]
    assert len(asked) == 1


@pytest.mark.parametrize("status", [307, 308])
def test_a_server_that_moved_is_followed_with_the_texts(status: int) -> None:
    with listening(lengths) as (there, asked), listening(lambda *_: (status, there)) as (url, _):
        assert quick(url)(samples("a"), ["x"]) == [1.1]
    assert asked == [{"prompts": ["a"], "responses": ["x"]}]


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_redirect_that_would_drop_the_texts_names_the_new_place(status: int) -> None:
    with (
        listening(lengths) as (there, asked),
        listening(lambda *_: (status, f"{there}?api_key=QUERY7")) as (url, first),
        pytest.raises(UnavailableError, match=f"status {status}: it has moved") as got,
    ):
        quick(url)(samples("a"), ["x"])
    assert got.value.do == f"name its new place, {there}"
    assert (asked, len(first)) == ([], 1)


def test_a_ring_of_redirects_ends() -> None:
    with (
        listening(lambda *_: (307, "/score")) as (url, asked),
        pytest.raises(UnavailableError, match="leads on after 5 steps"),
    ):
        quick(url)(samples("a"), ["x"])
    assert len(asked) == 6
