"""Outcomes that callers wait for, futures, and the threads that settle futures and run callbacks."""

from __future__ import annotations

import collections
import concurrent.futures
import logging
import os
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any, Callable, Generic, Protocol, TypeVar

from ..errors import ListenerError
from . import greenlets

T = TypeVar("T")

Job = Callable[[], Any]

log = logging.getLogger("gilmsg.listener")

#: Seconds after which a thread that waits looks whether this is still its process.
_LOOK_AGAIN = 1.0

_UNKNOWN_HERE = "the message was published by process %d before it forked; only there its outcome becomes known"


def refuse_in_child_of(pid: int, told: str) -> None:
    """Raise ListenerError in a process that was forked from *pid*: it must not use what it inherits."""
    if os.getpid() != pid:
        raise ListenerError(told % pid)


class Settled(Protocol):
    """Whatever is told the end of a message; the engine thread calls it, so it must not block."""

    def settle(self, result: Any, error: BaseException | None) -> None: ...


class Outcome(Generic[T]):
    """The end of one operation, settled once by the engine thread and waited for by one caller.

    It is a bare lock, or a pipe: the engine thread never waits for the caller, in whatever state a signal
    handler finds the caller.
    """

    __slots__ = ("_error", "_pid", "_result", "_unsettled")

    def __init__(self) -> None:
        self._result: T | None = None
        self._error: BaseException | None = None
        self._pid = os.getpid()
        self._unsettled = greenlets.held_lock()

    def settle(self, result: T | None, error: BaseException | None) -> None:
        """Set the result, or the exception if there is one; never blocks. Call it once."""
        self._result, self._error = result, error
        self._unsettled.release()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; return whether it is settled. In a forked child this is a ListenerError."""
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            if self._unsettled.acquire(timeout=max(0.0, min(left, _LOOK_AGAIN))):
                return True
            refuse_in_child_of(self._pid, _UNKNOWN_HERE)
            if left <= 0:
                return False

    def take(self) -> T:
        """Return the result or raise the exception; only once it is settled."""
        error, self._error = self._error, None
        if error is None:
            return self._result  # type: ignore[return-value]  # None is a result, too
        try:
            raise error
        finally:
            del error  # its traceback holds this frame: neither would be freed before the next garbage collection


class Worker:
    """A daemon thread that does one job after the other. It starts with the first job, and stays, asleep."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.forget()

    def forget(self) -> None:
        """Begin anew in a forked child: the thread is not there, and the parent's jobs do not concern it."""
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: Any = greenlets.jobs()

    def run(self, job: Job) -> None:
        """Have *job* done soon; an exception from it is logged."""
        runs = self._thread is not None and self._thread.is_alive()  # looked at first: a last job forgets its thread
        self._jobs.put(job)
        # As the interpreter ends, a thread that is started never runs, and its start would wait for that.
        if not runs and not greenlets.green and not sys.is_finalizing():
            try:
                self.require()
            except ListenerError as error:  # the next job tries again
                told = "there was no thread %s, its work had to wait: %s", self._name, error.__cause__
                callbacks._jobs.put(lambda: log.error(*told))

    def require(self) -> None:
        """Start the thread, if there is none; raise ListenerError if it cannot start."""
        if not self._starting.acquire(blocking=False):
            return  # another thread, or a frame below this one, starts it
        try:
            if self._thread is None or not self._thread.is_alive():
                # Noted first: a signal handler may raise when it runs. Until it does, it is not alive.
                self._thread = threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True)
                self._thread.start()
        except RuntimeError as error:
            raise ListenerError(f"there is no thread {self._name}: {error}; nothing was sent") from error
        finally:
            self._starting.release()

    def finish(self, until: float) -> None:
        """Return when what was queued is done, at *until* (monotonic) at the latest; for the interpreter's end."""
        if self._thread is not None and self._thread.is_alive():
            done = threading.Event()
            self._jobs.put(done.set)
            done.wait(max(0.0, until - time.monotonic()))

    def _work(self, jobs: Any) -> None:
        while jobs is self._jobs:  # a job may fork: then this is the child's only thread, and it ends
            job = jobs.get()
            try:
                job()
            except BaseException:
                log.exception("a callback on the thread %s failed", self._name)
            del job  # or the last job, and what it holds, would live until the next one comes


#: Runs the callbacks that users pass, and whatever may block: log lines.
callbacks = Worker("gilmsg-callbacks")

#: Settles futures, which takes locks that a user's thread may hold for a moment.
futures = Worker("gilmsg-futures")


