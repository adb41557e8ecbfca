"""Rows that a deliverer has in hand: whose turn it is, leases, and how many may be under way to each recipient."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from .. import _protocol
from . import rows
from .schema import in_turn

#: Seconds: the first pause, and the longest; it doubles. By how much, at most, chance makes one longer.
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 1.0, 300.0, 0.25

#: Doublings after which a pause is the longest for certain.
_DOUBLINGS = 16

#: Rows, at most, that are under way at a time, whoever their recipients are.
MOST_UNDER_WAY = 10_000

#: Seconds that a due time or a lease may lie ahead beyond what is possible: the clocks of two hosts differ.
_TOLERANCE = 5.0

#: Why a row fails that no put has left so.
UNSENDABLE = "the row cannot be sent: its message has another id, or it has no recipients"


def pause(attempts: int, at_most: float = LONGEST_PAUSE) -> float:
    """Return the seconds from the end of the attempt number *attempts* to the next, but for chance no more than *at_most*."""
    seconds = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, _DOUBLINGS), LONGEST_PAUSE, max(at_most, FIRST_PAUSE))
    return seconds * random.uniform(1.0, 1.0 + JITTER)


def longest_pause() -> float:
    """Return the longest of all pauses, but for chance."""
    return pause(_DOUBLINGS)


class Claim:
    """A row under one lease; ``missing`` shrinks with each ACK. Until it has ``ended`` it takes a place in their windows."""

    __slots__ = ("attempts", "ended", "entries", "expires_at", "id", "missing", "most_attempts", "msg_id", "token")

    def __init__(self, row: rows.Row, token: str) -> None:
        self.id, self.token = row.id, token
        self.msg_id = row.msg_id.decode("utf-8", "replace")
        self.entries, self.missing = row.entries, row.missing
        self.attempts, self.most_attempts, self.expires_at = row.attempts, row.most_attempts, row.expires_at
        self.ended = False

    def why_over(self, attempts: int, missing: Sequence[str], now: float) -> str | None:
        """Return why no further attempt is made after so many; None if one is."""
        if not self.entries:
            return UNSENDABLE
        expired = self.expires_at is not None and self.expires_at <= now
        if expired or (self.most_attempts is not None and attempts >= self.most_attempts):
            return f"it expired after {attempts} attempts; not confirmed by: {'; '.join(missing)}"
        return None


class Window:
    """The attempts that are under way to one recipient or group, and how many may be. The monotonic time goes in."""

    def __init__(self, most: int) -> None:
        self.size = self._most = most
        self.under_way = 0
        #: Whether it was not there when an attempt ended last. Nobody is overrun by what is sent to nobody.
        self.away = False
        #: When it, or a member of it, appeared last.
        self.appeared = 0.0
        self._halved = 0.0

    @property
    def room(self) -> int:
        """How many more may be under way now."""
        return max(0, self.size - self.under_way)

    def confirmed(self) -> None:
        """Take in an ACK in time: one more may be under way."""
        self.under_way -= 1
        self.size, self.away = min(self._most, self.size + 1), False

    def timed_out(self, sent_at: float, now: float) -> None:
        """Take in that one that is present has not answered: half as many may be under way.

        What left before the last halving says nothing new: a full window times out all at once.
        """
        self.away = False
        if sent_at >= self._halved:
            self.size, self._halved = max(1, self.size // 2), now

    def says_nothing(self, now: float) -> bool:
        """Return whether a new window would do as well."""
        recent = self.appeared > now - LONGEST_PAUSE
        return not (self.under_way or self.away or recent or self.size < self._most)


class Windows:
    """The windows of all recipients."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._windows: dict[str, Window] = {}

    def of(self, entry: str) -> Window:
        """Return the window of *entry*, a recipient or group."""
        if entry not in self._windows:
            self._windows[entry] = Window(self.most)
        return self._windows[entry]

    def room(self, entries: Iterable[str]) -> int:
        """How many more may be under way to all of *entries* at a time.

        Who is away is no limit to those who are there; only what nobody there is to get waits for its window.
        """
        known = [self._windows.get(entry) for entry in entries]
        present = [self.most if one is None else one.room for one in known if one is None or not one.away]
        return min(present or [one.room for one in known if one is not None], default=self.most)

    def tidy(self, now: float) -> None:
        """Forget those of which there is nothing to say."""
        self._windows = {entry: one for entry, one in self._windows.items() if not one.says_nothing(now)}


