"""The results of attempts, until a transaction has stored them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection

from ..errors import Reason
from .claims import Claim
from .rows import Rows
from .schema import turn_of


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
        #: The row, its id and the entry: SQLite gives the number of a row that was removed to another.
        self.met: list[tuple[int, str, str]] = []
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
        ended = [claim.id for claim, _ in (*self.complete, *self.returned, *self.failed)] + [one.claim.id for one in self.unanswered]
        # All of them at once, in one order: or two deliverers would wait for each other.
        rows.lock(connection, {row for row, *_ in self.met}.union(ended))
        if self.acks:
            rows.hear(connection, sorted(self.acks), now)
        if self.met:
            rows.meet(connection, sorted(self.met), now)
        waiting, complete, failed, reasons = self._sorted(connection, now)
        if reasons:
            rows.explain(connection, reasons)
        if waiting:
            rows.wait(connection, waiting)
        if complete:
            rows.deliver(connection, complete, now, self._kept)
        return [(str(row["name"]), str(row["told"])) for row in failed if rows.fail(connection, row, now)]

    def _sorted(self, connection: Connection, now: float) -> list[list[dict[str, Any]]]:
        """Return the parameters of what waits, is delivered, has failed, and of what is known of missing entries."""
        waiting = [_parameters(claim, 0, when=now + pause, whose=None) for claim, pause in self.returned]
        complete: list[dict[str, Any]] = []
        failed = [_parameters(claim, 0, told=reason) for claim, reason in self.failed]
        reasons: list[dict[str, Any]] = []
        done = {claim.id for claim, _ in self.complete}
        late = {row: name for row, name, _ in self.met if row not in done}
        missing = self._rows.missing(connection, {*late, *(one.claim.id for one in self.unanswered)})
        # Late ACKs may each have come to another deliverer: none of them knows that they are all. What is leased ends otherwise.
        complete += [{"row": row, "name": late[row], "token": "", "sent": 0} for row in late if not missing[row]]
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
                failed.append(_parameters(claim, 1, told=why))
            else:
                when = now + pause if claim.expires_at is None else min(now + pause, claim.expires_at)
                waiting.append(_parameters(claim, 1, when=when, whose=turn_of(left)))
        complete += [_parameters(claim, sent) for claim, sent in self.complete]
        return [sorted(one, key=operator.itemgetter("row")) for one in (waiting, complete, failed, reasons)]


def _parameters(claim: Claim, sent: int | None = None, **more: Any) -> dict[str, Any]:
    counted = {} if sent is None else {"sent": sent}
    return {"row": claim.id, "name": claim.msg_id, "token": claim.token, **counted, **more}
