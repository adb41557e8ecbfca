"""The engine: one thread per process that owns every zmq socket of publishers and ACKs.

Theory of operation
-------------------
A caller never touches a socket, and holds no lock that anybody waits for. It puts an operation on a queue,
wakes the engine thread with a byte, and waits on a bare lock of its own, with a deadline of its own (or it
gets a Future). The engine thread takes operations and frames, in batches, so that a flood of either
delays no deadline; it lets ``_protocol`` decide, and acts: it sends, it settles, it arms the next deadline. It
runs no user code, writes no log line itself, resolves no host name, and waits for nothing but its poll. Hence
a signal handler may publish in the middle of a publish, and any number of threads may publish at a time.

- *Ready or raise.* The first caller starts the engine, and goes on when its thread runs. One engine per pid: a
  forked child finds that the pid differs, and starts its own.
- *Order.* What one thread hands over under one name leaves in that order. A message that waits for its head
  start holds back those of its thread, and of no other.
- *Nothing from the bus ends it.* A bad frame is counted and dropped, a connection that libzmq gave up for good is
  made anew (``connections``). Should the thread die all the same, every waiter gets a ListenerError at once, with
  the cause chained, and the next call starts a new engine.
- *The end.* ``destroy()``, and the interpreter's exit, end the engine: what is held for its head start leaves at
  once, sockets linger for half a second at most, waiters get a ListenerError, ports are free.
- *Fork.* One hook closes the inherited TCP descriptors in the child and forgets the parent's engine.

Modules: ``port`` is a caller's handle, ``operations`` what callers hand over, ``loop`` the thread, ``ends`` its
sockets, ``connections`` whom these are connected to, ``sockets`` and ``descriptors`` what libzmq and the
kernel want to be told, ``waiting`` how callers wait, ``greenlets`` how under gevent or eventlet, ``counting`` what
is counted for ``gilmsg.metrics``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import EndpointError, ListenerError
from . import counting, descriptors, greenlets, sockets, waiting
from .connections import Connections
from .descriptors import claim, listening_ports, listening_process, new_context, require_files
from .ends import Address
from .greenlets import poll
from .loop import Engine
from .operations import Ask, Book, Message, Plain
from .port import Gone, Port
from .sockets import Names
from .waiting import CallbackFuture, Outcome, RateLimitedLog, Reports, Settled, Worker, callbacks, futures, signing

__all__ = [
    "Address", "CallbackFuture", "Connections", "Gone", "Message", "Names", "Outcome", "Plain", "Port", "RateLimitedLog",
    "Reports", "Settled", "Worker", "callbacks", "claim", "counting", "destroy", "futures", "grow_old", "leave", "listening_ports",
    "listening_process", "new_context", "poll", "prepare", "publisher", "replaced", "require_files", "running", "sight", "signing",
    "sockets",
]  # fmt: skip

#: Seconds that a port which a socket of this very process is giving up is waited for: libzmq gives it back late.
_PATIENCE = 2.0
_TRY_AGAIN = 0.01

#: Seconds that the interpreter's end waits for log lines and callbacks.
_LAST_WORDS = 0.5

#: Open files of the listener for each endpoint: to hear it by, and for the consumer there, which connects to us.
_FILES_EACH, _FILES_WISHED = 1, 2

log = logging.getLogger("gilmsg.listener")

_engine: Engine | None = None

#: Held while an engine is started; ``_began`` tells a signal handler that its own thread does that.
_starting = threading.RLock()
_began = False

#: Seconds that a look which is good for the moment only may take: nothing is given up for want of it.
_GLANCE = 1.0

#: Whether the interpreter is ending.
_left = False


def publisher(address: Address | None, book: Book | None, config: Mapping[str, Any], preferred: str = "") -> Port:
    """Return a handle of the publishing socket of *address* and the listener of the bus of *book*.

    What is not open is opened, with the socket settings of *config*; *preferred* is tried before all other endpoints.

    Raises:
        EndpointError: no declared port is free.
        ConfigurationError: an endpoint cannot be used, too many open files, or the caller is the engine thread.
        ListenerError: the engine cannot start, or has ended meanwhile.
    """
    if book is not None:
        require_files(sum(map(len, book.publishing.values())), _FILES_EACH, _FILES_WISHED)
    until = time.monotonic() + _PATIENCE
    while True:
        engine, only = _running_engine(config), preferred if time.monotonic() < until else ""
        try:
            return engine.ask(lambda engine=engine, only=only: _opened(engine, address, book, config, only))  # type: ignore[misc]
        except EndpointError:
            if not only:
                raise
            time.sleep(_TRY_AGAIN)
        except ListenerError:  # it ended meanwhile: by destroy(), or for want of users
            if not engine.stopping or time.monotonic() > until:
                raise


def _opened(engine: Engine, address: Address | None, book: Book | None, config: Mapping[str, Any], only: str) -> Port:
    out, shared = None, False
    try:
        if address is not None:
            out, shared = engine.out(address, config, only)
        return Port(engine, book, (out, shared), engine.ear(book, config) if book is not None else (None, False))
    except BaseException:
        engine.close_unused(out)
        raise


def prepare() -> None:
    """Take note of a monkey patch, before anybody waits; ConfigurationError where it came too late, or is half of one."""
    if greenlets.look(running()):
        waiting.forget()
    if greenlets.green:  # the engine thread cannot start them
        futures.require()
        callbacks.require()


def running() -> bool:
    """Return whether this process has an engine."""
    return _engine is not None and _engine.alive


def sight() -> counting.Sight | None:
    """Return what the engine sees now; None if its thread is too busy to tell."""
    engine = _engine
    if engine is None or not engine.alive:
        return counting.Sight(0, {})
    asked = Ask(engine.sight)
    try:
        engine.put(asked)
        return asked.outcome.take() if asked.outcome.wait(_GLANCE) else None
    except ListenerError:  # it ended just now
        return counting.Sight(0, {})


def destroy() -> None:
    """End the engine of this process: its waiters get a ListenerError, ports are free. The next call starts another.

    Raises:
        ConfigurationError: the caller is the engine thread.
    """
    global _engine
    engine = _engine
    if engine is not None:
        engine.refuse_own_thread()
        engine.stop()
        log.info("ended: nothing is published, acknowledged or awaited any more")
        if _engine is engine:
            _engine = None


def grow_old() -> None:
    """Let what is open pass for old, for tests: no message waits for its head start there."""
    if _engine is not None:
        _engine.ask(_engine.grow_old)


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """Put another engine in place for a while, for tests; it starts with the first call, and is ended."""
    global _engine
    former, _engine = _engine, None
    try:
        yield
    finally:
        destroy()
        _engine = former


def _running_engine(config: Mapping[str, Any]) -> Engine:
    """Return the engine of this process, started if there is none."""
    global _engine, _began
    engine = _engine
    if engine is not None and engine.alive:
        engine.refuse_own_thread()
        return engine
    if _left:
        raise ListenerError("the interpreter is ending, and the publisher with it; nothing was sent")
    prepare()
    with _starting:
        if _began:
            raise ListenerError("a signal handler published while its own thread started the publisher; nothing was sent")
        _began = True
        try:
            engine = _engine  # destroy(), in another thread, may forget it at any moment
            if engine is None or not engine.alive:
                if engine is not None:
                    engine.refuse_own_thread()
                    engine.stop()  # until then it has its ports
                    counting.restarted(engine.failed)
                engine = Engine(config)
                try:
                    engine.start()
                    _engine = engine
                except BaseException:  # or its thread would stay, and nobody know of it
                    engine.give_up("was interrupted while it started")
                    raise
            return engine
        finally:
            _began = False


def _after_fork() -> None:
    global _engine, _starting, _began
    descriptors.close_inherited(_engine)
    waiting.forget()
    counting.begin_anew()
    if _engine is not None:
        _engine.forget()
    _engine, _starting, _began = None, threading.RLock(), False


def leave() -> None:
    """End the engine for good, for the interpreter ends: what is held leaves, and a NACK that is due, and nothing after it.

    What futures, callbacks and the log are still to be told they are told, unless one of them blocks.
    """
    global _left
    _left = True
    callbacks.finish(time.monotonic() + _LAST_WORDS)  # first, for a NACK leaves by the engine
    destroy()
    until = time.monotonic() + _LAST_WORDS
    for worker in futures, callbacks:  # in this order: the first may give the second work
        worker.finish(until)


os.register_at_fork(after_in_child=_after_fork)
