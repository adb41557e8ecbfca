"""The engine thread: it owns every zmq socket of publishers and ACKs, and does what callers hand over."""

from __future__ import annotations

import _socket
import collections
import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import zmq

from .. import _protocol as protocol
from ..errors import ListenerError
from . import descriptors, sockets
from .connections import Connections
from .ends import Address, Ear, Out
from .operations import Ask, Operation, closed
from .waiting import CallbackFuture, Outcome, callbacks, futures

if TYPE_CHECKING:
    from .operations import Book, Leaving, Message

T = TypeVar("T")

log = logging.getLogger("gilmsg.listener")

#: Seconds that destroy() waits for the engine thread to end.
STOP_LIMIT = 2.0

#: Seconds past the deadline after which a caller no longer believes in the engine: many short waits. When
#: the process stood still (SIGSTOP, a debugger, a frozen container), both threads are late, and the
#: caller may wake first; that uses up one of the waits, not the engine's time.
_GRACE = (0.5,) * 10

#: Operations that are done in one round: a flood of them must delay no ACK and no deadline.
_OPERATIONS_AT_ONCE = 256

#: Milliseconds: libzmq takes a C int. The thread wakes then, sees that nothing is due, and sleeps on.
_LONGEST_SLEEP = 2**31 - 1

#: Seconds: longer than any head start.
_OLD = 1e9

_UNKNOWN = "whether the message was received is unknown"


