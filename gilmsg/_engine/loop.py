"""The engine thread: it owns every zmq socket of publishers and ACKs, and does what callers hand over."""

from __future__ import annotations

import collections
import contextlib
import logging
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable

import zmq

from .. import _protocol as protocol
from ..errors import ListenerError
from . import counting, descriptors, greenlets, sockets
from .connections import Connections
from .ends import Address, Ear, Out
from .mailbox import UNKNOWN, Mailbox
from .operations import Operation, closed
from .waiting import callbacks

if TYPE_CHECKING:
    from .operations import Book, Leaving, Message

log = logging.getLogger("gilmsg.listener")

#: Operations that are done in one round: a flood of them must delay no ACK and no deadline.
_OPERATIONS_AT_ONCE = 256

#: Milliseconds: libzmq takes a C int. The thread wakes then, sees that nothing is due, and sleeps on.
_LONGEST_SLEEP = 2**31 - 1

#: Milliseconds between two looks for ACKs, and for a few messages, while many are on their way and no thread waits for one:
#: to wake for each would take the interpreter's lock from those who publish. With 3 ms, eight tasks get an eighth less done.
_BATCH_EVERY = 1

#: Seconds: longer than any head start.
_OLD = 1e9


class Engine(Mailbox):
    """One engine: what its thread does, between two looks into the mailbox.

    Args:
        config: whose ``io_threads`` the one zmq context has.

    Raises:
        ConfigurationError: the process has too many open files.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._context = descriptors.new_context(config)
        super().__init__()
        self._names = sockets.Names(self._wake)
        self._outs: dict[Address, Out] = {}
        self._ears: dict[Any, Ear] = {}
        self._readers: dict[Any, Callable[[float], None]] = {}
        self._polled: list[tuple[Any, int]] = []
        self._polled_for_callers: list[tuple[Any, int]] = []
        self._connections: list[Connections] = []
        self._scheduled: list[Any] = []
        self._batch_at = 0.0
        # What is taken out to be done, until it is done: should the thread die in between, `_end` knows whom to tell.
        self._in_hand: Operation | None = None
        self._leaving: collections.deque[Leaving] = collections.deque()
        self._undecided: collections.deque[Message] = collections.deque()
        self._watch()

    def start(self) -> None:
        """Return when the thread runs; raise ListenerError if it cannot start."""
        try:
            greenlets.start(self._thread)
        except Exception as error:  # no more threads, or the interpreter ends
            self._context.destroy(linger=0)
            raise ListenerError(f"the ACK listener did not start: {error}; nothing was sent") from error

    # For the engine thread, within an operation.

    def out(self, address: Address, config: Mapping[str, Any], preferred: str) -> tuple[Out, bool]:
        """Return the publishing socket of *address*, opened if there is none; and whether there was one."""
        shared = address in self._outs
        if not shared:
            self._outs[address] = Out(self._context, address, config, preferred, self._names)
            self._watch()
        return self._outs[address], shared

    def ear(self, book: Book, config: Mapping[str, Any]) -> tuple[Ear, bool]:
        """Return the listener of the bus of *book*, opened if there is none; and whether there was one."""
        shared = book.key in self._ears
        if not shared:
            try:
                self._ears[book.key] = Ear(self._context, book, config, self._names, self._undecided)
            except zmq.ZMQError as error:
                raise ListenerError(f"the ACK listener did not start: {error}; nothing was sent") from error
            self._watch()
        return self._ears[book.key], shared

    def close_unused(self, *ends: Out | Ear | None) -> None:
        """Close those of *ends* that nobody uses any more, and end if nothing is open then."""
        # What has left still gets its ACKs: a listener that awaits some stays, until the engine ends.
        busy = [ear for ear in self._ears.values() if ear.delivery.next_due() is not None]
        unused = [end for end in self._ends() if end in ends and not end.users and end not in busy]
        self._outs = {address: out for address, out in self._outs.items() if out not in unused}
        self._ears = {bus: ear for bus, ear in self._ears.items() if ear not in unused}
        self._close(unused, closed)
        self._watch()
        if not self._outs and not self._ears:
            self.give_up("had nothing open any more")

    def sight(self) -> counting.Sight:
        """Return what is on its way, and whom we are connected to."""
        links: dict[str, bool] = {}
        for connections in self._connections:
            links.update(connections.states())
        return counting.Sight(sum(ear.delivery.outstanding for ear in self._ears.values()), links)

    def grow_old(self) -> None:
        """Let all sockets pass for older than any head start."""
        for end in self._ends():
            end.born -= _OLD

    # The thread.

    def _run(self) -> None:
        self._ident = greenlets.ident()
        # A signal that this thread gets would interrupt libzmq's calls: others may take it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self.stopping:
                self._round()
            self._decide()
            self._release(float("inf"))
        except BaseException as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            died, self.failed = error, True
            self._failure = error
            self.stopping = True  # first: who is told takes another engine
            callbacks.run(lambda: log.error("the ACK listener died: %r", died, exc_info=died))
        finally:
            self._end()

    def _round(self) -> None:
        self._asleep = True  # first, or who puts just now would wake nobody
        milliseconds, polled = self._milliseconds(), self._polled
        patient = self._dozing = milliseconds > 0 and self._is_patient()
        if patient:
            milliseconds, polled = min(milliseconds, _BATCH_EVERY), self._polled_for_callers
        self._decide()  # last: who is told needs the interpreter's lock, which the poll gives up
        events = zmq.zmq_poll(polled, milliseconds)
        self._asleep = self._dozing = False
        now = time.monotonic()
        for source, _ in events:  # in the order of _polled
            if source in self._readers:  # an operation may have closed it
                self._readers[source](now)
        if patient and now >= self._batch_at:
            self._batch_at = now + _BATCH_EVERY / 1000
            for ear in self._ears.values():
                ear.take_events(now)
                ear.take(now)
        self._operate(now)
        self._release(now)
        for ear in self._ears.values():
            self._undecided.extend(ear.delivery.expired(now))
        for connections in self._connections:
            connections.tick(now)

    def _is_patient(self) -> bool:
        """Return whether ACKs are better taken in batches: each listener awaits many, and no thread waits for one."""
        return bool(self._ears) and all(ear.delivery.patient for ear in self._ears.values())

    def _milliseconds(self) -> int:
        """Return how long to sleep; round up, never spin."""
        if self.stopping or not self._operations.empty():
            return 0
        dues = [due for due in [one.next_due() for one in self._scheduled] if due is not None]
        if not dues:
            return -1
        return min(_LONGEST_SLEEP, max(0, int((min(dues) - time.monotonic()) * 1000) + 1))

    def _ends(self) -> list[Out | Ear]:
        return [*self._outs.values(), *self._ears.values()]

    def _operate(self, now: float) -> None:
        for _ in range(_OPERATIONS_AT_ONCE):
            if self._operations.empty():
                return
            operation = self._operations.get_nowait()
            if self.stopping:
                operation.fail(self.ended("nothing was sent"))
                continue
            self._in_hand = operation
            operation.run(self, now)
            self._in_hand = None

    def _release(self, now: float) -> None:
        """Let leave what has waited long enough."""
        for out in self._outs.values():
            if out.lines:
                self._leaving.extend(out.lines.ripe(now))
        while self._leaving:
            self._leaving[0].leave(self)
            self._leaving.popleft()

    def _decide(self) -> None:
        """Tell whoever waits for what is settled, or late."""
        while self._undecided:
            entry, result = self._undecided[0], protocol.result(self._undecided[0])
            if counting.tally is not None:
                counting.tally.ended(entry, result)  # first: whoever is told may ask what was counted
            if isinstance(result, protocol.Receipt):
                entry.outcome.settle(result, None)
            else:
                entry.outcome.settle(None, result)
            self._undecided.popleft()

    def _watch(self) -> None:
        """Note anew what to poll and who reads it, the sockets and their monitors, and who has something due.

        Subscriptions come first, so that presence is current when an operation asks for it; then operations; then ACKs.
        """
        self._connections = [end.connections for end in self._ends() if end.connections is not None]
        outs, ears = _readers(self._outs.values()), _readers(self._ears.values())
        callers = {**outs, self._inside.fileno(): self._woken}
        self._readers = {**callers, **ears}
        self._polled_for_callers = [(source, zmq.POLLIN) for source in callers]
        self._polled = [(source, zmq.POLLIN) for source in self._readers]
        lines, deliveries = [out.lines for out in self._outs.values()], [ear.delivery for ear in self._ears.values()]
        self._scheduled = [*lines, *deliveries, *self._connections]

    def _woken(self, now: float) -> None:
        self._operate(now)  # first: a caller waits, and to take the byte gives up the interpreter's lock
        with contextlib.suppress(BlockingIOError):
            self._inside.recv(4096)
        for host, addresses in self._names.answers():
            for connections in self._connections:
                connections.answer(host, addresses)

    def _end(self) -> None:
        """Take no more operations, fail those who wait, close all, and give the ports back."""
        if self._in_hand is not None:
            self._in_hand.fail(self.ended("nothing was sent"))
        self._close(self._ends(), lambda: self.ended("nothing was sent"), self._leaving, self._undecided)
        self.over = True
        self._refuse_all()
        self._context.destroy(linger=None)
        self._inside.close()
        self._outside.close()
        self._ident = None

    def _close(
        self, ends: Sequence[Out | Ear], unsent: Callable[[], ListenerError], leaving: Iterable[Leaving] = (),
        expected: Iterable[Message] = (),
    ) -> None:  # fmt: skip
        """Close *ends*; whoever waits to send there fails, and whoever awaits an ACK, and those besides."""
        for end in ends:
            if isinstance(end, Out):
                leaving = [*leaving, *end.lines.clear()]
            else:
                expected = [*expected, *end.delivery.clear()]
        for held in leaving:
            held.fail(unsent())
        for entry in expected:
            entry.outcome.settle(None, self.ended(UNKNOWN))
        for end in ends:
            end.close()


def _readers(ends: Iterable[Out | Ear]) -> dict[Any, Callable[[float], None]]:
    """Return the sockets and monitors of *ends*, and who reads each."""
    found: dict[Any, Callable[[float], None]] = {}
    for end in ends:
        found[end.socket] = end.take
        if end.connections is not None:
            found[end.connections.monitor] = end.take_events
    return found
