"""Claims of a deliverer: whose turn it is, and how many messages may be under way to each recipient."""

from __future__ import annotations

import collections
import random
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from .. import _protocol
from . import rows
from .rows import Claim
from .schema import in_turn

#: Seconds: the first pause, and the longest; it doubles. By how much, at most, chance makes one longer.
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 1.0, 300.0, 0.25

#: Attempts after which a pause is the longest for certain.
MANY = 16

#: Rows, at most, that are under way at a time, whoever their recipients are.
MOST_UNDER_WAY = 10_000

#: Seconds that a due time or a lease may lie ahead beyond what is possible: the clocks of two hosts differ.
_TOLERANCE = 5.0


def pause(attempts: int, at_most: float = LONGEST_PAUSE) -> float:
    """Return the seconds from the end of the attempt number *attempts* to the next, but for chance no more than *at_most*."""
    seconds = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, MANY), LONGEST_PAUSE, max(at_most, FIRST_PAUSE))
    return seconds * random.uniform(1.0, 1.0 + JITTER)


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


class Claimer:
    """Leases what is due, for *lease* seconds, as much of each recipient's as its *window* lets through."""

    def __init__(self, window: int, lease: float) -> None:
        self.lease = lease
        #: By recipient, or group.
        self.windows = collections.defaultdict[str, Window](lambda: Window(window))
        #: Whether the last claim leased something, and may have left what has expired, or is due and has room.
        self.left = False
        #: Who was claimed for last.
        self._last_turn = ""

    def finds(self, connection: Connection, now: float, sends: bool) -> bool:
        """Return whether something may have expired; or, if this *sends*, be due so that there is room for it."""
        expiry = connection.scalar(rows.FIRST_EXPIRY)
        return (expiry is not None and expiry <= now) or (sends and bool(self._turns(rows.turns(connection), now)))

    def claim(self, connection: Connection, now: float, most: int, claimed: list[tuple[Claim, bytes]]) -> list[Claim]:
        """Lease rows that have expired by *now*, and so many at *most* that are due; return those that are not to be sent.

        These are over, or all have confirmed them. The others go to *claimed*, with their bodies, and take their places; if
        the transaction fails, `release` them.
        """
        # Those that have expired first, whoever they wait for: behind others their turn might never come.
        over = [claim for claim, _ in rows.expired(connection, now, self._far(now))]
        rows.lease(connection, over, now + self.lease)
        self.left = len(over) == rows.BATCH
        return over + (self._due(connection, now, most, claimed) if most > 0 else [])

    def _due(self, connection: Connection, now: float, most: int, claimed: list[tuple[Claim, bytes]]) -> list[Claim]:
        over, far, known = [], self._far(now), rows.turns(connection)
        for turn in known:
            if turn.last > far:
                rows.reset(connection, turn.whose, now, far)
        turns = self._turns(known, now)
        turns.sort(key=lambda whose: (whose <= self._last_turn, whose))  # those after it come first, whatever the database's order is
        left = len(turns) > rows.BATCH
        for whose in turns[: rows.BATCH]:
            if len(claimed) >= most:
                left = True
                break  # it is its turn next
            limit = min(self.room(in_turn(whose)), max(1, rows.BATCH // len(turns)), most - len(claimed))
            found = rows.due(connection, whose, now, far, limit) if limit else []
            for claim, body in found:
                if not claim.missing or claim.why_over(claim.attempts, claim.missing, now):
                    over.append(claim)
                elif self.room(claim.missing):  # one that does not stand in the turn may have none
                    for entry in claim.missing:
                        self.windows[entry].under_way += 1
                    claimed.append((claim, body))
            left |= len(found) == limit and self.room(in_turn(whose)) > 0
            self._last_turn = whose
        leased = [*over, *(claim for claim, _ in claimed)]
        rows.lease(connection, leased, now + self.lease)
        self.left |= left and bool(leased)
        return over

    def confirm(self, claim: Claim, signer: str) -> list[str]:
        """Take in an ACK, of a claim that has ended maybe; return the entries that it meets."""
        met = [entry for entry in claim.missing if signer in _protocol.members(entry)]
        claim.missing = tuple(entry for entry in claim.missing if entry not in met)
        for entry in met if not claim.ended else ():
            self.windows[entry].confirmed()
        return met

    def release(self, claim: Claim) -> None:
        """Give up the places that *claim* still takes: its attempt is over, or there is none."""
        if not claim.ended:
            claim.ended = True
            for entry in claim.missing:
                self.windows[entry].under_way -= 1

    def room(self, entries: Iterable[str]) -> int:
        """Return how many more may be under way to all of *entries* at a time.

        Who is away is no limit to those who are there; only what nobody there is to get waits for its window.
        """
        windows = [self.windows[entry] for entry in entries]
        return min([one.room for one in windows if not one.away] or [one.room for one in windows])

    def _turns(self, known: Sequence[rows.Turn], now: float) -> list[str]:
        """Return those of which something may be due, and for which there is room."""
        due = [turn.whose for turn in known if turn.first <= now or turn.last > self._far(now)]
        return [whose for whose in due if self.room(in_turn(whose))]

    def _far(self, now: float) -> float:
        """Return what no due time and no lease can lie beyond: the clock was set back."""
        return now + max(LONGEST_PAUSE * (1 + JITTER), self.lease) + _TOLERANCE
