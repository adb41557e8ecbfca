"""The mailbox of the engine thread: how other threads hand operations over, and learn that the engine has ended."""

from __future__ import annotations

import _socket
import contextlib
import os
import queue
import threading
import time
from _queue import SimpleQueue  # greenlets have a queue.SimpleQueue of their own
from typing import Callable, TypeVar

from ..errors import ConfigurationError, ListenerError
from . import greenlets
from .operations import Ask, Operation
from .waiting import Outcome

T = TypeVar("T")

#: Seconds that destroy() waits for the engine thread to end.
STOP_LIMIT = 2.0

#: Seconds past the deadline after which a caller no longer believes in the engine: many short waits. When
#: the process stood still (SIGSTOP, a debugger, a frozen container), both threads are late, and the
#: caller may wake first; that uses up one of the waits, not the engine's time.
_GRACE = (0.5,) * 10

#: Operations for which the thread is woken where it would look by itself in a moment, and nobody waits for them: with each
#: message that wakes it alone the thread takes an eighth more of the processor, all told.
_BATCH = 4

UNKNOWN = "whether the message was received is unknown"


class Mailbox:
    """A queue of operations, the thread that is to do them, and what it ended of. For any thread.

    The thread ends by setting ``over`` and then draining the queue; a caller puts, then looks at ``over``, and drains
    the queue too: so exactly one of the two settles an operation.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.over = self.stopping = self._asleep = False
        self._dozing = False  # asleep for a millisecond, at most
        self._why = "has ended"
        #: Whether it ended, or is to, though nobody asked for it.
        self.failed = False
        #: What the thread died of; None where it was stopped.
        self._failure: BaseException | None = None
        self._operations: SimpleQueue[Operation] = SimpleQueue()
        # C-level sockets: programs put others in the place of Python's.
        self._inside, self._outside = _socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="gilmsg-engine", daemon=True)
        #: The identity of the real thread; 0 before it runs, None when it has ended.
        self._ident: int | None = 0

    def _run(self) -> None:
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return not self.over and not self.stopping and os.getpid() == self.pid

    def refuse_own_thread(self) -> None:
        """Raise ConfigurationError on the engine thread: it would wait for itself."""
        if self._ident == greenlets.ident():
            raise ConfigurationError(
                "publish() with recipients was called on the ACK listener's own thread, by a logging "
                "handler, a __del__ or a weakref callback; do it on a thread of its own"
            )

    def put(self, operation: Operation) -> None:
        """Hand *operation* over; it is settled whatever becomes of the engine."""
        self._operations.put(operation)
        if self._asleep and (not self._dozing or operation.urgent or self._operations.qsize() >= _BATCH):
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
            self.failed = True
            self.give_up("does not keep its deadlines")
            raise self.ended(UNKNOWN)
        return outcome.take()

    def give_up(self, why: str) -> None:
        """Take no more operations, and end as soon as may be."""
        self._why = self._why if self.stopping else why
        self.stopping = True
        self._wake()

    def stop(self) -> None:
        """End the thread, fail its waiters and give the ports back; returns within STOP_LIMIT seconds."""
        self.give_up("was stopped by destroy()")
        until = time.monotonic() + STOP_LIMIT
        if self._thread.is_alive():
            self._thread.join(STOP_LIMIT)
        while greenlets.green and self._ident is not None and time.monotonic() < until:
            time.sleep(0.001)

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
        with contextlib.suppress(queue.Empty):
            while True:
                self._operations.get_nowait().fail(self.ended("nothing was sent"))
