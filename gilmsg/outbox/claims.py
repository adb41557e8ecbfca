"""Rows that a deliverer has in hand, and what it has learnt of them that is still to be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from .. import _protocol
from ..errors import Reason
from .rows import Row, Rows


class Claim:
    """A row under one lease; ``missing`` shrinks with each ACK.

    It was leased at *since*, by the monotonic clock, and at *clock*, by the database's.
    """

    __slots__ = (
        "attempts", "clock", "ended", "entries", "expires_at", "id", "met", "missing", "most_attempts", "msg_id", "since", "slots",
        "token",
    )  # fmt: skip

    def __init__(self, row: Row, token: str, since: float, clock: float) -> None:
        self.id, self.token, self.since, self.clock = row.id, token, since, clock
        self.msg_id = row.msg_id.decode("utf-8", "replace")
        self.entries, self.met = row.entries, row.met
        self.missing = [entry for entry in row.entries if entry not in row.met]
        self.attempts, self.most_attempts, self.expires_at = row.attempts, row.most_attempts, row.expires_at
        #: Whether the attempt is over.
        self.ended = False
        #: The entries in whose windows it takes a place.
        self.slots: set[str] = set()

    def confirmed_by(self, signer: str) -> list[str]:
        """Take in an ACK; return the entries that it meets."""
        met = [entry for entry in self.missing if signer in _protocol.members(entry)]
        self.missing = [entry for entry in self.missing if entry not in met]
        return met

    def why_over(self, attempts: int, missing: Sequence[str], now: float) -> str | None:
        """Return why no further attempt is made after so many; None if one is."""
        expired = self.expires_at is not None and self.expires_at <= now
        if expired or (self.most_attempts is not None and attempts >= self.most_attempts):
            return f"it expired after {attempts} attempts; not confirmed by: {'; '.join(missing)}"
        return None


class Unanswered(NamedTuple):
    """The end of an attempt without all ACKs: what was seen, and the seconds until the next."""

    claim: Claim
    reasons: Mapping[str, Reason]
    pause: float


class Ledger:
    """What attempts have brought, until a transaction has stored it."""

    def __init__(self, rows: Rows, kept: bool) -> None:
        self._rows, self._kept = rows, kept
        self.clear()

    def clear(self) -> None:
        """Forget everything, for it is stored."""
        self.acks: dict[tuple[str, str], None] = {}
        self.met: list[tuple[int, str]] = []
        #: Of which every entry is met, and by how many attempts more.
        self.complete: list[tuple[Claim, int]] = []
        self.unanswered: list[Unanswered] = []
        #: To be given back, for nothing has left, and the seconds until they are due.
        self.returned: list[tuple[Claim, float]] = []
        #: What can never be sent, and why.
        self.failed: list[tuple[Claim, str]] = []

    def __bool__(self) -> bool:
        return any((self.acks, self.complete, self.unanswered, self.returned, self.failed))

    def store(self, connection: Connection, now: float) -> list[tuple[str, str]]:
        """Store it all, and change nothing here: the transaction may fail. Return (msg_id, reason) of what has failed."""
        rows = self._rows
        if self.acks:
            rows.hear(connection, self.acks, now)
        if self.met:
            rows.meet(connection, self.met, now)
        waiting, complete, failed, reasons = self._sorted(connection, now)
        if reasons:
            rows.explain(connection, reasons)
        if waiting:
            rows.wait(connection, waiting)
        if complete:
            rows.deliver(connection, complete, now, self._kept)
        return [(str(row["name"]), str(row["told"])) for row in failed if rows.fail(connection, row, now)]

    def _sorted(self, connection: Connection, now: float) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
        """Return the parameters of what waits, is delivered, has failed, and of what is known of missing entries."""
        waiting = [_parameters(claim, 0, when=now + pause, whose=None) for claim, pause in self.returned]
        complete = [_parameters(claim, sent) for claim, sent in self.complete]
        failed = [_parameters(claim, 0, told=reason, name=claim.msg_id) for claim, reason in self.failed]
        reasons: list[dict[str, Any]] = []
        missing = self._rows.missing(connection, [one.claim.id for one in self.unanswered])
        for claim, seen, pause in self.unanswered:
            left = missing[claim.id]  # of another deliverer's ACKs, too
            why = claim.why_over(claim.attempts + 1, left, now)
            reasons += [
                _parameters(claim, whose=entry, told_code=seen[entry].code, told=str(seen[entry]))
                for entry in left
                if entry in seen
            ]
            if not left:
                complete.append(_parameters(claim, 1))
            elif why is not None:
                failed.append(_parameters(claim, 1, told=why, name=claim.msg_id))
            else:
                when = now + pause if claim.expires_at is None else min(now + pause, claim.expires_at)
                waiting.append(_parameters(claim, 1, when=when, whose=left[0]))
        return waiting, complete, failed, reasons


def _parameters(claim: Claim, sent: int | None = None, **more: Any) -> dict[str, Any]:
    counted = {} if sent is None else {"sent": sent}
    return {"row": claim.id, "token": claim.token, **counted, **more}
