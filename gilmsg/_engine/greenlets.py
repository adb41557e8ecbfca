"""Real threads and waits under a monkey patch of gevent's or eventlet's.

Under such a patch a thread is a greenlet, and one that waits in C stops all others. So real threads are started by
the function that was replaced, and everybody else waits, by the patched ``select``, at a pipe of its own. Names that
a patch may have replaced before this module is loaded hold from `look` on.
"""

from __future__ import annotations

import _socket
import _thread
import contextlib
import os
import select
import sys
import threading
import time
from _queue import SimpleQueue  # the patches put another in the place of queue's
from collections.abc import Sequence
from typing import Any, Callable

from ..errors import ConfigurationError, ListenerError

#: Whether threads are greenlets; the identity of the caller's real thread.
green, ident = False, _thread.get_ident

_start: Callable[..., Any]
_seen: Any = None


def _patch() -> tuple[str, Callable[..., Any], Callable[[], int]] | None:
    """Return who has patched threads, if anybody has, and what was replaced."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        select_too, name = gevent.is_module_patched("select"), "gevent.monkey"
        start, ident = gevent.get_original("_thread", ["start_new_thread", "get_ident"])
    elif eventlet is not None and eventlet.is_monkey_patched("thread"):
        select_too, name = eventlet.is_monkey_patched("select"), "eventlet.monkey_patch"
        start, ident = (getattr(eventlet.original("_thread"), one) for one in ("start_new_thread", "get_ident"))
    else:
        return None
    if not select_too:
        raise ConfigurationError(f"{name} has patched threads and not select: gilmsg would stop all greenlets; patch both")
    return name, start, ident


def look(in_use: bool) -> bool:
    """Find out whether threads are greenlets; return whether that has changed, which is refused while an engine is *in_use*."""
    global green, ident, _start, _seen
    if _seen is _thread.start_new_thread:
        return False
    found, before = _patch(), green
    if found is not None and in_use and not green:
        raise ConfigurationError(f"{found[0]} came after the first use of gilmsg, which would hang; patch first")
    green, _seen = found is not None, _thread.start_new_thread
    _, _start, ident = found or ("", _seen, _thread.get_ident)
    return green != before


def start(thread: threading.Thread) -> None:
    """Start *thread* as a real thread; under a patch it is never ``is_alive``."""
    if green:
        _start(thread.run, ())
    else:
        thread.start()


def held_lock() -> Any:
    """Return a lock that is held until the engine thread releases it."""
    if green:
        return _Pipe()
    lock = threading.Lock()
    lock.acquire()
    return lock


def jobs() -> Any:
    """Return a queue that one thread, or greenlet, empties."""
    return _Pipe() if green else SimpleQueue()


def poll(poller: Any, milliseconds: int) -> Any:
    """Return what the zmq Poller *poller* does."""
    found = poller.poll(0 if green else milliseconds)
    if green and not found:
        _wait([one if isinstance(one, int) else one.fileno() for one, _ in poller.sockets], milliseconds / 1000)
        found = poller.poll(0)
    return found


def _wait(descriptors: Sequence[int], seconds: float | None) -> bool:
    if not hasattr(select, "poll"):  # under eventlet
        return bool(select.select(descriptors, [], [], seconds)[0])
    poller = select.poll()  # gevent's select() knows no descriptor past 1023
    for one in descriptors:
        poller.register(one, select.POLLIN)
    return bool(poller.poll(seconds and seconds * 1000))


class _Pipe:
    """A held lock, or a queue. Its sockets are C-level ones: the patches replace Python's, and ``os.write``."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._pid = os.getpid()
        try:
            self._ends = _socket.socketpair()
        except OSError as error:
            raise ListenerError(f"there is no pipe to wait at: {error}; nothing was sent") from error
        for end in self._ends:
            end.setblocking(False)

    def __del__(self) -> None:
        for end in getattr(self, "_ends", ()):
            end.close()

    def acquire(self, timeout: float | None = None) -> bool:
        return _wait([self._ends[0].fileno()], timeout)

    def release(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway
            self._ends[1].send(b".")

    def put(self, job: Callable[[], Any]) -> None:
        self._jobs.put(job)
        self.release()

    def get(self) -> Callable[[], Any]:
        while self._jobs.empty():
            self.acquire()
            while os.getpid() != self._pid:  # greenlets go on in a forked child: this one must leave the parent's bytes
                time.sleep(60)
            with contextlib.suppress(BlockingIOError):
                self._ends[0].recv(4096)
        return self._jobs.get()