class Claimer:
    """Leases what is due, for *lease* seconds, as much of each recipient's as its *window* lets through."""

    def __init__(self, window: int, lease: float) -> None:
        self.windows, self.lease = Windows(window), lease
        #: Whether the last claim leased something, and may have left what has expired, or is due and has room.
        self.left = False
        #: Who was claimed for last.
        self._last_turn = ""

    def finds(self, connection: Connection, now: float, sends: bool) -> bool:
        """Return whether something may have expired; or, if this *sends*, be due so that there is room for it."""
        expiry = rows.first_expiry(connection)
        return (expiry is not None and expiry <= now) or (sends and bool(self._turns(rows.turns(connection), now)))

    def claim(self, connection: Connection, now: float, most: int, claimed: list[tuple[Claim, bytes]]) -> list[Claim]:
        """Lease rows that have expired by *now*, and so many at *most* that are due; return those that are not to be sent.

        These are over, or all have confirmed them. The others go to *claimed*, with their bodies, and take their places; if
        the transaction fails, `release` them.
        """
        expired = self._expired(connection, now)
        self.left = len(expired) == rows.BATCH
        return expired + (self._due(connection, now, most, claimed) if most > 0 else [])

    def _expired(self, connection: Connection, now: float) -> list[Claim]:
        """Lease rows that have expired, whoever they wait for: behind others their turn might never come."""
        token = secrets.token_hex(8)
        found = [Claim(row, token) for row in rows.expired(connection, now, self._far(now))]
        rows.lease(connection, [claim.id for claim in found], token, now + self.lease)
        return found

    def _due(self, connection: Connection, now: float, most: int, claimed: list[tuple[Claim, bytes]]) -> list[Claim]:
        token, over = secrets.token_hex(8), []
        known = rows.turns(connection)
        for turn in known:
            if turn.last > self._far(now):
                rows.reset(connection, turn.whose, now, self._far(now))
        turns = self._turns(known, now)
        turns.sort(key=lambda whose: (whose <= self._last_turn, whose))  # those after it come first, whatever the database's order is
        left = len(turns) > rows.BATCH
        for whose in turns[: rows.BATCH]:
            if len(claimed) >= most:
                left = True
                break  # it is its turn next
            limit = min(self._room(whose), max(1, rows.BATCH // len(turns)), most - len(claimed))
            found = rows.due(connection, whose, now, self._far(now), limit) if limit > 0 else []
            taken = 0
            for row in found:
                claim = Claim(row, token)
                if not claim.missing or claim.why_over(claim.attempts, claim.missing, now):
                    over.append(claim)
                elif self.windows.room(claim.missing):  # one that does not stand in the turn may have none
                    for entry in claim.missing:
                        self.windows.of(entry).under_way += 1
                    claimed.append((claim, row.body))
                else:
                    continue
                taken += 1
            left |= taken == limit and self._room(whose) > 0
            self._last_turn = whose
        leased = [*over, *(claim for claim, _ in claimed)]
        rows.lease(connection, [claim.id for claim in leased], token, now + self.lease)
        self.left |= left and bool(leased)
        return over

    def confirm(self, claim: Claim, signer: str) -> list[str]:
        """Take in an ACK, of a claim that has ended maybe; return the entries that it meets."""
        met = [entry for entry in claim.missing if signer in _protocol.members(entry)]
        claim.missing = tuple(entry for entry in claim.missing if entry not in met)
        for entry in met if not claim.ended else ():
            self.windows.of(entry).confirmed()
        return met

    def release(self, claim: Claim) -> None:
        """Give up the places that *claim* still takes: its attempt is over, or there is none."""
        if not claim.ended:
            claim.ended = True
            for entry in claim.missing:
                self.windows.of(entry).under_way -= 1

    def _turns(self, known: Sequence[rows.Turn], now: float) -> list[str]:
        """Return those of which something may be due, and for which there is room."""
        due = [turn.whose for turn in known if turn.first <= now or turn.last > self._far(now)]
        return [whose for whose in due if self._room(whose)]

    def _room(self, whose: str) -> int:
        return self.windows.room(in_turn(whose))

    def _far(self, now: float) -> float:
        """Return what no due time and no lease can lie beyond: the clock was set back."""
        return now + max(LONGEST_PAUSE * (1 + JITTER), self.lease) + _TOLERANCE
