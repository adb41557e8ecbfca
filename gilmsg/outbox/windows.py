"""Limits of what is under way to one recipient, and pauses between attempts. Pure: the monotonic time goes in."""

from __future__ import annotations

import random
from collections.abc import Iterable

#: Seconds: the first pause, and the longest; it doubles. By how much, at most, chance makes one longer.
FIRST_PAUSE, LONGEST_PAUSE, JITTER = 1.0, 300.0, 0.25

#: Doublings after which a pause is the longest for certain.
_DOUBLINGS = 16


def pause(attempts: int, at_most: float = LONGEST_PAUSE) -> float:
    """Return the seconds from the end of the attempt number *attempts* to the next, but for chance no more than *at_most*."""
    seconds = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, _DOUBLINGS), LONGEST_PAUSE, max(at_most, FIRST_PAUSE))
    return seconds * random.uniform(1.0, 1.0 + JITTER)


def longest_pause() -> float:
    """Return the longest of all pauses, but for chance."""
    return pause(_DOUBLINGS)


class Window:
    """The attempts that are under way to one recipient or group, and how many may be."""

    def __init__(self, most: int) -> None:
        self.size = self._most = most
        self.under_way = 0
        #: Whether it was not there when an attempt ended last. Nobody is overrun by what is sent to nobody.
        self.away = False
        self._halved = 0.0

    @property
    def room(self) -> int:
        """How many more may be under way now."""
        return max(0, self.size - self.under_way)

    def confirmed(self) -> None:
        """Take in an ACK in time: one more may be under way."""
        self.size, self.away = min(self._most, self.size + 1), False

    def timed_out(self, sent_at: float, now: float) -> None:
        """Take in that one that is present has not answered: half as many may be under way.

        What left before the last halving says nothing new: a full window times out all at once.
        """
        self.away = False
        if sent_at >= self._halved:
            self.size, self._halved = max(1, self.size // 2), now


class Windows:
    """The windows of all recipients. One that has nothing under way, and is as wide as can be, is not remembered."""

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

    def tidy(self) -> None:
        """Forget those of which there is nothing to say."""
        self._windows = {
            entry: one for entry, one in self._windows.items() if one.under_way or one.away or one.size < self.most
        }