class Engine:
    """One engine. Callers put operations on its queue, and wake its thread.

    The thread ends by setting ``over`` and then draining the queue; a caller puts, then looks at ``over``, and drains
    the queue too: so exactly one of the two settles an operation.

    Args:
        config: whose ``io_threads`` the one zmq context has.

    Raises:
        ConfigurationError: the process has too many open files.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.pid = os.getpid()
        self.over = self.stopping = self._asleep = False
        self._why = "has ended"
        #: What the thread died of; None where it was stopped.
        self._failure: BaseException | None = None
        self._operations: queue.SimpleQueue[Operation] = queue.SimpleQueue()
        self._context = descriptors.new_context(config)
        # C-level sockets: programs put others in the place of Python's.
        self._inside, self._outside = _socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._names = sockets.Names(self._wake)
        self._outs: dict[Address, Out] = {}
        self._ears: dict[Any, Ear] = {}
        self._readers: dict[Any, Callable[[float], None]] = {}
        self._polled: list[tuple[Any, int]] = []
        #: Futures with their ends, handed to the thread of ``futures`` after each round.
        self._settled: list[tuple[CallbackFuture, Any, BaseException | None]] = []
        # What is taken out to be done, until it is done: should the thread die in between, `_end` knows whom to tell.
        self._in_hand: Operation | None = None
        self._leaving: collections.deque[Leaving] = collections.deque()
        self._undecided: collections.deque[Message] = collections.deque()
        self._thread = threading.Thread(target=self._run, name="gilmsg-engine", daemon=True)
        self._watch()

    # For any thread.

    def start(self) -> None:
        """Return when the thread runs; raise ListenerError if it cannot start."""
        try:
            self._thread.start()
        except Exception as error:  # no more threads, or the interpreter ends
            self._context.destroy(linger=0)
            raise ListenerError(f"the ACK listener did not start: {error}; nothing was sent") from error

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return not self.over and not self.stopping and os.getpid() == self.pid

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is the engine thread."""
        return threading.current_thread() is self._thread

    def put(self, operation: Operation) -> None:
        """Hand *operation* over; it is settled whatever becomes of the engine."""
        self._operations.put(operation)
        if self._asleep:
            self._wake()
        if self.over:
            self._refuse_all()

    def ask(self, job: Callable[[], T]) -> T:
        """Run *job* on the engine thread between two steps; return what it returns, raise what it raises."""
        asked: Ask[T] = Ask(job)
        self.put(asked)
        return self.result_of(asked.outcome, 0.0)

    def result_of(self, outcome: Outcome[T], seconds: float) -> T:
        """Return the result of *outcome*, due within *seconds*, or raise its error; ListenerError if it does not come."""
        if not any(map(outcome.wait, (seconds, *_GRACE))):
            self.give_up("does not keep its deadlines")
            raise self.ended(_UNKNOWN)
        return outcome.take()

    def give_up(self, why: str) -> None:
        """Take no more operations, and end as soon as may be."""
        self._why = self._why if self.stopping else why
        self.stopping = True
        self._wake()

    def stop(self) -> None:
        """End the thread, fail its waiters and give the ports back; returns within STOP_LIMIT seconds."""
        self.give_up("was stopped by destroy()")
        if self._thread.is_alive():
            self._thread.join(STOP_LIMIT)

    def forget(self) -> None:
        """Give up, in a forked child, what was inherited: the thread is not there, and the sockets are the parent's."""
        self.over = True
        self._inside.close()
        self._outside.close()

    def ended(self, consequence: str) -> ListenerError:
        """Return the error of whoever waits when the engine has ended."""
        if self._failure is None:
            return ListenerError(f"the ACK listener {self._why}; {consequence}")
        error = ListenerError(f"the ACK listener died: {self._failure!r}; {consequence}")
        error.__cause__ = self._failure
        return error

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is to wake anyway; closed: it has ended
            self._outside.send(b".")

    def _refuse_all(self) -> None:
        for operation in self._queued():
            operation.fail(self, self.ended("nothing was sent"))

    def _queued(self) -> Iterator[Operation]:
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._operations.get_nowait()

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
                self._ears[book.key] = Ear(self._context, book, config, self._names)
            except zmq.ZMQError as error:
                raise ListenerError(f"the ACK listener did not start: {error}; nothing was sent") from error
            self._watch()
        return self._ears[book.key], shared

    def close_unused(self, *ends: Out | Ear | None) -> None:
        """Close those of *ends* that nobody uses any more; what was to leave by them, and who waits there, fails."""
        for address, out in list(self._outs.items()):
            if out in ends and not out.users:
                del self._outs[address]
                for held in out.lines.clear():
                    held.fail(self, closed())
                out.close()
        for key, ear in list(self._ears.items()):
            if ear in ends and not ear.users:
                del self._ears[key]
                for entry in ear.delivery.clear():
                    self.settle(entry, None, self.ended(_UNKNOWN))
                ear.close()
        self._watch()
        if not self._outs and not self._ears:
            self.give_up("had nothing open any more")

    def grow_old(self) -> None:
        """Let all sockets pass for older than any head start."""
        for out in self._outs.values():
            out.born -= _OLD
        for ear in self._ears.values():
            ear.born -= _OLD

    def settle(self, entry: Message, result: Any, error: BaseException | None) -> None:
        """Tell whoever waits for *entry* its end; for any thread once the engine is over."""
        if not isinstance(entry.outcome, CallbackFuture):
            entry.outcome.settle(result, error)
        elif self.over:  # no round comes any more
            futures.run(lambda: _settle_all([(entry.outcome, result, error)]))
        else:
            self._settled.append((entry.outcome, result, error))

    # The thread.

    def _run(self) -> None:
        # A signal that this thread gets would interrupt libzmq's calls: others may take it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            while not self.stopping:
                self._round()
            self._release(float("inf"))
        except BaseException as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            died = self._failure = error
            callbacks.run(lambda: log.error("the ACK listener died: %r", died, exc_info=died))
        finally:
            self._end()

    def _round(self) -> None:
        self._asleep = True  # first, or who puts just now would wake nobody
        events = zmq.zmq_poll(self._polled, self._milliseconds())
        self._asleep = False
        now = time.monotonic()
        for source, _ in events:
            self._readers[source](now)
        self._operate(now)
        self._release(now)
        for ear in self._ears.values():
            self._undecided.extend(ear.delivery.expired(now))
        self._decide()
        for connections in self._connections():
            due = connections.next_due()
            if due is not None and due <= now:
                connections.tick(now)
        self._hand_over_settled()

    def _milliseconds(self) -> int:
        """Return how long to sleep; round up, never spin."""
        if self.stopping or not self._operations.empty():
            return 0
        dues = [out.lines.next_due() for out in self._outs.values()]
        dues += [ear.delivery.next_due() for ear in self._ears.values()]
        dues += [connections.next_due() for connections in self._connections()]
        due = min((one for one in dues if one is not None), default=None)
        return -1 if due is None else min(_LONGEST_SLEEP, max(0, int((due - time.monotonic()) * 1000) + 1))

    def _connections(self) -> list[Connections]:
        found = [ear.connections for ear in self._ears.values()]
        return found + [out.connections for out in self._outs.values() if out.connections is not None]

    def _operate(self, now: float) -> None:
        for _, operation in zip(range(_OPERATIONS_AT_ONCE), self._queued()):
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
            if isinstance(result, protocol.Receipt):
                self.settle(entry, result, None)
            else:
                self.settle(entry, None, result)
            self._undecided.popleft()

    def _hand_over_settled(self) -> None:
        if self._settled:
            batch, self._settled = self._settled, []
            futures.run(lambda: _settle_all(batch))

    def _watch(self) -> None:
        """Note anew what to poll, and who reads it: the wake-up, the sockets and their monitors."""
        self._readers = {self._inside.fileno(): self._woken}
        for out in self._outs.values():
            self._readers[out.socket] = out.take
        for ear in self._ears.values():
            self._readers[ear.socket] = lambda now, ear=ear: ear.take(now, self._undecided)  # type: ignore[misc]
        for connections in self._connections():
            self._readers[connections.monitor] = connections.take
        for out in self._outs.values():
            if out.connections is not None:
                self._readers[out.connections.monitor] = out.take
        self._polled = [(source, zmq.POLLIN) for source in self._readers]

    def _woken(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._inside.recv(4096)
        for host, addresses in self._names.answers():
            for connections in self._connections():
                connections.answer(host, addresses)

    def _end(self) -> None:
        """Take no more operations, fail those who wait, close all, and give the ports back."""
        for out in self._outs.values():
            self._leaving.extend(out.lines.clear())
        for held in [self._in_hand, *self._leaving] if self._in_hand else self._leaving:
            held.fail(self, self.ended("nothing was sent"))
        for ear in self._ears.values():
            self._undecided.extend(ear.delivery.clear())
        for entry in self._undecided:
            self.settle(entry, None, self.ended(_UNKNOWN))
        self.over = True
        self._refuse_all()
        self._hand_over_settled()
        for out in self._outs.values():
            out.close()
        for ear in self._ears.values():
            ear.close()
        self._context.destroy(linger=None)
        self._inside.close()
        self._outside.close()


def _settle_all(batch: Sequence[tuple[CallbackFuture, Any, BaseException | None]]) -> None:
    for future, result, error in batch:
        future.settle(result, error)
