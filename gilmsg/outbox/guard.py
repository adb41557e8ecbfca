"""Failures in a deliverer's thread, which are told and tried again; and its end with the interpreter."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

from sqlalchemy.exc import SQLAlchemyError

from .. import _engine
from .sending import LINE_EVERY, TRY_AGAIN

log = logging.getLogger("gilmsg.outbox")

#: How those are stopped that run in this process; in a forked child the parent's are there, too, and do nothing.
stops: set[Callable[[], None]] = set()


def leave() -> None:
    """Stop all deliverers, for the interpreter ends: what is under way is waited for, leases are given back."""
    for stop in list(stops):
        stop()


class Guard:
    """Does steps, and tells what fails once a minute; for the database and for defects each, so that neither hides the other."""

    def __init__(self) -> None:
        self._tell_database, self._tell_defect = (_engine.RateLimitedLog(log, LINE_EVERY).warning for _ in range(2))
        #: Until when nothing is tried, after a failure.
        self.retry_at = 0.0

    def attempt(self, *steps: Callable[[], None]) -> None:
        """Do *steps*, unless one has failed just now; with one that fails the rest, too, is left for later."""
        if time.monotonic() >= self.retry_at and not all(map(self.do, steps)):
            self.retry_at = time.monotonic() + TRY_AGAIN

    def do(self, step: Callable[..., None], *arguments: Any) -> bool:
        """Do *step*, and return whether it did not fail."""
        try:
            step(*arguments)
            return True
        except SQLAlchemyError as error:  # its own words may hold parameters
            self._tell_database("the database of the outbox fails, it is tried again: %s", getattr(error, "orig", None) or error)
        except Exception as error:  # noqa: BLE001  whatever it is, the other rows must not wait for a restart
            self._tell_defect("the deliverer failed, it tries again: %r", error)
        return False
