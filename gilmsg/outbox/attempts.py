"""The sending of what a deliverer has claimed; and what came of it, until a transaction has stored that."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from sqlalchemy import Connection

from .. import _engine
from .._client import prepared
from .._settings import OutboxSettings
from ..errors import GilmsgError, PayloadError, Reason, Timeout
from . import rows
from .claims import LONGEST_PAUSE, MANY, Claimer, pause
from .rows import UNSENDABLE, Claim
from .schema import turn_of
from .transactions import Values

log = logging.getLogger("gilmsg.outbox")

#: Seconds that a lease is longer than an attempt takes: for signing, and for storing the result.
SLACK = 5.0

#: Seconds until something is sent again, when nothing can be; and between two lines on one trouble.
TRY_AGAIN, LINE_EVERY = 1.0, 60.0


class End(NamedTuple):
    """The end of a lease: the message is delivered, has failed, or waits for the next; `settle` decides, by the database."""

    claim: Claim
    #: By how many attempts more: 0 if it has not left.
    sent: int = 0
    #: Seconds until it is due again.
    pause: float = 0.0
    #: What was seen of those who have not confirmed.
    reasons: Mapping[str, Reason] = {}
    #: Why it can never be sent.
    why: str | None = None


class Ledger:
    """What attempts have brought, until a transaction has stored it."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, for it is stored."""
        #: Message id and signer.
        self.acks: set[tuple[str, str]] = set()
        #: The row, its message's id, and the entry.
        self.met: set[tuple[int, str, str]] = set()
        self.ends: list[End] = []

    def __bool__(self) -> bool:
        return bool(self.acks or self.ends)

    def store(self, connection: Connection, now: float) -> list[tuple[str, str]]:
        """Store it all, and change nothing here: the transaction may fail. Return (msg_id, reason) of what has failed."""
        ended = {end.claim.id for end in self.ends}
        late = {row: msg_id for row, msg_id, _ in self.met if row not in ended}
        rows.lock(connection, ended.union(late))
        # Sorted: not all of them are of rows that are locked.
        acks = [{"msg_id": msg_id, "signer": signer, "now": now} for msg_id, signer in sorted(self.acks)]
        rows.each(connection, rows.HEAR, acks)
        met = [{"row": row, "msg_id": msg_id, "entry": entry, "now": now} for row, msg_id, entry in self.met]
        rows.each(connection, rows.MEET, met)
        # Late ACKs may each have come to another deliverer: none of them knows that they are all. What is leased ends otherwise.
        missing = rows.missing(connection, late)
        complete = [row for row in late if not missing[row]]
        values = [{"row": row, "msg_id": late[row], "token": "", "sent": 0, "now": now} for row in complete]
        rows.each(connection, rows.DELIVER, values)
        return settle(connection, self.ends, now)


def settle(connection: Connection, ends: Sequence[End], now: float) -> list[tuple[str, str]]:
    """Deliver, fail, or give back, what is locked; return (msg_id, reason) of what has failed."""
    missing = rows.missing(connection, [end.claim.id for end in ends if end.claim.missing])
    complete, failed, waiting, reasons = [], [], [], []
    for end in ends:
        claim, seen = end.claim, end.reasons
        values: Values = {"row": claim.id, "msg_id": claim.msg_id, "token": claim.token, "sent": end.sent, "now": now}
        left = missing.get(claim.id, [])  # without those whose ACKs came to another deliverer
        reasons += [
            {**values, "entry": entry, "code": seen[entry].code, "reason": str(seen[entry])}
            for entry in left
            if entry in seen
        ]
        why = end.why or claim.why_over(claim.attempts + end.sent, left, now)
        if claim.entries and not left:
            complete.append(values)
        elif why is not None:
            failed.append({**values, "reason": why})
        else:
            due = now + end.pause
            due = due if claim.expires_at is None else min(due, claim.expires_at)
            waiting.append({**values, "due": due, "turn": turn_of(left)})
    rows.each(connection, rows.EXPLAIN, reasons)
    rows.each(connection, rows.WAIT, waiting)
    rows.each(connection, rows.DELIVER, complete)
    return [(row["msg_id"], row["reason"]) for row in failed if connection.execute(rows.FAIL, row).rowcount]


