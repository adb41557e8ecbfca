"""Rows that a deliverer has in hand: whose turn it is, and leases."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import Connection

from .. import _protocol
from .rows import Row, Rows, Turn
from .schema import in_turn
from .upkeep import BATCH
from .windows import JITTER, LONGEST_PAUSE, Windows

#: Rows, at most, that are under way at a time, whoever their recipients are.
_MOST_UNDER_WAY = 10_000

#: Seconds that a due time or a lease may lie ahead beyond what is possible: the clocks of two hosts differ.
_TOLERANCE = 5.0


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
        self.missing = tuple(entry for entry in row.entries if entry not in row.met)
        self.attempts, self.most_attempts, self.expires_at = row.attempts, row.most_attempts, row.expires_at
        #: Whether the attempt is over.
        self.ended = False
        #: The entries in whose windows it takes a place.
        self.slots: frozenset[str] = frozenset()

    def confirmed_by(self, signer: str) -> list[str]:
        """Take in an ACK; return the entries that it meets."""
        met = [entry for entry in self.missing if signer in _protocol.members(entry)]
        self.missing = tuple(entry for entry in self.missing if entry not in met)
        return met

    def why_over(self, attempts: int, missing: Sequence[str], now: float) -> str | None:
        """Return why no further attempt is made after so many; None if one is."""
        expired = self.expires_at is not None and self.expires_at <= now
        if expired or (self.most_attempts is not None and attempts >= self.most_attempts):
            return f"it expired after {attempts} attempts; not confirmed by: {'; '.join(missing)}"
        return None


class Claimer:
    """Leases what is due, for *lease* seconds, as much of each recipient's as its window lets through."""

    def __init__(self, rows: Rows, window: int, lease: float) -> None:
        self._rows, self.lease = rows, lease
        self.windows = Windows(window)
        #: What has a place in some window.
        self._in_hand = 0
        #: Whether the last claim may have left something that is due, and for which there is room.
        self.left = False
        #: Who was claimed for last.
        self._last_turn = ""

    def finds(self, connection: Connection, now: float, sends: bool) -> bool:
        """Return whether something may have expired; or, if this *sends*, be due so that there is room for it."""
        expiry = self._rows.first_expiry(connection)
        return (expiry is not None and expiry <= now) or (sends and bool(self._turns(self._rows.turns(connection), now)))

    def expired(self, connection: Connection, now: float, since: float) -> list[Claim]:
        """Lease rows that have expired by *now*, whoever they wait for: behind others their turn might never come."""
        token = secrets.token_hex(8)
        found = [Claim(row, token, since, now) for row in self._rows.expired(connection, now, self._far(now))]
        if found:
            self._rows.lease(connection, [claim.id for claim in found], token, now + self.lease)
        return found

    def claim(self, connection: Connection, now: float, since: float, claimed: list[tuple[Claim, bytes]]) -> None:
        """Lease rows that are due *now*; add them with their bodies to *claimed*, for the transaction may fail."""
        token = secrets.token_hex(8)
        known = self._rows.turns(connection)
        for turn in known:
            if turn.last > self._far(now):
                self._rows.reset(connection, turn.whose, now, self._far(now))
        turns = self._turns(known, now)
        turns.sort(key=lambda whose: whose <= self._last_turn)  # those after it come first
        self.left = len(turns) > BATCH
        for whose in turns[:BATCH]:
            taken, most = 0, min(self._room(whose), max(1, BATCH // len(turns)), _MOST_UNDER_WAY - self._in_hand)
            for row in self._rows.due(connection, whose, now, self._far(now), most) if most > 0 else []:
                claim = Claim(row, token, since, now)
                if self.windows.room(claim.missing):  # one that does not stand in the turn may have none
                    self._occupy(claim)
                    claimed.append((claim, row.body))
                    taken += 1
            self.left |= taken == most and self._room(whose) > 0
            self._last_turn = whose
        if claimed:
            self._rows.lease(connection, [claim.id for claim, _ in claimed], token, now + self.lease)

    def free(self, claim: Claim, *entries: str) -> None:
        """Give up the places that *claim* takes in the windows of *entries*; of all, if none is named."""
        for entry in claim.slots.intersection(entries) if entries else list(claim.slots):
            self.windows.of(entry).under_way -= 1
            claim.slots -= {entry}
            self._in_hand -= not claim.slots

    def _occupy(self, claim: Claim) -> None:
        claim.slots = frozenset(claim.missing)
        self._in_hand += bool(claim.slots)
        for entry in claim.slots:
            self.windows.of(entry).under_way += 1

    def _turns(self, known: Sequence[Turn], now: float) -> list[str]:
        """Return those of which something may be due, and for which there is room."""
        due = [turn.whose for turn in known if turn.first <= now or turn.last > self._far(now)]
        return [whose for whose in due if self._room(whose)]

    def _room(self, whose: str) -> int:
        return self.windows.room(in_turn(whose))

    def _far(self, now: float) -> float:
        """Return what no due time and no lease can lie beyond: the clock was set back."""
        return now + max(LONGEST_PAUSE * (1 + JITTER), self.lease) + _TOLERANCE
