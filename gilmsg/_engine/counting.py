"""Counters of what this process sends, hears and acknowledges; nobody counts unless ``gilmsg.metrics`` is registered.

The engine thread alone writes what it counts. What callers count (ACKs that failed, frames that a consumer dropped) is
under a lock of their own, which the engine thread never takes. Whoever reads copies one dict or list after the other.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .. import _protocol as protocol
from ..errors import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from .operations import Message

#: Seconds: the upper bounds of the classes into which ACKs fall by their time; the last class has none.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Values of a label, at most, and of all labels of missing recipients together; what comes after them is OTHER.
_MOST_VALUES, _MOST_MISSING = 200, 2000
OTHER = "other"

#: Seconds between two looks at what waits in an outbox, at least, and as a multiple of what one takes: a million rows
#: take a second or two, in which nothing is delivered.
_LOOK_AGAIN, _TIMES = 15.0, 20

#: The reason of what the ACK listener drops, which no consumer gives: theirs are the codes of errors.
BAD_ANSWER = "answer"


class Sight(NamedTuple):
    """How many messages await their ACKs now, and whether each endpoint is connected to."""

    outstanding: int
    links: dict[str, bool]


class Standing(NamedTuple):
    """Rows of an outbox that wait, the age of the oldest in seconds, when that was so (monotonic), and when to look again."""

    rows: int
    oldest: float
    at: float
    again: float


class Tally:
    """What was counted in this process; *depth* is how many words of a topic make a label."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        #: By topic.
        self.published: Counter[str] = Counter()
        self.confirmed: Counter[str] = Counter()
        self.timed_out: Counter[str] = Counter()
        #: By topic, recipient and code.
        self.missing: Counter[tuple[str, str, str]] = Counter()
        #: ACKs by the class of their time, and these times in all.
        self.classes, self.seconds = [0] * (len(BOUNDS) + 1), 0.0
        self.acks_sent = self.acks_failed = self.restarts = 0
        #: By reason.
        self.dropped: Counter[str] = Counter()
        #: By the origin of the outbox.
        self.outboxes: dict[str, Standing] = {}
        self._topics: set[str] = set()
        self._recipients: set[str] = set()
        self.callers = threading.RLock()  # a signal handler may consume, too

    def left(self, message: Message) -> None:
        """Count, on the engine thread, *message*, which was given to the socket."""
        self.published[self._topic_of(message)] += 1

    def ended(self, message: Message, result: protocol.Receipt | Timeout) -> None:
        """Count, on the engine thread, the end of *message*."""
        topic = self._topic_of(message)
        for seconds in result.acks.values():
            self.classes[bisect_left(BOUNDS, seconds)] += 1
            self.seconds += seconds
        if not isinstance(result, Timeout):
            self.confirmed[topic] += 1
            return
        self.timed_out[topic] += 1
        for recipient, reason in result.missing.items():
            key = topic, _bounded(self._recipients, recipient), reason.code
            if key not in self.missing and len(self.missing) >= _MOST_MISSING:
                key = OTHER, OTHER, reason.code
            self.missing[key] += 1

    def _topic_of(self, message: Message) -> str:
        """Return the first words of the topic of *message* after prefix and environment."""
        begin = protocol.scope(message.way.ack_topic)
        rest = message.topic.removeprefix(begin)
        return _bounded(self._topics, ".".join(rest.split(".", self.depth)[: self.depth]))

    def look_at(self, origin: str, ask: Callable[[], tuple[int, float]]) -> None:
        """Note what *ask* says of an outbox, rows and age; unless it was asked a moment ago. For its deliverer's thread."""
        known, begun = self.outboxes.get(origin), time.monotonic()
        if known is None or begun >= known.again:
            rows, oldest = ask()
            now = time.monotonic()
            self.outboxes[origin] = Standing(rows, oldest, now, now + max(_LOOK_AGAIN, _TIMES * (now - begun)))


#: What is counted; None while nobody is registered, and then nothing is.
tally: Tally | None = None


def begin(depth: int) -> None:
    """Count from now on, if nobody does yet; *depth* holds for what is counted from now on."""
    global tally
    if tally is None:
        tally = Tally(depth)
    tally.depth = depth


def begin_anew() -> None:
    """Count from zero, in a forked child; what is counted by the parent is told by the parent."""
    global tally
    if tally is not None:
        tally = Tally(tally.depth)


def restarted(failed: bool) -> None:
    """Count a new engine in the place of one that ended, if that has *failed*, and anybody wants to know."""
    if failed and tally is not None:
        tally.restarts += 1


def dropped_answer() -> None:
    """Count, on the engine thread, a frame that the ACK listener dropped, if anybody wants to know."""
    if tally is not None:
        tally.dropped[BAD_ANSWER] += 1


def dropped(reason: str) -> None:
    """Count a frame that a consumer dropped, if anybody wants to know; *reason* is one of a few words."""
    if tally is not None:
        with tally.callers:
            tally.dropped[reason] += 1


def ack_failed() -> None:
    """Count an ACK that could not be sent, if anybody wants to know."""
    if tally is not None:
        with tally.callers:
            tally.acks_failed += 1


def _bounded(values: set[str], value: str) -> str:
    """Return *value*, or OTHER where there are too many of them: anybody may invent topics, and they would stay."""
    if value not in values:
        if len(values) >= _MOST_VALUES:
            return OTHER
        values.add(value)
    return value
