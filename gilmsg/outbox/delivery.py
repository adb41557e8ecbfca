"""The deliverer of an outbox: a thread that claims what is due, sends it, and stores what comes of it.

No transaction is open while a message is on its way. The engine tells of ACKs, ends and recipients that appear
(``_client/prepared``); the deliverer's thread takes them in, stores what it has learnt and claims what is due in one
transaction, and then signs and sends. What a transaction could not store is tried again with the next one.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Callable

from sqlalchemy.exc import SQLAlchemyError

from .. import _engine, _protocol, _settings
from .._client import prepared
from . import rows
from .attempts import LINE_EVERY, SLACK, TRY_AGAIN, End, Ledger, Outgoing, settle
from .claims import MOST_UNDER_WAY, Claimer
from .database import Database
from .rows import Claim
from .schema import DELIVERED

log = logging.getLogger("gilmsg.outbox")

#: Seconds after a commit of this process: the commit itself may come a moment after it was told.
_LOOKS = (0.0, 0.005, 0.02, 0.1)

#: Seconds between two sweeps of old rows.
_SWEEP_EVERY = 60.0

#: Seconds past ``ack_timeout`` in which a stop ends, and what of it the thread leaves to who waits for the thread.
_LAST_WORDS, _MARGIN = 1.0, 0.3

#: Seconds between two looks of a stop.
_LOOK_AGAIN = 0.05

#: Names of recipients that have appeared, at most, that are still to be looked up: anybody may announce any.
_MOST_NAMES = 10_000

#: Seconds between two appearances of a recipient that count.
_APPEARANCES_EVERY = 1.0

#: How those are stopped that run in this process; in a forked child the parent's are there, too, and do nothing.
_stops: set[Callable[[], None]] = set()


def leave() -> None:
    """Stop all deliverers, for the interpreter ends: what is under way is waited for, leases are given back."""
    for stop in list(_stops):
        stop()


class Guard:
    """Does steps, and tells what fails once a minute; for the database and for defects each, so that neither hides the other."""

    def __init__(self) -> None:
        self._tell_database, self._tell_defect = (_engine.RateLimitedLog(log, LINE_EVERY).warning for _ in range(2))
        #: Until when nothing is tried, after a failure.
        self.retry_at = 0.0

    def attempt(self, step: Callable[[], object]) -> None:
        """Do *step*, unless one has failed just now."""
        if time.monotonic() >= self.retry_at and not self.do(step):
            self.retry_at = time.monotonic() + TRY_AGAIN

    def do(self, step: Callable[..., object], *arguments: Any) -> bool:
        """Do *step*, and return whether it did not fail."""
        try:
            step(*arguments)
            return True
        except SQLAlchemyError as error:  # its own words may hold parameters
            self._tell_database("the database of the outbox fails, it is tried again: %s", getattr(error, "orig", None) or error)
        except Exception as error:  # noqa: BLE001  whatever it is, the other rows must not wait for a restart
            self._tell_defect("the deliverer failed, it tries again: %r", error)
        return False


class Deliverer:
    """One deliverer; make it where the calling thread's context, or its guessed name, is to hold; raises as ``Outbox.start``."""

    def __init__(self, box: Database, config: Mapping[str, Any]) -> None:
        whole = prepared.configuration(config)
        self._settings = _settings.outbox_settings(whole)
        self._box = box
        self._ledger = Ledger()
        self._claimer = Claimer(self._settings.window, self._settings.head_start + self._settings.ack_timeout + SLACK)
        self._pid, self._stopped_at = os.getpid(), math.inf
        #: Why its thread has ended though nobody has stopped it.
        self.failed: BaseException | None = None
        self._news: queue.SimpleQueue[list[prepared.News] | None] = queue.SimpleQueue()
        #: When to look for what is due, when to sweep, and when to look up those who have appeared, if somebody has.
        self._looks = deque([0.0])
        self._sweep_at = self._look_up_at = 0.0
        #: Common names of recipients that have appeared.
        self._appeared: set[str] = set()
        #: The entries whose rows are being made due, and the last row of each that was.
        self._rousing: deque[tuple[str, int]] = deque()
        self._guard = Guard()
        self._sender = prepared.Sender(whole, box.origin, self._news.put)
        self._outgoing = Outgoing(self._sender, self._settings, self._claimer, self._ledger, self._stopping)
        self._thread = threading.Thread(target=self._run, name="gilmsg-outbox", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs, in this process: under eventlet a forked child's copy says that it does."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def start(self) -> None:
        """Begin to deliver, once."""
        log.info("delivering as %s from %s", self._sender.config["name"], self._sender.port().endpoint)
        self._thread.start()
        _stops.add(self.stop)

    def look(self) -> None:
        """Look for what is due, now and in a moment: something was put. For any thread; returns at once."""
        if self._pid == os.getpid():
            self._news.put(None)

    def stop(self) -> None:
        """Give back what has not left, wait for the ACKs of what has; returns within ``ack_timeout`` and 1 s."""
        if not self.alive:
            return
        self._stopped_at = min(self._stopped_at, time.monotonic())
        self._news.put(None)
        limit = self._settings.ack_timeout + _LAST_WORDS
        self._thread.join(max(0.0, self._stopped_at + limit - time.monotonic()))
        if self._thread.is_alive():
            log.error(
                "the outbox cannot be written to: what is under way is not stored, its leases end in %g s", self._claimer.lease
            )

    def _stopping(self) -> bool:
        return self._stopped_at < math.inf

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stopping():
                self._gather(self._seconds())
                self._guard.attempt(self._round)
            self._finish(self._stopped_at + self._settings.ack_timeout + _LAST_WORDS - _MARGIN)
        except BaseException as error:  # told to who uses start(), raised to who uses run()
            self.failed = error
            log.exception("the deliverer has ended, nothing is delivered until it is started anew")
        finally:
            self._sender.close()
            if _engine.counting.tally is not None:
                _engine.counting.tally.outboxes.pop(self._box.origin, None)
            _stops.discard(self.stop)

    def _seconds(self) -> float:
        """Return how long there is nothing to do, unless something comes."""
        look_up_at = self._look_up_at if self._appeared else math.inf
        due = 0.0 if self._ledger or self._rousing else min(self._looks[0], self._sweep_at, look_up_at)
        return max(0.0, max(due, self._guard.retry_at) - time.monotonic())

    def _gather(self, seconds: float) -> None:
        """Take in what has come; if nothing has, wait so long for it."""
        try:
            batch = self._news.get(timeout=seconds) if seconds else self._news.get_nowait()
            while True:
                self._take(batch)
                batch = self._news.get_nowait()
        except queue.Empty:
            pass

    def _take(self, batch: list[prepared.News] | None) -> None:
        if batch is None:
            now = time.monotonic()
            self._looks = deque(now + seconds for seconds in _LOOKS)
        for one in batch or ():
            if isinstance(one, prepared.Appeared):
                if len(self._appeared) < _MOST_NAMES:
                    self._appeared.add(one.common_name)
            elif isinstance(one, prepared.Heard):
                self._guard.do(self._outgoing.hear, one.attempt.key, one.signer)
            else:
                self._guard.do(self._outgoing.end, one.attempt, one.error)

    def _round(self) -> None:
        """Store what was learnt, claim and send what is due, and sweep now and then, however much there is to do."""
        now = time.monotonic()
        if self._appeared and now >= self._look_up_at:
            self._guard.do(self._look_up, now)
        looks = now >= self._looks[0]
        while self._looks and self._looks[0] <= now:
            self._looks.popleft()
        if not self._looks:
            self._looks.append(now + self._settings.poll)
        if self._ledger or (looks and self._finds(self._outgoing.ready())):
            self._outgoing.send(*self._store(sends=self._outgoing.ready()))
        if self._rousing:
            self._rouse()
        if now >= self._sweep_at:
            self._sweep(now)
        if _engine.counting.tally is not None:  # who reads the metrics must not wait for the database
            _engine.counting.tally.look_at(self._box.origin, self._standing)

    def _finds(self, sends: bool) -> bool:
        with self._box.transaction(reads=True) as connection:
            return self._claimer.finds(connection, self._box.now(connection), sends)

    def _store(self, sends: bool) -> tuple[list[tuple[Claim, bytes]], float]:
        """Store what was learnt, end what has expired, and if this *sends* claim what is due, in one transaction.

        Return what was claimed, and until when it may be sent: later, its lease might end on its way.
        """
        claimed: list[tuple[Claim, bytes]] = []
        most = MOST_UNDER_WAY - len(self._outgoing.under_way) if sends else 0
        try:
            with self._box.transaction() as connection:
                until, clock = time.monotonic() + SLACK, self._box.now(connection)
                failed = self._ledger.store(connection, clock)
                over = self._claimer.claim(connection, clock, most, claimed)
                failed += settle(connection, [End(claim) for claim in over], clock)
                if not self._settings.keep and rows.sweep(connection, DELIVERED, clock) == rows.BATCH:
                    self._sweep_at = 0.0  # there may be more
        except BaseException:
            for claim, _ in claimed:
                self._claimer.release(claim)
            raise
        self._ledger.clear()
        if self._claimer.left:
            self._looks.appendleft(0.0)
        for msg_id, reason in failed:
            log.error("message %s failed: %s", msg_id, reason, extra={"msg_id": msg_id})
        return claimed, until

    def _look_up(self, now: float) -> None:
        """Find out whose rows are to be made due: of the entries that are waited for those of which a member has appeared."""
        self._look_up_at = now + _APPEARANCES_EVERY
        with self._box.transaction(reads=True) as connection:
            unmet = connection.scalars(rows.UNMET).all()
        for entry in unmet:
            if self._appeared.intersection(_protocol.members(entry)):
                window = self._claimer.windows[entry]
                window.appeared, window.away = now, False
                self._rousing.append((entry, 0))
        self._appeared = set()

    def _rouse(self) -> None:
        """Make due a batch of what waits for somebody who has appeared.

        After what was learnt before has been stored, with its pauses. And in a transaction of its own: in one that holds rows
        already, two deliverers could wait for each other.
        """
        entry, last = self._rousing[0]
        with self._box.transaction() as connection:
            beyond = rows.rouse(connection, entry, last, self._box.now(connection))
        self._rousing.popleft()
        if beyond is not None:
            self._rousing.append((entry, beyond))
        self._looks.appendleft(0.0)

    def _sweep(self, now: float) -> None:
        """Remove a batch of what was delivered long ago; if there may be more, the next follows with the next round."""
        with self._box.transaction() as connection:
            swept = rows.sweep(connection, DELIVERED, self._box.now(connection) - self._settings.keep)
        self._sweep_at = now + (0.0 if swept == rows.BATCH else _SWEEP_EVERY)

    def _standing(self) -> tuple[int, float]:
        with self._box.transaction(reads=True) as connection:
            return rows.standing(connection, self._box.now(connection))

    def _finish(self, until: float) -> None:
        """Give back what has not left; store what comes of the rest, *until* then."""
        self._outgoing.abandon()
        while (self._ledger or self._outgoing.under_way) and time.monotonic() < until:
            if self._ledger:
                self._guard.attempt(lambda: self._store(sends=False))
            self._gather(max(0.0, min(until - time.monotonic(), _LOOK_AGAIN)))
        if self._appeared:  # others may have seen it all along: none of them would make due what waits for it
            self._guard.do(self._look_up, time.monotonic())
        while self._rousing and time.monotonic() < until and self._guard.do(self._rouse):
            pass
