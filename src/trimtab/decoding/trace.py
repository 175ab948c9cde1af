"""What the host keeps of each row: its tokens, its text so far, and whether it has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from trimtab.types import FinishReason

_REPLACEMENT = "\ufffd"


@dataclass
class Trace:
    """One row as the host sees it.

    Text is decoded over a short window, because a token's text depends on its neighbour (leading
    spaces) and a character may span tokens; what may still become a stop string is held back, so
    the pieces that were streamed always join to the completion's text.

    Attributes:
        decode: ids to text.
        eos_ids: tokens that end the row; empty to ignore EOS.
        budget: most tokens.
        stop: strings that end the row and are cut off.
    """

    decode: Callable[[Sequence[int]], str]
    eos_ids: frozenset[int]
    budget: int
    stop: tuple[str, ...] = ()
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    _start: int = 0  # the window's first token
    _read: int = 0  # tokens whose text is out of the window
    _held: str = ""  # text that may be the beginning of a stop string

    def push(self, tokens: Sequence[int]) -> str:
        """Append tokens; the text that is now certain. Sets `finish` when the row has ended."""
        self.tokens.extend(tokens)
        if self.tokens[-1] in self.eos_ids:
            self.finish = "eos"
        elif len(self.tokens) >= self.budget:
            self.finish = "length"
        self._held += self._new_text()
        return self._release()

    def _new_text(self) -> str:
        """Text of the tokens since the last call, once it ends in a whole character.

        Tokens that add no text (special ones) stay in the window: alone they are no neighbour, and
        what follows them would lose its leading space.
        """
        body = self.tokens[:-1] if self.finish == "eos" else self.tokens
        before = self.decode(body[self._start : self._read])
        now = self.decode(body[self._start :])
        if self.finish is None and (now.endswith(_REPLACEMENT) or len(now) <= len(before)):
            return ""
        self._start, self._read = self._read, len(body)
        return now[len(before) :]

    def _release(self) -> str:
        """Give out held text, up to a stop string or to what may become one."""
        found = [i for s in self.stop if (i := self._held.find(s)) >= 0]
        if found:
            self.finish = "stop"
            return self._held[: min(found)]
        keep = 0 if self.finish else max((_overlap(self._held, s) for s in self.stop), default=0)
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next(
        (n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0
    )
