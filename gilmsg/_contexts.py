"""zmq contexts, each opened whole or not at all, and ended whole."""

import os
import signal
import threading
from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Optional, Type

import zmq

from . import _descriptors, _reentry
from ._uninterrupted import uninterrupted
from .errors import ConfigurationError

#: Held from the look at what is left of descriptors until they are taken. By threads that run no signal
#: handler only, and that `_uninterrupted.runs_here` tells: what a handler, or a ``__del__`` that the garbage
#: collector runs, waits for on such a thread may be waiting for it.
_opening = threading.RLock()


def idle(config: Mapping[str, Any]) -> "zmq.Context[zmq.Socket[bytes]]":
    """Return a context for no sockets; it takes one descriptor, and is given back when it is dropped.

    One that an interrupt leaves half made would keep that for ever.

    Raises:
        ConfigurationError: the process has too many open files.
    """
    return uninterrupted(lambda: _made(zmq.Context, _io_threads(config)))


def new(config: Mapping[str, Any], sockets: Optional[int] = None) -> "zmq.Context[zmq.Socket[bytes]]":
    """Return a context whose threads run, for as many *sockets*, or libzmq's 1,023; dropped, it is terminated.

    Raises:
        ConfigurationError: the process has too many open files.
    """
    _reentry.refuse(_opening)  # in a __del__ that the garbage collector runs in there
    return uninterrupted(lambda: open_here(_io_threads(config), sockets))


def open_here(io_threads: int = 1, sockets: Optional[int] = None) -> "zmq.Context[zmq.Socket[bytes]]":
    """Do what `new` does, on a thread that no signal handler can interrupt.

    A context takes most of its descriptors with its first socket. Where the first of them can be opened and a
    later one cannot, libzmq aborts the process ("src/epoll.cpp:38"); so one is made and closed while no other
    context can take what we counted. For later sockets a lack of descriptors is an error.
    """
    with _opening:
        _descriptors.require_context(io_threads)
        context = _made(_Started, io_threads)
        if sockets is not None:
            context.set(zmq.MAX_SOCKETS, sockets)
        try:
            context.socket(zmq.PAIR).close(linger=0)
        except zmq.ZMQError as error:
            terminate(context)
            raise _too_many(error) from error
        return context


def terminate(context: "zmq.Context[zmq.Socket[bytes]]") -> None:
    """Close what is left of *context*, sockets included, and end its threads; idempotent."""
    with _no_signals():
        if not context.closed:
            context.destroy(linger=0)


class _Started(zmq.Context["zmq.Socket[bytes]"]):
    """A context whose threads end when it is dropped: by an interrupt, on whatever thread."""

    def __del__(self) -> None:
        with _no_signals():
            super().__del__()


@contextmanager
def _no_signals() -> Iterator[None]:
    """Let signals wait: one that interrupts libzmq at the end of a context makes it leave its threads behind.

    The calling thread may get one though Python's handlers run on another.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _io_threads(config: Mapping[str, Any]) -> int:
    return int(config.get("io_threads") or 1)


def _made(kind: "Type[zmq.Context[zmq.Socket[bytes]]]", io_threads: int) -> "zmq.Context[zmq.Socket[bytes]]":
    try:
        return kind(io_threads)
    except zmq.ZMQError as error:
        raise _too_many(error) from error


def _too_many(error: zmq.ZMQError) -> ConfigurationError:
    return ConfigurationError("no ZeroMQ context can be opened: %s (too many open files? ulimit -n)" % error)


def _begin_anew() -> None:
    global _opening
    _opening = threading.RLock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_begin_anew)
