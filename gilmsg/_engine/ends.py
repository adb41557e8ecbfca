"""The sockets of the engine thread: ``Out`` publishes and sees its subscribers, ``Ear`` hears ACKs."""

from __future__ import annotations

import binascii
import logging
import os
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

import zmq

from .. import _protocol as protocol
from ..errors import BadFrame, ConfigurationError, EndpointError
from . import counting, descriptors, sockets
from .connections import INFO_LINES, Connections
from .waiting import RateLimitedLog

if TYPE_CHECKING:
    import collections

    from .descriptors import Context
    from .operations import Book, Leaving, Message
    from .sockets import Names

#: Milliseconds, at most, for what is still to be sent when a socket closes.
LONGEST_LINGER = 500

#: Subscriptions that are kept per connection until the engine thread looks, and how large one may be (a topic
#: and a common name).
_SUBSCRIPTIONS, _LARGEST_SUBSCRIPTION = 10_000, 4096

#: Taken in at a time, so that nobody who sends without end holds up a message or a deadline: subscriptions;
#: frames of ACKs, and the seconds that they may take.
_SUBSCRIPTIONS_AT_ONCE, _FRAMES_AT_ONCE, _BATCH_TIME = 1000, 64, 0.005

#: Frames that libzmq keeps for us per connection, whatever ``high_water_mark`` says. What is more
#: stays with its sender: nothing is lost, and a flood fills the attacker's memory, not ours.
#: libzmq takes one frame of each connection in turn, so a flood does not delay the ACKs of others.
_ACKS = 1000

#: Bytes. A larger frame ends the connection that it comes by, before it is in our memory; what is
#: between this and ``LARGEST_ACK`` is only dropped, because behind a relay others share the connection.
_LARGEST_FRAME = 4 * protocol.LARGEST_ACK

_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)  # the enumerations cost more than the call


class Address(NamedTuple):
    """One publishing socket of the process; *active* connects to a relay instead of binding a port."""

    name: str
    endpoints: tuple[str, ...]
    active: bool


class Out:
    """A publishing socket: XPUB, a PUB socket that also receives the subscriptions of its peers.

    A bound socket is told when a peer's connection ends. One that *connects* (to a relay) is not: libzmq
    keeps the peer's subscriptions, and what is sent, for when it is back, and then gets the subscriptions
    once more. There the socket's monitor tells; as there is but one peer, its end is the end of all.
    """

    def __init__(
        self, context: Context, address: Address, config: Mapping[str, Any], preferred: str, names: Names
    ) -> None:
        self.address = address
        self.peers = protocol.Peers()
        self.lines: protocol.Lines[Leaving] = protocol.Lines()
        #: Until when, at most, a message is held here.
        self.held_until = 0.0
        #: When ACKs last left without their listener having been seen.
        self.in_vain: list[float] = []
        #: Those who use it. Weak, so that those of threads that have ended do not count.
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        #: By its user, who may forget it: called with (topic, common name) of each announcement.
        self.watchers: weakref.WeakKeyDictionary[Any, Callable[[str, str], None]] = weakref.WeakKeyDictionary()
        self.connections: Connections | None = None
        self._tell = RateLimitedLog(logging.getLogger("gilmsg.publish"), burst=INFO_LINES)
        linger = int(config.get("zmq_linger", 1000))  # -1 is libzmq's "for ever"
        self._linger = min(linger, LONGEST_LINGER) if linger >= 0 else LONGEST_LINGER
        where = f"for the name {address.name!r}"
        try:
            self.socket: sockets.Socket = context.socket(zmq.XPUB)
        except zmq.ZMQError as error:
            text = f"no socket can be opened {where}: {error} (too many open files? ulimit -n)"
            raise ConfigurationError(text) from error
        try:
            self.endpoint = self._opened(config, preferred, names)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigurationError(f"the socket {where} cannot be set up: {error}") from error
        except ConfigurationError:
            self.close()
            raise
        self.born = time.monotonic()

    def _opened(self, config: Mapping[str, Any], preferred: str, names: Names) -> str:
        sockets.tune(self.socket, config)
        sockets.limit_input(self.socket, _SUBSCRIPTIONS, _LARGEST_SUBSCRIPTION)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if not self.address.active:
            return self._bound(preferred)
        relay = self.address.endpoints[0]
        if not relay.startswith("tcp://") or not sockets.parts(relay)[2]:
            raise ConfigurationError(f"relay_inbound: cannot connect to {relay!r}: it must be tcp://host:port")
        self.connections = Connections([(relay, self.socket)], names, self.socket)
        return relay

    def _bound(self, preferred: str) -> str:
        """Bind the first endpoint that is free, or only *preferred* where that is given; return it."""
        name, declared = self.address.name, [preferred] if preferred else self.address.endpoints
        failures = []
        for endpoint, port in [(one, sockets.port(one)) for one in declared]:
            descriptors.claim(self, port)
            try:
                self.socket.bind(f"tcp://{sockets.interface(endpoint)}:{port}")
            except zmq.ZMQError as error:
                descriptors.forget(self)  # a socket of the program may have that port
                failures.append(f"{endpoint} ({error})")
            else:
                return endpoint
        raise EndpointError(
            f"none of the endpoints declared for the name {name!r} can be bound: {', '.join(failures)}; a port that is "
            f"in use is held by another process: declare one in endpoints[{name!r}] for each process that publishes"
        )

    def take(self, now: float) -> None:
        """Take in the subscriptions that have come, and how the connection to a relay fares; tell who came and left."""
        self.take_events(now)
        self._take_subscriptions()
        while self.peers.changes:
            name, there = self.peers.changes.pop(0)
            # Anybody can give himself any name: as it is written in Python, it is one line.
            self._tell.info("%r listens to us at %s" if there else "%r has gone from %s", name, self.endpoint)

    def _take_subscriptions(self) -> None:
        for _ in range(_SUBSCRIPTIONS_AT_ONCE):
            if not sockets.readable(self.socket):
                return
            announced = self.peers.note(*self.socket.recv_multipart(zmq.NOBLOCK))
            if announced is not None:
                for watcher in self.watchers.values():
                    watcher(*announced)

    def take_events(self, now: float) -> None:
        """Take in how the connection to a relay fares."""
        if self.connections is not None and protocol.DOWN in self.connections.take(now):
            self.peers.end_all()

    def send(self, parts: Sequence[bytes]) -> None:
        """Hand one message to the socket; never blocks, as with PUB."""
        for part in parts[:-1]:
            self.socket.send(part, _MORE)
        self.socket.send(parts[-1], _LAST)

    def close(self) -> None:
        """Close the socket; what is still to be sent has half a second at most."""
        if self.connections is not None:
            self.connections.close()
        self.socket.close(linger=self._linger)


