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

Modules: ``loop`` is the thread, ``operations`` what callers hand over, ``ends`` the sockets, ``connections``
whom they are connected to, ``sockets`` and ``descriptors`` what libzmq and the kernel want to be told,
``waiting`` how callers wait.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, TypeVar

from .. import _protocol as protocol
from ..errors import ConfigurationError, EndpointError, ListenerError
from . import descriptors, sockets
from .descriptors import claim, listening_ports, new_context, require_files
from .ends import Address, Ear, Out
from .loop import Engine
from .operations import Acknowledgement, Book, Forget, Held, Message, Plain, Presence
from .sockets import Names, beat, numeric, parts, tune, watch_limited
from .waiting import CallbackFuture, Outcome, Owner, RateLimitedLog, callbacks, futures

__all__ = [
    "Address", "CallbackFuture", "Gone", "Message", "Names", "Outcome", "Owner", "Port", "RateLimitedLog", "beat",
    "callbacks", "claim", "destroy", "futures", "listening_ports", "new_context", "numeric", "parts", "publisher",
    "replaced", "require_files", "running", "sockets", "tune", "watch_limited",
]  # fmt: skip

T = TypeVar("T")

#: Seconds that a port which a socket of this very process is giving up is waited for: libzmq gives it back late.
_PATIENCE = 2.0
_TRY_AGAIN = 0.01

#: Seconds for which an operation without a time of its own may be held: an ACK, or behind a message that is.
_LONGEST_HOLD = 60.0

#: Open files of the listener for each endpoint: to hear it by, and for the consumer there, which connects to us.
_FILES_EACH, _FILES_WISHED = 1, 2

_engine: Engine | None = None

#: Held while an engine is started, by the thread ``_starter``.
_starting = threading.Lock()
_starter: int | None = None

#: Whether the interpreter is ending.
_left = False


class Gone(ListenerError):
    """The engine or the socket of this handle has ended; nothing was sent: take another handle, and try again."""


