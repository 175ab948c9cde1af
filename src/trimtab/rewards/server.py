"""A reward behind a web server: `http://HOST/PATH` or `https://HOST/PATH`.

    POST {"prompts": ["...", ...], "responses": ["...", ...]}  ->  {"scores": [0.5, ...]}

A server that is busy (429), fails (5xx) or does not answer is asked again, after pauses that double
and are shortened by chance so that many who wait do not come back at once:

    pause_i = u wait 2^i,   u ~ U(1/2, 1)

One that fails each time is then shown a word of ours: where it fails on that too, no text is to
blame, and nobody needs to ask it text by text.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.errors import RewardError, UnavailableError, UsageError
from trimtab.rewards.packages import package
from trimtab.types import Sample

_TEXTS_FAULT = (400, 413, 422, 500)
"""Answers that one text may have caused; any other means that the server cannot be asked."""

_HARMLESS = {"prompts": ["Hello."], "responses": ["Hello."]}
"""What every server of rewards can score."""


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
        """The reward that `http:URL`, `https:URL` or a plain URL means.

        Raises:
            UsageError: no host is named.
        """
        kind, _, rest = spec.partition(":")
        url = rest if rest.startswith(("http://", "https://")) else spec
        if not url.startswith((f"{kind}://", "http://", "https://")) or not url.split("/")[2:3][0]:
            raise UsageError(
                "a reward behind a server must be http://HOST/PATH or https://HOST/PATH",
                got=repr(spec),
                do="name the server",
            )
        return cls(url)

    @property
    def place(self) -> str:
        """The URL without scheme, name or password: what tables and errors call it."""
        return self.url.partition("://")[2].rpartition("@")[2]

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        """The server's scores, in batches.

        Raises:
            RewardError: it refused a text, or answered with something else than one finite number
                for each.
            UnavailableError: it did not answer, was busy each time, or knows no such path.
            UsageError: httpx is not installed.
        """
        httpx = package("httpx", reward="http", extra="api")
        found: list[float] = []
        with httpx.Client(timeout=self.timeout, follow_redirects=True) as client:
            for at in range(0, len(responses), self.batch_size):
                rows = slice(at, at + self.batch_size)
                body = {
                    "prompts": [sample.text for sample in samples[rows]],
                    "responses": list(responses[rows]),
                }
                found += self._scores(self._post(client, body, httpx), len(body["responses"]))
        return found

    def _post(self, client: Any, body: dict[str, list[str]], httpx: Any) -> Any:
        """The first good answer of at most `tries`."""
        said, status = "", 0
        for i in range(self.tries):
            if i:
                time.sleep(self.wait * 2 ** (i - 1) * random.uniform(0.5, 1.0))
            try:
                answer = client.post(self.url, json=body)
            except httpx.TransportError as error:  # no connection, no answer in time, half a one
                status, said = 0, f"{type(error).__name__} {error}".strip()
                continue
            if answer.is_success:
                return answer
            status, said = answer.status_code, f"status {answer.status_code} {answer.text[:80]!r}"
            if status != 429 and status < 500:
                raise self._error(status, said, i + 1)
        broken = status == 500 and not self._scores_a_word(client, httpx)
        raise self._error(status, said, self.tries, broken)

    def _scores_a_word(self, client: Any, httpx: Any) -> bool:
        try:
            return bool(client.post(self.url, json=_HARMLESS).is_success)
        except httpx.TransportError:
            return False

    def _error(self, status: int, said: str, tries: int, broken: bool = False) -> RewardError:
        kind = RewardError if status in _TEXTS_FAULT and not broken else UnavailableError
        return kind(
            f"the reward's server at {self.place} must answer with scores",
            got=f"{said}, asked {tries} time{'s' * (tries > 1)}",
            do="check its address and its log, and run again"
            if status != 429
            else "ask it less at once, and run again later",
        )

    def _scores(self, answer: Any, count: int) -> list[float]:
        try:
            said = answer.json()
        except ValueError as error:
            raise self._unusable(f"no JSON: {answer.text[:80]!r}") from error
        scores = said.get("scores") if isinstance(said, dict) else None
        if not isinstance(scores, list):
            raise self._unusable(f"JSON without `scores`: {answer.text[:80]!r}")
        if len(scores) != count:
            raise self._unusable(f"{len(scores)} scores for {count} texts")
        for score in scores:
            number = isinstance(score, int | float) and not isinstance(score, bool)
            if not number or not math.isfinite(score):
                raise self._unusable(f"the score {score!r}")
        return [float(score) for score in scores]

    def _unusable(self, got: str) -> RewardError:
        return RewardError(
            f'the server at {self.place} must answer {{"scores": [one finite number per text]}}',
            got=got,
            do="mend the server",
        )
