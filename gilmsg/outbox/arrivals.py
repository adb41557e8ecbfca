"""Recipients that have appeared at our socket, whose rows are to be made due at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sqlalchemy import Connection

from .. import _protocol
from .rows import Rows

#: Names, at most, that are still to be looked up: anybody may announce any.
_MOST = 10_000

#: Seconds between two appearances of a recipient that count.
_EVERY = 1.0


class Arrivals:
    """Who has appeared, and which rows that concerns; *now* is of the monotonic clock."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        #: Entry -> when a member of it appeared last, of those for whom something waited then.
        self._seen: dict[str, float] = {}
        #: The entries whose rows are being made due, and the last row of each that was.
        self._rousing: deque[tuple[str, int]] = deque()
        self._beyond: int | None = None
        self._due = 0.0

    def add(self, common_name: str) -> None:
        """Note that *common_name* has appeared; a stranger's name costs a look among those who are waited for."""
        if len(self._names) < _MOST:
            self._names.add(common_name)

    def __bool__(self) -> bool:
        return bool(self._rousing)

    def next_due(self) -> float | None:
        """Return when :meth:`look_up` has something to do."""
        return self._due if self._names else None

    def look_up(self, unmet: Iterable[str], now: float) -> list[str]:
        """Return the entries among *unmet* of which a member has appeared: their rows are to be made due."""
        found = [entry for entry in unmet if self._names.intersection(_protocol.members(entry))]
        self._names, self._due = set(), now + _EVERY
        for entry in found:
            self._seen[entry] = now
        self._rousing.extend((entry, 0) for entry in found)
        return found

    def seen(self, entries: Iterable[str]) -> float:
        """Return when one of *entries* appeared last; 0.0 if never."""
        return max((self._seen.get(entry, 0.0) for entry in entries), default=0.0)

    def rouse(self, rows: Rows, connection: Connection, clock: float) -> None:
        """Make a batch of rows due; once the transaction has committed, `roused` is to be told."""
        if self._rousing:
            entry, last = self._rousing[0]
            self._beyond = rows.rouse(connection, entry, last, clock)

    def roused(self) -> None:
        """Go on to the next batch, if there is any."""
        if self._rousing:
            entry, _ = self._rousing.popleft()
            if self._beyond is not None:
                self._rousing.append((entry, self._beyond))
