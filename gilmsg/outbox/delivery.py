"""The deliverer of an outbox: a thread that claims what is due, sends it, and stores what comes of it.

No transaction is open while a message is on its way. The engine tells of ACKs, ends and recipients that appear
(``_client/prepared``); the deliverer's thread takes them in, stores what it has learnt and claims what is due in one
transaction, and then signs and sends. What a transaction could not store is tried again with the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from .. import _settings
from .._client import prepared
from ..errors import Timeout
from . import guard, upkeep
from .arrivals import Arrivals
from .claims import Claim, Claimer
from .database import Database
from .ledger import Ledger, Unanswered
from .rows import Rows
from .schema import DELIVERED
from .sending import SLACK, TRY_AGAIN, Outgoing
from .windows import longest_pause, pause

log = logging.getLogger("gilmsg.outbox")

#: Seconds after a commit of this process: the commit itself may come a moment after it was told.
_LOOKS = (0.0, 0.005, 0.02, 0.1)

#: Seconds between two sweeps of old rows.
_SWEEP_EVERY = 60.0

#: Seconds past ``ack_timeout`` in which a stop ends, and what of it the thread leaves to who waits for the thread.
_LAST_WORDS, _MARGIN = 1.0, 0.3

#: Seconds between two looks of a stop.
_LOOK_AGAIN = 0.05


class Deliverer:
    """One deliverer; make it where the calling thread's context, or its guessed name, is to hold.

    Args:
        box: the outbox.
        config: fedmsg configuration, used if this thread has no context yet; the ``gilmsg.*`` keys always count.

    Raises:
        ConfigurationError: a setting is not usable, or no declared port is free.
        ListenerError: the engine cannot start.
    """

    def __init__(self, box: Database, config: Mapping[str, Any]) -> None:
        whole = prepared.configuration(config)
        self._settings = _settings.outbox_settings(whole)
        self._box = box
        self._rows = Rows(box.tables, box.engine.dialect.name)
        self._ledger = Ledger(self._rows, self._settings.keep > 0)
        lease = self._settings.head_start + self._settings.ack_timeout + SLACK
        self._claimer = Claimer(self._rows, self._settings.window, lease)
        self._pid = os.getpid()
        self._stopped_at: float | None = None
        #: Why its thread has ended though nobody has stopped it.
        self.failed: BaseException | None = None
        self._news: queue.SimpleQueue[list[prepared.News] | None] = queue.SimpleQueue()
        #: When to look for what is due.
        self._looks = deque([0.0])
        #: When to sweep.
        self._sweep_at = 0.0
        self._arrivals = Arrivals()
        self._guard = guard.Guard()
        self._sender = prepared.Sender(whole, box.origin, self._news.put)
        self._sender.check()
        self._endpoint = self._sender.port().endpoint
        self._outgoing = Outgoing(self._sender, self._settings, self._claimer, self._ledger)
        self._thread = threading.Thread(target=self._run, name="gilmsg-outbox", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs, in this process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def start(self) -> None:
        """Begin to deliver, once."""
        log.info("delivering as %s from %s", self._sender.config["name"], self._endpoint)
        self._thread.start()
        guard.stops.add(self.stop)

    def look(self) -> None:
        """Look for what is due, now and in a moment: something was put. For any thread; returns at once."""
        if self._pid == os.getpid():  # a forked child has no thread that would
            self._news.put(None)

    def stop(self) -> None:
        """Give back what has not left, wait for the ACKs of what has; returns within ``ack_timeout`` and 1 s."""
        if not self.alive:
            return
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        self._news.put(None)
        limit = self._settings.ack_timeout + _LAST_WORDS
        self._thread.join(max(0.0, self._stopped_at + limit - time.monotonic()))
        if self._thread.is_alive():
            lease = self._claimer.lease
            log.error("the outbox cannot be written to: what is under way is not stored, its leases end in %g s", lease)

    # The thread.

    def _run(self) -> None:
        try:
            while self._stopped_at is None:
                self._gather(self._seconds())
                self._guard.attempt(self._round, lambda: upkeep.tell(self._box))
            self._finish(self._stopped_at + self._settings.ack_timeout + _LAST_WORDS - _MARGIN)
        except BaseException as error:  # told to who uses start(), raised to who uses run()
            self.failed = error
            log.exception("the deliverer has ended, nothing is delivered until it is started anew")
        finally:
            self._sender.close()
            upkeep.tell_no_more(self._box)
            guard.stops.discard(self.stop)

    def _seconds(self) -> float:
        """Return how long there is nothing to do, unless something comes."""
        arrival = self._arrivals.next_due()
        due = 0.0 if self._ledger or self._arrivals else min(self._looks[0], self._sweep_at)
        due = due if arrival is None else min(due, arrival)
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
                self._arrivals.add(one.common_name)
            elif isinstance(one, prepared.Heard):
                self._guard.do(self._hear, one.attempt.key, one.signer)
            else:
                self._guard.do(self._end, one.attempt, one.error)

    def _hear(self, claim: Claim, signer: str) -> None:
        self._ledger.acks[claim.msg_id, signer] = None
        for entry in claim.confirmed_by(signer):
            self._ledger.met.append((claim.id, claim.msg_id, entry))
            if not claim.ended:
                self._claimer.windows.of(entry).confirmed()
            self._claimer.free(claim, entry)

    def _end(self, attempt: prepared.Attempt, error: BaseException | None) -> None:
        claim: Claim = attempt.key
        claim.ended = True
        self._outgoing.under_way.pop(claim.id, None)
        self._claimer.free(claim)
        if error is None:
            self._ledger.complete.append((claim, 1))
        elif isinstance(error, Timeout):
            self._ledger.unanswered.append(self._unanswered(attempt, error))
        elif attempt.sent_at:  # the engine ended: what became of it is not known
            self._ledger.unanswered.append(Unanswered(claim, {}, pause(1)))
        else:
            self._ledger.returned.append((claim, TRY_AGAIN))
        attempt.message = None

    def _unanswered(self, attempt: prepared.Attempt, timeout: Timeout) -> Unanswered:
        """Return what the *timeout* of an attempt says, and when to try again."""
        self._sender.explain(timeout)
        claim, now, reasons = attempt.key, time.monotonic(), timeout.missing
        missed = [entry for entry, reason in reasons.items() if attempt.missed(reason)]
        away = [entry for entry in missed if attempt.knows(entry)]
        for entry, reason in reasons.items():
            window = self._claimer.windows.of(entry)
            if entry in away:
                window.away = True
            elif reason.code != "nacked":
                window.timed_out(attempt.sent_at, now)
        seen = self._arrivals.seen(reasons)
        if self._arrivals.seen(missed) > attempt.sent_at:  # it came too late for this attempt
            seconds = 0.0
        elif len(away) == len(reasons) and self._stopped_at is None:  # once stopped, nobody here would see it appear
            seconds = longest_pause()
        else:
            # After an appearance it was not the recipient's silence that made so many attempts.
            seconds = pause(claim.attempts + 1, now - seen)
        return Unanswered(claim, reasons, seconds)

    def _round(self) -> None:
        """Store what was learnt, claim and send what is due, and sweep now and then, however much there is to do."""
        now = time.monotonic()
        self._look_up(now)
        looks = now >= self._looks[0]
        while self._looks and self._looks[0] <= now:
            self._looks.popleft()
        if not self._looks:
            self._looks.append(now + self._settings.poll)
        if self._ledger or (looks and self._finds(self._outgoing.ready())):
            claimed = self._store(claims=self._outgoing.ready())
            if claimed and self._claimer.left:
                self._looks.appendleft(0.0)
            self._outgoing.send(claimed, lambda: self._stopped_at is not None)
        if self._arrivals:
            self._rouse()
        if now >= self._sweep_at:
            self._sweep(now)

    def _finds(self, sends: bool) -> bool:
        """Return whether something may have expired, or be due if anything can be sent. It keeps out nobody who writes."""
        with self._box.transaction(reads=True) as connection:
            return self._claimer.finds(connection, self._box.now(connection), sends)

    def _store(self, claims: bool) -> list[tuple[Claim, bytes]]:
        """Store what was learnt, and in the same transaction claim what is due, if this *claims*; return that."""
        claimed: list[tuple[Claim, bytes]] = []
        expired: list[Claim] = []
        try:
            with self._writing() as connection:
                since, clock = time.monotonic(), self._box.now(connection)
                failed = self._ledger.store(connection, clock)
                if self._stopped_at is None:
                    expired = self._claimer.expired(connection, clock, since)
                if claims:
                    self._claimer.claim(connection, clock, since, claimed)
        except BaseException:
            for claim, _ in claimed:
                self._claimer.free(claim)
            raise
        self._ledger.clear()
        for claim in expired:
            self._outgoing.ends(claim)
        for msg_id, reason in failed:
            log.error("message %s failed: %s", msg_id, reason, extra={"msg_id": msg_id})
        return claimed

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give a transaction. It waits for somebody else's row for a while, then it fails, and that is told."""
        with self._box.transaction() as connection:
            upkeep.limit_waiting(connection)
            yield connection

    def _rouse(self) -> None:
        """Make due a batch of what waits for somebody who has appeared.

        After what was learnt before has been stored, with its pauses. And in a transaction of its own: in one that holds rows
        already, two deliverers could wait for each other.
        """
        with self._writing() as connection:
            self._arrivals.rouse(self._rows, connection, self._box.now(connection))
        self._arrivals.roused()
        self._looks.appendleft(0.0)

    def _look_up(self, now: float) -> None:
        """Find out whose rows are to be made due, of those who have appeared."""
        due = self._arrivals.next_due()
        if due is not None and due <= now:
            with self._box.transaction(reads=True) as connection:
                unmet = self._rows.unmet(connection)
            for entry in self._arrivals.look_up(unmet, now):
                self._claimer.windows.of(entry).away = False

    def _sweep(self, now: float) -> None:
        """Remove a batch of what was delivered long ago; if there may be more, the next follows with the next round."""
        with self._writing() as connection:
            before = self._box.now(connection) - self._settings.keep
            swept = upkeep.sweep(connection, self._box.tables, DELIVERED, before)
        self._sweep_at = now + (0.0 if swept == upkeep.BATCH else _SWEEP_EVERY)
        self._claimer.windows.tidy()

    def _store_only(self) -> None:
        self._store(claims=False)

    def _finish(self, until: float) -> None:
        """Give back what has not left; store what comes of the rest, *until* then."""
        self._outgoing.abandon()
        while (self._ledger or self._outgoing.under_way) and time.monotonic() < until:
            if self._ledger:
                self._guard.attempt(self._store_only)
            self._gather(max(0.0, min(until - time.monotonic(), _LOOK_AGAIN)))
