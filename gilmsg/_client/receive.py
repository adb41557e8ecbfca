"""Receive and acknowledge in a loop: the sockets of a tail, and when its ACKs leave.

A tail has one SUB socket for each endpoint, because its caller is told the endpoint of each message. The sockets
live in a zmq context of their own, so that closing the tail frees them all, and so that there may be more than
libzmq's 1,023 of them. They belong to the thread that runs the generator; the ACKs leave through the engine.
"""

from __future__ import annotations

import _socket
import contextlib
import functools
import logging
import os
import signal
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, Callable

import zmq
from fedmsg.replay import check_for_replay

from .. import _engine, _protocol, _settings, _trust
from .._engine import sockets
from ..errors import BadFrame, ConfigurationError
from . import context as _context
from .acknowledge import Acknowledger, can_acknowledge

Item = tuple[str, str, str, dict[str, Any]]

#: Called with envelope, message, and whether an ACK is due, before that leaves; returns whether it may.
Asked = Callable[[str, dict[str, Any], bool], bool]

log = logging.getLogger("gilmsg.receive")

#: Milliseconds between looks for a signal: a blocking receive can miss one.
_POLL_LIMIT = 1000

#: Of each socket: its mailbox, its connection, an attempt to reconnect.
_DESCRIPTORS_EACH = 3


class Subscribers:
    """The sockets of one tail, one for each endpoint, and whom they are connected to; for one thread at a time.

    Attributes:
        context: of the sockets; None unless they are open.
        interrupted: whether :meth:`interrupt` was called; whoever waits takes that back.
    """

    def __init__(self, config: Mapping[str, Any], topics: Sequence[bytes], passive: bool) -> None:
        self._config, self._topics, self._passive, self._pid = config, topics, passive, os.getpid()
        #: Each socket, and the name and endpoint that messages from it have.
        self._sources: dict[Any, tuple[str, str]] = {}
        self.context: Any = None
        self.interrupted = False
        #: Readable when a host name has been looked up, or somebody interrupts the wait; and the other end.
        self._woken: Any = None
        self._wake: Any = None
        self._poller = zmq.Poller()

    def open(self) -> None:
        """Open and connect them; call :meth:`close` whatever comes of it."""
        targets = _settings.publishing_endpoints(self._config)
        number = sum(map(len, targets.values()))
        _engine.require_files(number, _DESCRIPTORS_EACH)
        self.context = _engine.new_context(self._config, max(1023, number + 16))
        self._woken, self._wake = _socket.socketpair()  # the C function: programs put others in the place of Python's
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        for name, several in targets.items():
            for endpoint in several:
                self._sources[self._subscriber(name, endpoint)] = name, endpoint
        self._names = _engine.Names(functools.partial(_write, self._wake))
        connecting = [] if self._passive else [(endpoint, one) for one, (_, endpoint) in self._sources.items()]
        self._connections = _engine.Connections(connecting, self._names)
        for readable in [self._woken.fileno(), *self._sources]:
            self._poller.register(readable, zmq.POLLIN)

    def wait(self, wanted: Callable[[], bool]) -> Iterator[tuple[list[bytes], str, str]]:
        """Yield frames, name and endpoint of each message that is there and *wanted*; end in a second, or when interrupted."""
        self._connections.tick(time.monotonic())
        for readable, _ in _engine.poll(self._poller, _POLL_LIMIT):
            if readable not in self._sources:
                self._woken.recv(4096)
                for host, addresses in self._names.answers():
                    self._connections.answer(host, addresses)
            elif not self.interrupted and wanted():  # else it stays where it is
                yield readable.recv_multipart(), *self._sources[readable]

    def interrupt(self) -> None:
        """Have :meth:`wait` end, and take no message. For any thread; never blocks."""
        self.interrupted = True  # first: who is woken looks at it
        if self._wake is not None:
            _write(self._wake)

    def close(self) -> None:
        """Close them all; not those of a parent process. Idempotent."""
        for end in (self._woken, self._wake):
            if end is not None:
                end.close()
        if self.context is not None and self._pid == os.getpid():
            # The context knows its sockets by weak references, which a garbage collection that ends a generator has
            # cleared: the context would wait for them for ever.
            for subscriber in self._sources:
                subscriber.close(linger=0)
            _terminate(self.context)

    def _subscriber(self, name: str, endpoint: str) -> zmq.Socket[bytes]:
        """Return a subscribed socket, bound where we are passive, else still to be connected."""
        try:
            subscriber: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
            sockets.tune(subscriber, self._config)
            sockets.watch_limited(subscriber)
            for topic in self._topics:
                subscriber.setsockopt(zmq.SUBSCRIBE, topic)
            if self._passive:
                _engine.claim(self, sockets.port(endpoint))
                subscriber.bind(endpoint)
        except zmq.ZMQError as error:
            raise ConfigurationError(f"endpoints[{name!r}]: {endpoint!r} cannot be used: {error}") from error
        except BaseException as error:
            # A socket that an interrupt leaves half made is known to the frames that made it, and to nobody who could
            # close it: the context would wait for it for ever.
            traceback.clear_frames(error.__traceback__)
            raise
        return subscriber


