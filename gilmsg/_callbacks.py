"""A Future whose callbacks run on a thread of their own, never on the listener's."""

import logging
import os
import queue
import threading
from concurrent.futures import Future
from typing import Any, Callable, Optional, TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_lock = threading.Lock()
_thread: Optional[threading.Thread] = None
_jobs: "queue.SimpleQueue[Callable[[], Any]]" = queue.SimpleQueue()


class CallbackFuture(Future):  # type: ignore[type-arg]  # generic only from Python 3.9 on, at runtime
    """A real Future. Its callbacks are queued: whoever sets the result cannot be blocked by one."""

    def add_done_callback(self, fn: Callable[["Future[Any]"], object]) -> None:
        """As for any Future, but *fn* runs on the callback thread, in the order of completion."""
        super().add_done_callback(lambda future: run(lambda: fn(future)))


def run(job: Callable[[], Any]) -> None:
    """Run *job* soon, on the callback thread; an exception from it is logged."""
    _jobs.put(job)
    _start()


def _start() -> None:
    """Start the thread if there is none. It stays, asleep, for the life of the process."""
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_work, name="gilmsg-callbacks", daemon=True)
            _thread.start()


def _work() -> None:
    while True:
        job = _jobs.get()
        try:
            job()
        except Exception:
            log.exception("a callback of publish_async failed")
        del job  # or the last job, and what it holds, would live until the next one comes


def _after_fork() -> None:
    """A thread does not survive a fork; nor do jobs of the parent concern the child."""
    global _lock, _thread, _jobs
    _lock, _thread, _jobs = threading.Lock(), None, queue.SimpleQueue()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
