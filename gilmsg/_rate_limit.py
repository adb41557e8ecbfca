"""Log lines that somebody else on the bus can cause: at most one per second of each kind."""

import logging
import time
from typing import Any, Callable

#: Seconds.
_INTERVAL = 1.0


class RateLimitedLog:
    """Writes WARNINGs to *log*, one per second; the next one says how many were left out.

    *run* is called with what writes a line; logging may block, so it may want another thread.
    Not thread-safe: at worst a line too many, or a count that is off.
    """

    def __init__(
        self, log: logging.Logger, run: Callable[[Callable[[], None]], None] = lambda write: write()
    ) -> None:
        self._logger = log
        self._run = run
        self._next = 0.0
        self._left_out = 0

    def warning(self, text: str, *arguments: Any) -> None:
        """Write a line, or count it."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + _INTERVAL
        if self._left_out:
            text += " (and %d more like it in the meantime)" % self._left_out
            self._left_out = 0
        self._run(lambda: self._logger.warning(text, *arguments))