class Ear:
    """The socket by which the ACKs of one bus come in: subscribed, connected to whoever may send one, bounded."""

    def __init__(
        self, context: Context, book: Book, config: Mapping[str, Any], names: Names, settled: collections.deque[Message]
    ) -> None:
        self.ack_topic = book.ack_topic
        #: By this consumers know that this very listener hears them.
        self.origin = protocol.checked_origin(binascii.hexlify(os.urandom(4)).decode("ascii"))
        self.delivery: protocol.Delivery[Message] = protocol.Delivery(book.ack_topic)
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        #: Where the entries go that an ACK settles.
        self._settled = settled
        self._warn = RateLimitedLog(logging.getLogger("gilmsg.listener"))
        self.socket: sockets.Socket = context.socket(zmq.SUB)
        sockets.tune(self.socket, config)
        sockets.limit_input(self.socket, _ACKS, _LARGEST_FRAME)
        sockets.watch_by_keepalive(self.socket)
        for topic in self._topics():
            self.socket.setsockopt(zmq.SUBSCRIBE, topic.encode("utf-8"))
        self._origins: set[str] = set()
        self.listen_as(self.origin)
        endpoints = {endpoint for listed in book.publishing.values() for endpoint in listed}
        self.connections = Connections([(one, self.socket) for one in endpoints], names, self.socket)
        self.born = time.monotonic()

    def take(self, now: float) -> None:
        """Take in one batch of ACKs."""
        for _ in range(_FRAMES_AT_ONCE):
            if not sockets.readable(self.socket) or time.monotonic() - now > _BATCH_TIME:
                return
            parts = self.socket.recv_multipart(zmq.NOBLOCK)
            try:
                entry = self.delivery.frame(parts, time.monotonic())
            except BadFrame as error:
                self._warn.warning("dropped what came on the ACK topic: %s", error)
                counting.dropped_answer()
            else:
                if entry is not None:
                    self._settled.append(entry)

    def listen_as(self, origin: str) -> None:
        """Let consumers see that this listener awaits the ACKs for *origin*; idempotent."""
        if origin not in self._origins:  # or they would count it twice, and see it end once
            self._origins.add(origin)
            for topic in self._topics():
                self.socket.setsockopt(zmq.SUBSCRIBE, protocol.announcement(topic, origin))

    def _topics(self) -> tuple[str, str]:
        return self.ack_topic, protocol.nack_topic(self.ack_topic)

    def take_events(self, now: float) -> None:
        """Take in how the connections fare."""
        self.connections.take(now)

    def close(self) -> None:
        """Close the socket and its monitor."""
        self.connections.close()
        self.socket.close(linger=0)
