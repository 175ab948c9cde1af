"""Work that is killed at a random moment.

Forks instead of starting anew, so that a kill costs the work's time and not the imports'.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def attempt(work: Callable[[], Any], done: Callable[[], int], more: int, seconds: float) -> bool:
    """Work until so many parts more are done and a moment longer, then die.

    Counting parts and not only seconds makes the kills fall into the work on any machine. Returns
    whether the work ended before.
    """
    target = done() + more
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    while done() < target:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