class Outgoing:
    """What is under way; and what cannot be sent, which goes back to the *ledger*."""

    def __init__(
        self, sender: prepared.Sender, settings: OutboxSettings, claimer: Claimer, ledger: Ledger,
        stopping: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._sender, self._settings, self._claimer, self._ledger = sender, settings, claimer, ledger
        self._stopping = stopping
        self.under_way: dict[Claim, prepared.Attempt] = {}
        self._blocked_until = 0.0
        #: Why nothing is sent, once that was told; and whether it was told that another bus's messages are not sent from here.
        self._trouble: str | None = None
        self._refused = False
        self._warn = _engine.RateLimitedLog(log, LINE_EVERY).warning

    def ready(self) -> bool:
        """Return whether something can be sent; why not is told once, and once that it can be again."""
        if time.monotonic() < self._blocked_until:
            return False
        try:
            self._sender.check()
        except GilmsgError as error:
            self._complain(error)
            return False
        if self._trouble is not None:
            log.info("that is mended, messages are delivered again: %s", self._trouble)
            self._trouble = None
        return True

    def send(self, claimed: list[tuple[Claim, bytes]], until: float) -> None:
        """Sign and send, *until* then; what cannot be sent now is given back."""
        for claim, body in claimed:
            if self._stopping() or not self._blocked_until < time.monotonic() < until:
                self._give_up(End(claim))
                continue
            try:
                self._send_one(claim, body)
            except PayloadError as error:
                self._give_up(End(claim, why=str(error)))
            except GilmsgError as error:
                self._complain(error)
                self._give_up(End(claim))
            except Exception as error:  # noqa: BLE001  whatever it is, the others are sent
                self._warn("message %s could not be sent: %r", claim.msg_id, error)
                self._give_up(End(claim, pause=LONGEST_PAUSE))

    def abandon(self) -> None:
        """Have leave nothing that has not left, and give it back."""
        with contextlib.suppress(GilmsgError):  # the engine has ended, as all are told
            for attempt in self._sender.abandon(list(self.under_way.values())):
                del self.under_way[attempt.key]
                self._give_up(End(attempt.key))

    def hear(self, claim: Claim, signer: str) -> None:
        """Take in an ACK, of an earlier attempt maybe."""
        self._ledger.acks.add((claim.msg_id, signer))
        self._ledger.met.update((claim.id, claim.msg_id, entry) for entry in self._claimer.confirm(claim, signer))

    def end(self, attempt: prepared.Attempt, error: BaseException | None) -> None:
        """Take in the end of an attempt."""
        claim: Claim = attempt.key
        self.under_way.pop(claim, None)
        self._claimer.release(claim)
        if isinstance(error, Timeout):
            self._give_up(self._unanswered(attempt, error))
        elif error is None or attempt.sent_at:  # confirmed by all; or the engine ended, what became of it is not known
            self._give_up(End(claim, 1, pause(1)))
        else:
            self._give_up(End(claim, 0, TRY_AGAIN))
        attempt.message = None

    def _unanswered(self, attempt: prepared.Attempt, timeout: Timeout) -> End:
        """Return what the *timeout* of an attempt says, and when to try again."""
        self._sender.explain(timeout)
        claim, now, reasons = attempt.key, time.monotonic(), timeout.missing
        windows = {entry: self._claimer.windows[entry] for entry in reasons}
        missed = [entry for entry, reason in reasons.items() if attempt.missed(reason)]
        away = [entry for entry in missed if attempt.knows(entry)]
        for entry, reason in reasons.items():
            if entry in away:
                windows[entry].away = True
            elif reason.code != "nacked":
                windows[entry].timed_out(attempt.sent_at, now)
        if any(windows[entry].appeared > attempt.sent_at for entry in missed):  # it came too late for this attempt
            seconds = 0.0
        elif len(away) == len(reasons) and not self._stopping():  # once stopped, nobody here would see it appear
            seconds = pause(MANY)
        else:
            # After an appearance it was not the recipient's silence that made so many attempts.
            appeared = max((window.appeared for window in windows.values()), default=0.0)
            seconds = pause(claim.attempts + 1, now - appeared)
        return End(claim, 1, seconds, reasons)

    def _send_one(self, claim: Claim, body: bytes) -> None:
        message = prepared.Prepared.of(body)
        if message.msg_id != claim.msg_id:
            raise PayloadError(UNSENDABLE)
        if not message.topic.startswith(self._sender.scope):
            if not self._refused:
                self._refused = True
                log.error(
                    "messages on topics that do not begin with %s, like %s on %s, are not sent from here (a copied database?)",
                    self._sender.scope, message.msg_id, message.topic,
                )  # fmt: skip
            self._give_up(End(claim, pause=LONGEST_PAUSE))
            return
        met = set(claim.entries).difference(claim.missing)
        self.under_way[claim] = self._sender.send(
            message, claim.entries, met, self._settings.ack_timeout, self._settings.head_start, claim
        )

    def _give_up(self, end: End) -> None:
        self._claimer.release(end.claim)
        self._ledger.ends.append(end)

    def _complain(self, error: GilmsgError) -> None:
        self._blocked_until = time.monotonic() + TRY_AGAIN
        if self._trouble != str(error):
            self._trouble = str(error)
            log.error("nothing is delivered until this is mended: %s", error)
