"""A reward behind a web server: `http://HOST/PATH` or `https://HOST/PATH`.

    POST {"prompts": ["...", ...], "responses": ["...", ...]}  ->  {"scores": [0.5, ...]}

A server that is busy (429), fails (5xx) or does not answer is asked again, after pauses that double
and are shortened by chance so that many who wait do not come back at once. One that fails each time
is then shown a word of ours: where it fails on that too, no text is to blame.

A server that has moved is asked at its new place where it says that the question stays a POST (307,
308); other redirects would turn it into a GET without the texts, and are an error.

A URL may hold secrets: `http://USER:PASSWORD@HOST/PATH?api_key=...`. They are sent, and are part of
no name, fingerprint, message or log.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from trimtab.errors import RewardError, UnavailableError, UsageError, public
from trimtab.plugins import optional
from trimtab.types import Sample

_TEXTS_FAULT = (400, 413, 422, 500)  # may be caused by one text; others mean that nobody can ask
_HARMLESS = {"prompts": ["Hello."], "responses": ["Hello."]}  # what every server can score
_LOGS = ("httpx", "httpcore.connection", "httpcore.http11")
_HOPS = 5  # most new places that are followed for one question

_SECRET = re.compile(r"key|token|secret|pass|pwd|auth|sig|cred|session|jwt|code|bearer", re.I)
"""Parameters of a URL that say who asks, and not what."""

_Answer: TypeAlias = tuple[int, str, Any]
"""Status (0 where nothing came), the answer in a few words, and itself."""


@dataclass(frozen=True)
class Server:
    """The scores that a server gives.

    Attributes:
        url: where it listens.
        batch_size: most texts in one request.
        timeout: seconds to wait for an answer.
        tries: most requests for one batch.
        wait: seconds of the first pause.
    """

    url: str
    batch_size: int = 64
    timeout: float = 60.0
    tries: int = 5
    wait: float = 1.0

    @classmethod
    def named(cls, spec: str) -> Server:
        """The reward that `http:URL`, `https:URL` or a plain URL means."""
        kind, _, rest = spec.partition(":")
        url = rest if rest.startswith(("http://", "https://")) else spec
        if not url.startswith((f"{kind}://", "http://", "https://")) or not _has_host(url):
            raise UsageError(
                "a reward behind a server must be http://HOST/PATH or https://HOST/PATH",
                got=repr(spec),
                do="name the server",
            )
        return cls(url)

    @property
    def place(self) -> str:
        """Host and path of the URL: what tables and errors call it."""
        return public(self.url).partition("://")[2]

    @property
    def fingerprint(self) -> str:
        """Tells it from other servers by its URL, but for what says who asks.

        That is user, password, and parameters that are called a key, a token and the like: the same
        server with another key gives the same scores, and no hash of a key is kept.
        """
        query = parse_qsl(urlsplit(self.url).query, keep_blank_values=True)
        shown = urlencode([(name, value) for name, value in query if not _SECRET.search(name)])
        plain = f"reward server {public(self.url)}?{shown}"
        return hashlib.sha256(plain.encode()).hexdigest()[:32]

    def __repr__(self) -> str:
        """Where it is, without secrets."""
        return f"Server({public(self.url)!r})"

    @property
    def _secrets(self) -> tuple[str, ...]:
        """What must not be repeated, the longest first."""
        parts = urlsplit(self.url)
        secrets = {parts.query, parts.username or "", parts.password or ""}
        secrets |= {value for _, value in parse_qsl(parts.query)}
        secrets |= {unquote(each) for each in secrets}
        return tuple(sorted((each for each in secrets if len(each) > 2), key=len, reverse=True))

    def _hidden(self, message: str) -> str:
        """A message of somebody else without our secrets: servers like to quote a question."""
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return message

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """The server's scores, in batches.

        Raises:
            RewardError: it refused a text, or answered with something else than one finite number
                for each.
            UnavailableError: it did not answer, was busy each time, or knows no such path.
            UsageError: httpx is not installed.
        """
        httpx = optional("httpx", "api", user="a reward behind a server")
        scores: list[float] = []
        with httpx.Client(timeout=self.timeout) as client, self._quiet():
            for first in range(0, len(responses), self.batch_size):
                rows = slice(first, first + self.batch_size)
                prompts, texts = [sample.text for sample in samples[rows]], list(responses[rows])
                answer = self._post(client, {"prompts": prompts, "responses": texts})
                scores += self._scores(answer, len(texts))
        return scores

    def _post(self, client: Any, body: dict[str, list[str]]) -> Any:
        """The first answer of at most `tries` that is final, which must be a good one."""
        tenacity = optional("tenacity", "api", user="a reward behind a server")
        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.tries),
            wait=tenacity.wait_random_exponential(multiplier=self.wait),
            retry=tenacity.retry_if_result(lambda got: got[0] in (0, 429) or got[0] >= 500),
            retry_error_callback=lambda state: state.outcome.result(),
        )
        status, message, answer = again(self._ask, client, body)
        if 200 <= status < 300:
            return answer
        if 300 <= status < 400 and answer.next_request is not None:
            far = f", which leads on after {_HOPS} steps" if status in (307, 308) else ""
            do = f"name its new place, {public(str(answer.next_request.url))}"
            raise self._fault(f"status {status}: it has moved{far}", do, UnavailableError)
        broken = status == 500 and not 200 <= self._ask(client, _HARMLESS)[0] < 300
        tries = again.statistics["attempt_number"]
        raise self._fault(
            f"{message}, asked {tries} time{'s' * (tries > 1)}",
            "check its address and its log, and run again"
            if status != 429
            else "ask it less at once, and run again later",
            RewardError if status in _TEXTS_FAULT and not broken else UnavailableError,
        )

    def _ask(self, client: Any, body: dict[str, list[str]]) -> _Answer:
        """The answer, from where the question is to be asked."""
        try:
            answer = client.post(self.url, json=body)
            for _ in range(_HOPS):
                if answer.status_code in (307, 308) and answer.next_request is not None:
                    answer = client.send(answer.next_request)
        except optional("httpx", "api").TransportError as error:  # no connection, no answer in time
            return 0, f"{type(error).__name__} {error}".strip(), None
        return answer.status_code, f"status {answer.status_code} {answer.text[:80]!r}", answer

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """httpx logs every URL that it asks, and what it is answered."""

        def hide(record: logging.LogRecord) -> bool:
            record.msg, record.args = self._hidden(public(record.getMessage())), ()
            return True

        logs = [logging.getLogger(name) for name in _LOGS]
        for log in logs:
            log.addFilter(hide)
        try:
            yield
        finally:
            for log in logs:
                log.removeFilter(hide)

    def _scores(self, answer: Any, count: int) -> list[float]:
        try:
            content = answer.json()
        except ValueError as error:
            raise self._unusable(f"no JSON: {answer.text[:80]!r}") from error
        scores = content.get("scores") if isinstance(content, dict) else None
        if not isinstance(scores, list):
            raise self._unusable(f"JSON without `scores`: {answer.text[:80]!r}")
        if len(scores) != count:
            raise self._unusable(f"{len(scores)} scores for {count} texts")
        for score in scores:
            if type(score) not in (int, float) or not math.isfinite(score):
                raise self._unusable(f"the score {score!r}")
        return [float(score) for score in scores]

    def _unusable(self, got: str) -> RewardError:
        do = 'mend the server: it must answer {"scores": [one finite number per text]}'
        return self._fault(got, do, RewardError)

    def _fault(self, got: str, do: str, kind: type[RewardError]) -> RewardError:
        return kind(
            f"the reward's server at {self.place} must answer with scores",
            got=self._hidden(got),
            do=self._hidden(do),
        )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which must be a number
    except ValueError:
        return False
    return bool(parts.hostname) and not re.search(r"\s", url)  # a sum with a blank too few