class CallbackFuture(Future[Any]):
    """A Future whose callbacks run on the callback thread, one after the other, in the order of completion.

    *tell* is called with its exception before that is set, on the thread of ``futures``.
    """

    def __init__(self, tell: Callable[[BaseException], None] = lambda error: None) -> None:
        super().__init__()
        self.tell = tell
        self._pid = os.getpid()
        self.set_running_or_notify_cancel()

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """As for any Future, but *fn* runs on the callback thread."""
        super().add_done_callback(lambda future: callbacks.run(lambda: fn(future)))

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Have the result set, or the exception if there is one, on the thread of ``futures``; never blocks."""
        _ended.append((self, result, error))
        futures.run(_settle_all)  # each time: of two threads that settle at once, each may take the other for the first

    def result(self, timeout: float | None = None) -> Any:
        """As for any Future; in a forked child, what was open at the fork is a ListenerError."""
        try:
            return self._asked(super().result, timeout)
        finally:
            del self  # what is raised holds this frame, and the future holds what is raised

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As for any Future; in a forked child, what was open at the fork is a ListenerError."""
        return self._asked(super().exception, timeout)  # type: ignore[no-any-return]

    def _asked(self, ask: Callable[[float], Any], timeout: float | None) -> Any:
        """Ask again and again: a signal handler may fork over the wait, and the child return to it."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        try:
            while True:
                if not self.done():
                    refuse_in_child_of(self._pid, _UNKNOWN_HERE)
                try:
                    return ask(max(0.0, min(_LOOK_AGAIN, until - time.monotonic())))
                except concurrent.futures.TimeoutError:
                    if self.done():
                        return ask(0)  # this moment; or its end is a Timeout, which is one
                    if time.monotonic() >= until:
                        raise
        finally:
            del self, ask  # as in result()


#: Prepares and signs what is published under asyncio; a hook, or a store, may block it.
signing = Worker("gilmsg-signing")

#: Seconds after which futures that somebody looks at just now are tried again.
_TRY_AGAIN = 0.001

#: Futures with their ends, which the thread of ``futures`` is to set.
_ended: collections.deque[tuple[CallbackFuture, Any, BaseException | None]] = collections.deque()


def _settle_all() -> None:
    tried = 0
    while _ended:
        future, result, error = _ended.popleft()
        if not future._condition.acquire(blocking=False):
            # Whoever looks at it may lie below a signal handler that waits for another future: this one comes later.
            _ended.append((future, result, error))
            tried += 1
            time.sleep(0 if tried % len(_ended) else _TRY_AGAIN)
            continue
        try:
            if error is None:
                future.set_result(result)
            else:
                future.tell(error)
                future.set_exception(error)
        finally:
            future._condition.release()


def forget() -> None:
    """Forget, in a forked child, the parent's threads and what they were to do."""
    _ended.clear()
    for worker in (callbacks, futures, signing):
        worker.forget()


class Reports:
    """News for one owner, told on the thread of ``futures``, in batches: *tell* is called with a list, and must not block."""

    def __init__(self, tell: Callable[[list[Any]], None]) -> None:
        self._tell = tell
        self._news: collections.deque[Any] = collections.deque()

    def put(self, news: Any) -> None:
        """Have *news* told soon; never blocks."""
        self._news.append(news)
        futures.run(self._tell_all)  # each time: one that is being told may be told without this

    def _tell_all(self) -> None:
        batch = [self._news.popleft() for _ in range(len(self._news))]
        if batch:
            self._tell(batch)


class RateLimitedLog:
    """Lines that somebody else on the bus can cause: one in *interval* seconds, which counts those left out.

    After a while without any, *burst* of them may come at a time.

    They are written on the callback thread, for logging may block. Not thread-safe: at worst
    a line too many, or a count that is off.
    """

    def __init__(self, log: logging.Logger, interval: float = 1.0, burst: int = 1) -> None:
        self._log, self._interval, self._spare = log, interval, (burst - 1) * interval
        self._next, self._left_out = 0.0, 0

    def warning(self, text: str, *arguments: Any) -> None:
        """Write a line, or count it."""
        self._line(logging.WARNING, text, *arguments)

    def info(self, text: str, *arguments: Any) -> None:
        """Write a line of level INFO, or count it; do nothing where such lines are not wanted."""
        if self._log.getEffectiveLevel() <= logging.INFO:  # isEnabledFor would take a lock
            self._line(logging.INFO, text, *arguments)

    def _line(self, level: int, text: str, *arguments: Any) -> None:
        now = time.monotonic()
        if now < self._next - self._spare:
            self._left_out += 1
            return
        self._next = max(now, self._next) + self._interval
        if self._left_out:
            text += f" (and {self._left_out} more like it in the meantime)"
            self._left_out = 0
        callbacks.run(lambda: self._log.log(level, text, *arguments))