class Port:
    """One caller's handle of a publishing socket, a listener, or both. Thread-safe.

    Attributes:
        address: of the publishing socket; None if this handle only listens.
        endpoint (str): where the publishing socket is bound, or the relay that it is connected to.
        origin (str): the origin of the listener that awaits the ACKs; empty without one.
        born (float): since when both are open, on the monotonic clock.
        shared, shared_listener (bool): whether the socket, the listener was open already.
    """

    def __init__(self, engine: Engine, out: Out | None, ear: Ear | None, book: Book | None) -> None:
        self._engine, self._out, self._ear, self._book = engine, out, ear, book
        self.address = out.address if out is not None else None
        self.endpoint = out.endpoint if out is not None else ""
        self.origin = ear.origin if ear is not None else ""
        self.born = max(end.born for end in (out, ear) if end is not None)
        self.shared = self.shared_listener = False
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether it can be used: neither it nor the engine has ended, and this is no forked child."""
        return self._engine.alive and not self._closed

    @property
    def age(self) -> float:
        """Seconds since the publishing socket was opened."""
        return time.monotonic() - (self._out.born if self._out is not None else self.born)

    def way(self, topic: str | None, told: str = "this topic") -> protocol.Way:
        """Return the evidence for messages on *topic*. It is live: touch it within :meth:`look` only."""
        out, ear, book = self._out, self._ear, self._book
        via_relay = out is not None and out.address.active
        ack_topic = ear.ack_topic if ear is not None else ""
        route = protocol.Route(topic, self.endpoint, via_relay, ack_topic, told)

        def endpoints(common_name: str) -> Sequence[str]:
            return book.of(common_name, via_relay) if book is not None else ()

        def linked(common_name: str) -> bool | None:
            known = endpoints(common_name)
            if not known:
                return None
            return ear is not None and any(map(ear.connections.links.up, known))

        def unresolved(common_name: str) -> Sequence[str]:
            return [one for one in endpoints(common_name) if ear is not None and ear.connections.unresolved(one)]

        return protocol.Way(route, out.peers if out is not None else protocol.Peers(), linked, endpoints, unresolved)

    def publish(self, message: Message) -> None:
        """Hand *message* over; its outcome tells the end.

        Raises:
            Gone: nothing was sent.
        """
        self._require()
        self._engine.put(message)

    def message(self, head_start: float, **entry: Any) -> Message:
        """Return a message that leaves when its recipients are present, at *head_start* s of our age at the latest."""
        assert self._out is not None
        assert self._ear is not None
        return Message(self._out, self._ear, self.born + head_start, **entry)

    def forget(self, message: Message) -> None:
        """Have *message* not leave, if it has not, and nobody wait for its ACKs."""
        message.abandoned = True
        if self._engine.alive:
            self._engine.put(Forget(message))

    def plain(self, parts: Sequence[bytes]) -> None:
        """Send a message that nobody confirms; return when it was given to the socket.

        Raises:
            ListenerError: it was not sent.
        """
        self._held(Plain(self._sending(), parts))

    def acknowledge(self, parts: Sequence[bytes], origin: str | None) -> None:
        """Send an ACK to the listener *origin*; return when it was given to the socket.

        Raises:
            ListenerError: it was not sent.
        """
        self._held(Acknowledgement(self._sending(), parts, origin))

    def present(self, recipients: Sequence[str], way: protocol.Way, until: float) -> None:
        """Return when all *recipients* (of a group, one member) are present, at the latest at *until* (monotonic).

        Raises:
            ListenerError: the engine has ended.
        """
        if time.monotonic() < until:
            self._held(Presence(self._sending(), recipients, way, until))

    def look(self, job: Callable[[], T]) -> T:
        """Return what *job* returns, called on the engine thread: a brief and pure look at a way.

        Raises:
            ListenerError: the engine has ended.
        """
        self._require()
        return self._engine.ask(job)

    def result_of(self, outcome: Outcome[T], seconds: float) -> T:
        """Return the result of *outcome*, which is due within *seconds*, or raise its error.

        Raises:
            ListenerError: the engine does not keep its deadlines; the next call starts another.
        """
        return self._engine.result_of(outcome, seconds)

    def close(self) -> None:
        """Give up this handle; the last one of a socket, or of a listener, closes that. Idempotent."""
        if self._closed or not self._engine.alive:
            return
        self._closed = True
        engine, out, ear = self._engine, self._out, self._ear

        def leave() -> None:
            if out is not None:
                out.users.discard(self)
                if not out.users:
                    engine.close_out(out)
            if ear is not None:
                ear.users.discard(self)
                if not ear.users:
                    engine.close_ear(ear)

        with contextlib.suppress(ListenerError):
            engine.ask(leave)

    def _sending(self) -> Out:
        self._require()
        if self._out is None:
            raise ConfigurationError("this handle only listens")
        return self._out

    def _require(self) -> None:
        if not self._engine.owner.is_here:
            raise self._engine.owner.unknown_here()
        _refuse_on_engine_thread(self._engine)
        if not self.alive:
            raise Gone("the publisher is closed, by destroy() for example; nothing was sent")

    def _held(self, operation: Held) -> None:
        self._engine.put(operation)
        try:
            self._engine.result_of(operation.outcome, max(_LONGEST_HOLD, operation.until - time.monotonic()))
        except BaseException:
            operation.abandoned = True
            raise


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
    engine = _running_engine(config)

    def opened(only: str) -> Port:
        out, out_shared = engine.open_out(address, config, only) if address is not None else (None, False)
        try:
            ear, ear_shared = engine.open_ear(book, config) if book is not None else (None, False)
        except BaseException:
            if out is not None and not out.users:
                engine.close_out(out)
            raise
        port = Port(engine, out, ear, book)
        port.shared, port.shared_listener = out_shared, ear_shared
        for end in (out, ear):
            if end is not None:
                end.users.add(port)
        return port

    if preferred:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            try:
                return engine.ask(lambda: opened(preferred))
            except EndpointError:
                time.sleep(_TRY_AGAIN)
    return engine.ask(lambda: opened(""))


def running() -> bool:
    """Return whether this process has an engine."""
    return _engine is not None and _engine.alive


def destroy() -> None:
    """End the engine of this process: its waiters get a ListenerError, ports are free. The next call starts another.

    Raises:
        ConfigurationError: the caller is the engine thread.
    """
    global _engine
    engine = _engine
    if engine is not None and engine.owner.is_here:
        _refuse_on_engine_thread(engine)
        engine.stop()
        if _engine is engine:
            _engine = None


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
    global _engine, _starter
    engine = _engine
    if engine is not None and engine.alive:
        _refuse_on_engine_thread(engine)
        return engine
    if _left:
        raise ListenerError("the interpreter is ending, and the publisher with it; nothing was sent")
    if _starter == threading.get_ident():
        raise ListenerError("a signal handler published while its own thread started the publisher; nothing was sent")
    with _starting:
        _starter = threading.get_ident()
        try:
            if _engine is None or not _engine.alive:
                engine = Engine(config)
                engine.start()
                _engine = engine
            return _engine
        finally:
            _starter = None


def _refuse_on_engine_thread(engine: Engine) -> None:
    if engine.runs_here:
        raise ConfigurationError(
            "publish() with recipients was called on the ACK listener's own thread, by a logging "
            "handler, a __del__ or a weakref callback; do it on a thread of its own"
        )


def _after_fork() -> None:
    global _engine, _starting, _starter
    engine, _engine = _engine, None
    _starting, _starter = threading.Lock(), None
    descriptors.close_inherited()
    if engine is not None:
        engine.orphan()
        descriptors.keep(engine)
    for worker in (callbacks, futures):
        worker.forget()


def _leave() -> None:
    global _left
    _left = True
    destroy()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_leave)
