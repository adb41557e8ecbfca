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
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from .. import _engine, _settings
from .._client import prepared
from ..errors import GilmsgError, PayloadError, Timeout
from .arrivals import Arrivals
from .claims import Claim, Ledger, Unanswered
from .database import Database
from .rows import BATCH, Rows
from .windows import JITTER, LONGEST_PAUSE, Windows, longest_pause, pause

log = logging.getLogger("gilmsg.outbox")

#: Seconds that a lease is longer than an attempt takes: for signing, and for storing the result.
_SLACK = 5.0

#: Rows, at most, that are under way at a time, whoever their recipients are.
_MOST_UNDER_WAY = 10_000

#: Seconds after a commit of this process: the commit itself may come a moment after it was told.
_LOOKS = (0.0, 0.005, 0.02, 0.1)

#: Seconds until what failed is tried again; between two lines on one trouble; between two sweeps of old rows.
_TRY_AGAIN, _LINE_EVERY, _SWEEP_EVERY = 1.0, 60.0, 60.0

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
        self._windows = Windows(self._settings.window)
        self._lease = self._settings.head_start + self._settings.ack_timeout + _SLACK
        self._pid = os.getpid()
        self._stopped_at: float | None = None
        self._news: queue.SimpleQueue[list[prepared.News] | None] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[Claim, prepared.Attempt]] = {}
        #: When to look for what is due; who was claimed for last; until when nothing can be sent.
        self._looks = deque([0.0])
        self._last_turn, self._blocked_until = "", 0.0
        #: Until when nothing can be stored, after an error; when to sweep.
        self._retry_at = self._sweep_at = 0.0
        self._arrivals = Arrivals()
        self._told: set[str] = set()
        self._warn = _engine.RateLimitedLog(log, _LINE_EVERY).warning
        self._sender = prepared.Sender(whole, box.origin, self._news.put)
        self._sender.port()
        self._thread = threading.Thread(target=self._run, name="gilmsg-outbox", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether its thread runs, in this process."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def look(self) -> None:
        """Look for what is due, now and in a moment: something was put. For any thread; returns at once."""
        self._news.put(None)

    def stop(self) -> None:
        """Give back what has not left, wait for the ACKs of what has; returns within ``ack_timeout`` and 1 s."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        self._news.put(None)
        limit = self._settings.ack_timeout + _LAST_WORDS
        self._thread.join(max(0.0, self._stopped_at + limit - time.monotonic()))
        if self._thread.is_alive():
            log.error("the outbox cannot be written to: what is under way is not stored, its leases end in %g s", self._lease)

    # The thread.

    def _run(self) -> None:
        log.info("delivering as %s from %s", self._sender.config["name"], self._sender.port().endpoint)
        try:
            while self._stopped_at is None:
                self._gather(self._seconds())
                self._guarded(self._round)
            self._finish(self._stopped_at + self._settings.ack_timeout + _LAST_WORDS - _MARGIN)
        finally:
            self._sender.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do *step*; what fails is told once a minute, and tried again. Nothing but a stop ends the deliverer."""
        if time.monotonic() < self._retry_at:
            return
        try:
            step()
        except SQLAlchemyError as error:  # its own words may hold parameters
            self._warn("the database of the outbox fails, it is tried again: %s", getattr(error, "orig", None) or error)
            self._retry_at = time.monotonic() + _TRY_AGAIN
        except Exception as error:  # noqa: BLE001  whatever it is, the other rows must not wait for a restart
            self._warn("the deliverer failed, it tries again: %r", error)
            self._retry_at = time.monotonic() + _TRY_AGAIN

    def _seconds(self) -> float:
        """Return how long there is nothing to do, unless something comes."""
        arrival = self._arrivals.next_due()
        due = 0.0 if self._ledger or self._arrivals else self._looks[0]
        due = due if arrival is None else min(due, arrival)
        return max(0.0, max(due, self._retry_at) - time.monotonic())

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
                self._hear(one.attempt.key, one.signer)
            else:
                self._end(one.attempt, one.error)

    def _hear(self, claim: Claim, signer: str) -> None:
        self._ledger.acks[claim.msg_id, signer] = None
        for entry in claim.confirmed_by(signer):
            self._ledger.met.append((claim.id, entry))
            if not claim.ended:
                self._windows.of(entry).confirmed()
            self._free(claim, entry)
        if claim.ended and not claim.missing:
            self._ledger.complete.append((claim, 0))

    def _end(self, attempt: prepared.Attempt, error: BaseException | None) -> None:
        claim: Claim = attempt.key
        claim.ended = True
        self._under_way.pop(claim.id, None)
        self._free(claim, *claim.slots)
        if error is None:
            self._ledger.complete.append((claim, 1))
        elif isinstance(error, Timeout):
            self._ledger.unanswered.append(self._unanswered(attempt, error))
        elif attempt.sent_at:  # the engine ended: what became of it is not known
            self._ledger.unanswered.append(Unanswered(claim, {}, pause(1)))
        else:
            self._ledger.returned.append((claim, _TRY_AGAIN))

    def _unanswered(self, attempt: prepared.Attempt, timeout: Timeout) -> Unanswered:
        """Return what the *timeout* of an attempt says, and when to try again."""
        self._sender.explain(timeout)
        claim, now, reasons = attempt.key, time.monotonic(), timeout.missing
        away = {entry for entry, reason in reasons.items() if attempt.is_away(entry, reason)}
        for entry, reason in reasons.items():
            window = self._windows.of(entry)
            if entry in away:
                window.away = True
            elif reason.code != "nacked":
                window.timed_out(attempt.sent_at, now)
        seen = self._arrivals.seen(reasons)
        if seen > attempt.sent_at:  # it came too late for this attempt
            seconds = 0.0
        elif len(away) == len(reasons):
            seconds = longest_pause()
        else:
            # After an appearance it was not the recipient's silence that made so many attempts.
            seconds = pause(claim.attempts + 1, now - seen)
        return Unanswered(claim, reasons, seconds)

    def _free(self, claim: Claim, *entries: str) -> None:
        for entry in claim.slots.intersection(entries):
            self._windows.of(entry).under_way -= 1
            claim.slots.discard(entry)

    def _round(self) -> None:
        """Store what was learnt, and claim and send what is due."""
        now = time.monotonic()
        self._look_up(now)
        looks = now >= self._looks[0]
        while self._looks and self._looks[0] <= now:
            self._looks.popleft()
        if not self._looks:
            self._looks.append(now + self._settings.poll)
        if not self._ledger and not self._arrivals and not (looks and self._finds()):
            self._sweep(now)
            return
        claimed = self._store(claims=self._is_ready())
        if claimed:
            self._looks.appendleft(0.0)  # there may be more
        self._send(claimed)

    def _store(self, claims: bool) -> list[tuple[Claim, bytes]]:
        """Store what was learnt, and in the same transaction claim what is due, if this *claims*; return that."""
        claimed: list[tuple[Claim, bytes]] = []
        try:
            with self._box.transaction() as connection:
                since, clock = time.monotonic(), self._box.now(connection)
                failed = self._ledger.store(connection, clock)
                self._arrivals.rouse(self._rows, connection, clock)
                if claims:
                    self._claim(connection, clock, since, claimed)
        except BaseException:
            for claim, _ in claimed:
                self._free(claim, *claim.slots)
            raise
        self._ledger.clear()
        self._arrivals.roused()
        for msg_id, reason in failed:
            log.error("message %s failed: %s", msg_id, reason, extra={"msg_id": msg_id})
        return claimed

    def _look_up(self, now: float) -> None:
        """Find out whose rows are to be made due, of those who have appeared."""
        due = self._arrivals.next_due()
        if due is not None and due <= now:
            with self._box.transaction(reads=True) as connection:
                unmet = self._rows.unmet(connection)
            for entry in self._arrivals.look_up(unmet, now):
                self._windows.of(entry).away = False

    def _sweep(self, now: float) -> None:
        """Remove what was delivered long ago, a batch at a time, when there is nothing else to do."""
        if now < self._sweep_at:
            return
        with self._box.transaction() as connection:
            more = self._rows.sweep(connection, self._box.now(connection) - self._settings.keep)
        self._sweep_at = now + (0.0 if more else _SWEEP_EVERY)
        self._windows.tidy()

    def _finish(self, until: float) -> None:
        """Give back what has not left; store what comes of the rest, *until* then."""
        with contextlib.suppress(GilmsgError):  # the engine has ended: all of them are told
            for attempt in self._sender.abandon([attempt for _, attempt in self._under_way.values()]):
                self._under_way.pop(attempt.key.id, None)
                self._give_back(attempt.key)
        while (self._ledger or self._under_way) and time.monotonic() < until:
            if self._ledger:
                self._guarded(lambda: self._store(claims=False) and None)
            self._gather(max(0.0, min(until - time.monotonic(), _LOOK_AGAIN)))

    def _finds(self) -> bool:
        """Return whether something may be due that can be sent. It keeps out nobody who writes."""
        if not self._is_ready():
            return False
        with self._box.transaction(reads=True) as connection:
            now, turns = self._box.now(connection), self._rows.turns(connection)
        return any(
            (turn.first <= now or turn.last > self._far(now)) and self._windows.of(turn.entry).room for turn in turns
        )

    def _far(self, now: float) -> float:
        """Return what no due time and no lease of today can lie beyond: the clock was set back."""
        return now + max(LONGEST_PAUSE * (1 + JITTER), self._lease) + _SLACK

    def _is_ready(self) -> bool:
        """Return whether something can be sent."""
        if time.monotonic() < self._blocked_until:
            return False
        try:
            self._sender.port()
        except GilmsgError as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: GilmsgError) -> None:
        """Tell, once, why nothing can be sent."""
        self._blocked_until = time.monotonic() + _TRY_AGAIN
        self._tell(f"nothing is delivered until this is mended: {error}")

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            log.error("%s", line)

    def _claim(self, connection: Connection, now: float, since: float, claimed: list[tuple[Claim, bytes]]) -> None:
        """Lease rows that are due, some of each recipient's that has room; add them with their bodies to *claimed*."""
        far, token = self._far(now), secrets.token_hex(8)
        turns = [turn for turn in self._rows.turns(connection) if self._windows.of(turn.entry).room]
        turns = [turn for turn in turns if turn.first <= now or turn.last > far]
        turns.sort(key=lambda turn: turn.entry <= self._last_turn)  # those after it come first
        moved: list[tuple[int, str]] = []
        for turn in turns[:BATCH]:
            if turn.last > far:
                self._rows.reset(connection, turn.entry, now, far)
            room = min(self._windows.of(turn.entry).room, max(1, BATCH // len(turns)))
            room = min(room, _MOST_UNDER_WAY - len(self._under_way) - len(claimed))
            for row in self._rows.due(connection, turn.entry, now, far, room) if room > 0 else ():
                claim = Claim(row, token, since, now)
                crowded = self._windows.crowded(entry for entry in claim.missing if entry != turn.entry)
                if crowded is not None:
                    moved.append((claim.id, crowded))
                    continue
                self._occupy(claim)
                claimed.append((claim, row.body))
            self._last_turn = turn.entry
        if moved:
            self._rows.move(connection, moved)
        if claimed:
            self._rows.lease(connection, [claim.id for claim, _ in claimed], token, now + self._lease)

    def _occupy(self, claim: Claim) -> None:
        claim.slots.update(claim.missing)
        for entry in claim.slots:
            self._windows.of(entry).under_way += 1

    def _send(self, claimed: list[tuple[Claim, bytes]]) -> None:
        """Sign and send; what cannot be sent now is given back."""
        for number, (claim, body) in enumerate(claimed):
            if self._stopped_at is not None or time.monotonic() - claim.since > _SLACK:  # or its lease may end on its way
                self._give_back(claim)
                continue
            try:
                self._send_one(claim, body)
            except PayloadError as error:
                self._free(claim, *claim.slots)
                self._ledger.failed.append((claim, str(error)))
            except GilmsgError as error:
                self._complain(error)
                for left, _ in claimed[number:]:
                    self._give_back(left)
                return

    def _give_back(self, claim: Claim, seconds: float = 0.0) -> None:
        self._free(claim, *claim.slots)
        self._ledger.returned.append((claim, seconds))

    def _send_one(self, claim: Claim, body: bytes) -> None:
        if not claim.missing and claim.entries:
            self._ledger.complete.append((claim, 0))
            return
        message = prepared.Prepared.of(body)
        if message.msg_id != claim.msg_id or not claim.entries:
            raise PayloadError("the row cannot be sent: it has another id than its message, or no recipients")
        why = claim.why_over(claim.attempts, claim.missing, claim.clock)
        if why is not None:
            raise PayloadError(why)
        if not message.topic.startswith(self._sender.scope):
            self._tell(
                f"topics here begin with {self._sender.scope}; {message.msg_id} is on {message.topic}: it and others like "
                "it are not sent (a copied database?)"
            )
            self._give_back(claim, LONGEST_PAUSE)
            return
        attempt = self._sender.send(
            message, claim.entries, claim.met, self._settings.ack_timeout, self._settings.head_start, claim
        )
        self._under_way[claim.id] = claim, attempt


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[list[int]]:
    """Give a list that SIGTERM fills, where this is the main thread and SIGTERM would end the process."""
    ended: list[int] = []
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        yield ended
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
