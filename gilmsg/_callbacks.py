"""A Future that the listener can settle without waiting for anybody, and the threads for that.

Whoever waits for a Future, or adds a callback, holds its locks for a moment. A signal handler that
interrupts just then and publishes waits for the listener: should that need such a lock, both would
wait for each other. So the listener settles a Future only if nobody has its lock; a thread of its
own settles the others. Another runs the callbacks, which may take as long as they like.
"""

import functools
import logging
import os
import queue
import threading
import time
import weakref
from concurrent.futures import Future, TimeoutError
from typing import Any, Callable, Optional

from ._fork import Owner
from ._uninterrupted import uninterrupted
from .errors import ListenerError

Job = Callable[[], Any]

#: Seconds after which who waits for a future looks whether this is still its process.
_LOOK_AGAIN = 1.0

log = logging.getLogger(__name__)


class Worker:
    """A thread that does one job after the other. It starts with the first, and stays, asleep."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.forget()

    def forget(self) -> None:
        """Begin anew: a thread does not survive a fork, nor do the parent's jobs concern the child."""
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None
        self.jobs: "queue.SimpleQueue[Job]" = queue.SimpleQueue()

    def start(self) -> bool:
        """Start the thread if there is none; whether there is one now, or will be at once."""
        if self._thread is not None and self._thread.is_alive():
            return True
        try:
            return uninterrupted(self._start)
        except (RuntimeError, ListenerError) as error:  # whoever calls, the listener above all, must go on
            # Later: whoever was interrupted in logging may wait for us.
            line = "there was no thread %s, its work had to wait: %s"
            callbacks.jobs.put(functools.partial(log.error, line, self._name, error))
            return False

    def _start(self) -> bool:
        """Start it, unless somebody else is about to: never wait, it may be a frame below our caller's."""
        if not self._starting.acquire(blocking=False):
            return True
        try:
            # Not alive: its start was interrupted (a signal), or failed.
            if self._thread is None or not self._thread.is_alive():
                thread = self._thread = threading.Thread(
                    target=self._work, args=(self.jobs,), name=self._name, daemon=True
                )
                thread.start()
        finally:
            self._starting.release()
        return True

    def run(self, job: Job) -> None:
        """Have *job* done soon; an exception from it is logged."""
        self.jobs.put(job)
        self.start()

    def _work(self, jobs: "queue.SimpleQueue[Job]") -> None:
        while jobs is self.jobs:  # a job may fork: then this is the child's only thread, and it ends
            job = jobs.get()
            try:
                job()
            except BaseException:  # noqa: B902  even SystemExit: the other callbacks need the thread
                log.exception("a job of the thread %s failed", self._name)
            del job  # or the last job, and what it holds, would live until the next one comes


#: Runs what users pass, and what may block (logging).
callbacks = Worker("gilmsg-callbacks")

#: Settles the futures that somebody looks at just then, and nothing else.
futures = Worker("gilmsg-futures")


#: The futures that a forked child would inherit.
_inherited: "weakref.WeakSet[CallbackFuture]" = weakref.WeakSet()


class CallbackFuture(Future[Any]):
    """A real Future. Its callbacks are queued: whoever sets the result cannot be blocked by one."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = Owner()
        _inherited.add(self)

    def add_done_callback(self, fn: Callable[["Future[Any]"], object]) -> None:
        """As for any Future, but *fn* runs on the callback thread, in the order of completion."""
        super().add_done_callback(lambda future: callbacks.run(lambda: fn(future)))

    def settle(self, result: Any, error: Optional[BaseException]) -> None:
        """Set the result, or the exception if there is one; at once, or very soon. Never blocks."""

        def decide() -> None:
            with self._condition:
                if self.done():  # its owner has set it, who may do as he likes
                    return
                if error is None:
                    self.set_result(result)
                else:
                    self.set_exception(error)

        if self._decided_here(decide):
            return
        if futures.start():
            futures.jobs.put(decide)
        else:  # no more threads: better here than never
            decide()

    def _decided_here(self, decide: Job) -> bool:
        """Decide on the calling thread if that waits for nobody; whether it did.

        Relied on of ``Future``: its lock is re-entrant; who waits by ``wait`` or ``as_completed``
        is in ``_waiters``, each with locks of its own; who waits by ``result`` is notified
        without any; and the callbacks are ours, which only queue.
        """
        if not self._condition.acquire(blocking=False):
            return False
        try:
            if self._waiters:
                return False
            decide()
            return True
        finally:
            self._condition.release()

    def result(self, timeout: Optional[float] = None) -> Any:
        """As for any Future; see :meth:`exception`."""
        try:
            return self._asked(super().result, timeout)
        finally:
            # What is raised holds this frame, and we hold what is raised: neither would be freed until
            # the garbage collector comes by. Future does the same in its own frames.
            del self

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """As for any Future; in a forked child, what was open at the fork is a ListenerError."""
        error: Optional[BaseException] = self._asked(super().exception, timeout)
        return error

    def _asked(self, ask: Callable[[float], Any], timeout: Optional[float]) -> Any:
        """Ask again and again: a signal handler may fork over the wait, and the child return to it."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while True:
                if not self._owner.is_here and not self.done():
                    raise self._owner.unknown_here()
                try:
                    return ask(max(0.0, min(_LOOK_AGAIN, until - time.monotonic())))
                except TimeoutError:
                    if self.done():
                        return ask(0)  # this moment; or it is what its owner has set
                    if time.monotonic() >= until:
                        raise
        finally:
            del self, ask  # as above

    def orphan(self) -> None:
        """Free it, in a forked child, of the threads that are not there.

        Relied on: the lock of a ``Future``'s condition is an RLock.
        """
        lock: Any = getattr(self._condition, "_lock")
        if not lock._is_owned():  # else by a frame below the handler that forked
            lock._at_fork_reinit()


def _after_fork() -> None:
    for worker in (callbacks, futures):
        worker.forget()
    for future in list(_inherited):
        future.orphan()


os.register_at_fork(after_in_child=_after_fork)
