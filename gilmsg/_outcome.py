"""What becomes of one message, handed from the listener's thread to the one that waits for it."""

import os
import threading
import time
import weakref
from typing import Any, Callable, Generic, Optional, TypeVar

from ._fork import Owner

T = TypeVar("T")

#: Seconds. One that waits at a gate may be interrupted with its lock in hand; others look again.
_LOOK_AGAIN = 0.1


class Outcome(Generic[T]):
    """Settled once, waited for by one thread.

    A bare lock, and not a ``Future``: the thread that waits for a Future holds its lock before it
    sleeps. A signal handler that interrupts it there and publishes would wait for the
    listener, and the listener for that lock. Here nobody ever waits for the waiting thread.
    """

    def __init__(self) -> None:
        self._result: Optional[T] = None
        self._error: Optional[BaseException] = None
        self._settled = False
        self._owner = Owner()
        self._unsettled = threading.Lock()
        self._unsettled.acquire()
        _inherited.add(self)

    def settle(self, result: Optional[T], error: Optional[BaseException]) -> None:
        """Set the result, or the exception if there is one; never blocks. Call it once."""
        self._result, self._error = result, error
        self._settled = True
        self._unsettled.release()

    def orphan(self) -> None:
        """Settle it in a forked child: it may be waited for below the signal handler that forked."""
        if not self._settled:
            self._error = self._owner.unknown_here()
        if self._unsettled.locked():  # the thread that settled it may have come no further
            self._unsettled.release()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether it is settled."""
        return self._unsettled.acquire(timeout=seconds)

    def take(self) -> Optional[T]:
        """Return the result or raise the exception; only once it is settled."""
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, and us: neither may hold the error


#: What a forked child would wait for in vain.
_inherited: "weakref.WeakSet[Outcome[Any]]" = weakref.WeakSet()


def _after_fork() -> None:
    for outcome in list(_inherited):
        outcome.orphan()


os.register_at_fork(after_in_child=_after_fork)


class Gate:
    """Opened once, by one thread; whoever waits for that waits no more.

    Not a ``threading.Event``: that takes its lock in Python code (``Condition.__enter__``). A
    KeyboardInterrupt just there leaves the lock taken: whoever waits or sets then hangs for ever.
    """

    def __init__(self) -> None:
        self._open = False
        self._shut = threading.Lock()
        self._shut.acquire()

    def open(self) -> None:
        """Let everybody pass; idempotent, never blocks."""
        if not self._open:
            # First: who takes the lock below, and is interrupted before it gives it back, bars nobody.
            self._open = True
            self._shut.release()

    def wait(self, seconds: float, over: Callable[[], bool]) -> bool:
        """Wait at most so long, and no more once it is *over*; whether it is open."""
        deadline = time.monotonic() + seconds
        while not self._open:
            left = deadline - time.monotonic()
            if left <= 0 or over():
                return False
            if self._shut.acquire(timeout=min(left, _LOOK_AGAIN)):
                self._shut.release()
        return True