class Tail:
    """The state of one iteration; *asked* sees every message before its ACK leaves, and may withhold that."""

    def __init__(
        self, context: Any, topic: str = "", passive: bool = False, asked: Asked = lambda *_: True, after: bool = False
    ) -> None:
        try:
            topics = [topic.encode("utf-8")]
        except (AttributeError, UnicodeEncodeError):
            raise ConfigurationError(f"topic must be text that begins topics; it is {topic!r}") from None
        _engine.prepare()
        self._config: Mapping[str, Any] = context.c
        self._asked, self._after = asked, after
        #: The body of the ACK of the last message, while that is owed.
        self._owed: dict[str, Any] | None = None
        self._pid = os.getpid()
        self._warn = _engine.RateLimitedLog(log).warning
        if not self._config.get("zmq_enabled", True):
            raise ConfigurationError("zmq_enabled is False; tail_messages() needs ZeroMQ")
        self._validates = bool(self._config.get("validate_signatures", False))
        if self._validates and "x509" in _trust.validating_backends(self._config):
            _trust.verifier(self._config)
        self._acknowledger: Acknowledger | None = None
        if can_acknowledge(self._config, "tail_messages()"):
            self._acknowledger = Acknowledger(self._config, _context.publisher(context).port)
            topics.append(_protocol.announcement(topic, self._acknowledger.common_name))
        self._subscribers = Subscribers(self._config, topics, passive)
        #: Has the generator yield None soon, instead of waiting for a message. For any thread; never blocks.
        self.interrupt = self._subscribers.interrupt
        self._sequence = dict.fromkeys(self._config.get("replay_endpoints") or {}, -1)

    def run(self, wanted: Callable[[], bool] = lambda: True) -> Generator[Item | None, None, None]:
        """Set up, yield None once, then messages; and None where it was interrupted, or none is *wanted* at this moment."""
        subscribers = self._subscribers
        try:
            subscribers.open()
            yield None
            while True:
                self._refuse_in_a_child()
                for frames, name, endpoint in subscribers.wait(wanted):
                    yield from self.received(frames, name, endpoint, subscribers.context)
                if subscribers.interrupted or not wanted():
                    subscribers.interrupted = False
                    yield None
        finally:
            subscribers.close()
            if self._acknowledger is not None and self._pid == os.getpid():
                log.info("no longer acknowledging as %s", self._acknowledger.common_name)

    def _refuse_in_a_child(self) -> None:
        """In a forked child the sockets are the parent's: to read them would steal its wake-ups."""
        if self._pid != os.getpid():
            raise ConfigurationError(
                f"this tail_messages() belongs to process {self._pid}, which forked this one; call "
                "tail_messages() again"
            )

    def received(self, frames: Sequence[bytes], name: str, endpoint: str, context: Any) -> Generator[Item, None, None]:
        """Yield what one message holds: itself, nothing, or a replay of several; each is acknowledged, before or after."""
        try:
            found = self._checked(_protocol.Received.of(frames))
        except BadFrame as error:
            self._warn("dropped a message from %s: %s", endpoint, error)
            _engine.counting.dropped(error.code)
            return
        for received in self._with_missed(name, found, context) if name in self._sequence else [found]:
            due = None if self._acknowledger is None else self._acknowledger.due(received, self._validates)
            self._owed = due if self._asked(received.topic, received.message, due is not None) else None
            if not self._after:
                self._acknowledge()
            yield name, endpoint, received.topic, received.message
            self._refuse_in_a_child()  # it may have forked in there
            self._acknowledge()

    def _acknowledge(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None and self._acknowledger is not None:
            self._acknowledger.acknowledge(owed)

    def require_after(self) -> None:
        """Raise ConfigurationError where a message cannot be rejected any more when it was handed over."""
        if not self._after:
            raise ConfigurationError(
                "reject() needs tail_messages(..., acknowledge='after'): the ACK left before the message was handed over"
            )
        self._refuse_in_a_child()

    def reject(self, reason: str) -> None:
        """Answer the last message by a NACK, if its ACK is still owed, and by this process."""
        owed, self._owed = self._owed, None
        if owed is not None and self._acknowledger is not None and self._pid == os.getpid():
            self._acknowledger.reject(owed, reason)

    def _checked(self, received: _protocol.Received) -> _protocol.Received:
        """Return what was *received*; raise BadFrame if signatures are validated and it must not be handed over."""
        if self._validates:
            if received.message.get("topic") != received.topic:
                raise BadFrame("its signed topic differs from the topic it was sent under")
            refusal = _trust.validate(received.message, self._config, lambda: received.covered)
            if refusal is not None:
                if self._acknowledger is not None:
                    self._acknowledger.refuse(received, refusal.code)
                raise BadFrame(refusal.reason, refusal.code)
        return received

    def _with_missed(self, name: str, found: _protocol.Received, context: Any) -> Iterator[_protocol.Received]:
        """Yield what the replay says was missed, if it is any good, and *found*, unless it was replayed before."""
        number = found.message.get("seq_id")
        try:
            replayed = check_for_replay(name, self._sequence, found.message, self._config, context)
        except Exception as error:  # noqa: BLE001  fedmsg's code, on data from the bus: anything may come out
            log.error("replay_endpoints[%r]: the replay failed: %r", name, error)
            replayed = [found.message]
        for message in replayed:
            try:
                one = _protocol.Received.opened(message)
                yield found if one.message.get("seq_id") == number else self._checked(one)
            except BadFrame as error:
                self._warn("dropped a message replayed for %r: %s", name, error)
                _engine.counting.dropped(error.code)


def _write(wake: Any) -> None:
    with contextlib.suppress(OSError):  # full: the loop wakes anyway; or closed
        wake.send(b".")


def _terminate(context: Any) -> None:
    """End *context*. Signals wait: one that interrupts libzmq there makes it leave its threads behind."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        context.destroy(linger=0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
