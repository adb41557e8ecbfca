"""A caller's handle of a publishing socket and a listener."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from .. import _protocol as protocol
from ..errors import ConfigurationError, ListenerError
from . import sockets
from .descriptors import listening_ports
from .operations import Acknowledgement, Held, Message, Plain, Presence, Refusal, closed
from .waiting import Outcome, refuse_in_child_of

if TYPE_CHECKING:
    from .ends import Ear, Out
    from .loop import Engine
    from .operations import Book
    from .waiting import Settled

log = logging.getLogger("gilmsg.publish")

T = TypeVar("T")

#: Seconds that an operation without a time of its own may take: an ACK, say.
_LONGEST_HOLD = 60.0

#: Seconds in which libzmq gives a port back, and between two looks whether it has.
_GIVEN_BACK, _LOOK_AGAIN = 2.0, 0.001


class Gone(ListenerError):
    """The engine or the socket of a handle has ended; nothing was sent: take another handle, and try again."""


class Port:
    """One caller's handle; for any thread but the engine's, where each call is a ConfigurationError.

    Each call is a ListenerError where the engine has ended (Gone, where another handle would do).

    Attributes:
        address: of the publishing socket; None if this handle only listens.
        endpoint (str): where the publishing socket is bound, or the relay that it is connected to.
        origin (str): the origin of the listener that awaits the ACKs; empty without one.
        born (float): since when both are open, on the monotonic clock.
        shared, shared_listener (bool): whether the socket, the listener was open already.
    """

    def __init__(
        self, engine: Engine, book: Book | None, out: tuple[Out | None, bool], ear: tuple[Ear | None, bool]
    ) -> None:
        self._engine, self._book, self._closed = engine, book, False
        self._out, self.shared = out
        self._ear, self.shared_listener = ear
        self.address = None if self._out is None else self._out.address
        self.endpoint = self._out.endpoint if self._out else ""
        self.origin = self._ear.origin if self._ear else ""
        ends = [end for end in (self._out, self._ear) if end is not None]
        self.born = max(end.born for end in ends)
        for end in ends:
            end.users.add(self)

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
        peers = out.peers if out is not None else protocol.Peers()

        def endpoints(common_name: str) -> Sequence[str]:
            return book.of(common_name, via_relay) if book is not None else ()

        def linked(common_name: str) -> bool | None:
            known = endpoints(common_name)
            return None if not known else ear is not None and any(map(ear.connections.links.up, known))

        def unresolved(common_name: str) -> Sequence[str]:
            return [one for one in endpoints(common_name) if ear is not None and ear.connections.unresolved(one)]

        return protocol.Way(topic, self.endpoint, via_relay, ack_topic, peers, linked, endpoints, unresolved, told)

    def message(self, head_start: float, **entry: Any) -> Message:
        """Return a message that leaves when its recipients are present, at *head_start* s of our age at the latest."""
        assert self._out is not None
        assert self._ear is not None
        message = Message(self._out, self._ear, self.born + head_start, **entry)
        self._out.held_until = max(self._out.held_until, message.until)
        return message

    def publish(self, message: Message | Plain) -> None:
        """Hand *message* over; its outcome tells the end."""
        self._require()
        self._engine.put(message)

    def result_of(self, outcome: Outcome[T], seconds: float) -> T:
        """Return the result of *outcome*, due within *seconds* of when nothing before it is held, or raise its error."""
        return self._engine.result_of(outcome, seconds + self._held_back())

    def forget(self, message: Message) -> None:
        """Have *message* not leave, if it has not, and nobody wait for its ACKs."""
        message.abandoned = True
        with contextlib.suppress(ListenerError):
            if self._engine.alive:
                self._engine.ask(lambda: message.ear.delivery.forget(message))

    def plain(self, parts: Sequence[bytes]) -> None:
        """Send a message that nobody confirms; return when it was given to the socket. The *parts* must be bytes."""
        self._held(self.unconfirmed(parts, Outcome()))

    def unconfirmed(self, parts: Sequence[bytes], outcome: Settled) -> Plain:
        """Return a message that nobody confirms, for :meth:`publish`; *outcome* tells when it was given to the socket."""
        if not parts or not all(isinstance(part, bytes) for part in parts):  # the engine would die of them
            raise TypeError(f"a message is one or more frames of bytes; these are {parts!r:.80}")
        return Plain(self._sending(), parts, outcome)

    def acknowledge(self, parts: Sequence[bytes], origin: str | None) -> None:
        """Send an ACK to the listener *origin*; return when it was given to the socket."""
        self._held(Acknowledgement(self._sending(), parts, origin))

    def refuse(self, parts: Sequence[bytes], origin: str) -> None:
        """Send a NACK to the listener *origin*, now or once it announces itself, if that is soon; does not wait for that."""
        refusal = Refusal(self._sending(), parts, origin)
        self.look(lambda: refusal.run(self._engine, time.monotonic()))

    def present(self, recipients: Sequence[str], way: protocol.Way, until: float) -> None:
        """Return when all *recipients* (of a group, one member) are present, at the latest at *until* (monotonic)."""
        if time.monotonic() < until:
            self._held(Presence(self._sending(), recipients, way, until))

    def look(self, job: Callable[[], T]) -> T:
        """Return what *job* returns, called on the engine thread: a brief and pure look at a way."""
        self._require()
        return self._engine.ask(job)

    def listen_as(self, origin: str) -> None:
        """Have our listener await the ACKs for *origin*, too; until the listener closes."""
        ear = self._ear
        assert ear is not None
        self.look(lambda: ear.listen_as(origin))

    def watch(self, watcher: Callable[[str, str], None]) -> None:
        """Have *watcher* called with (topic, common name) of each announcement at our socket, and now of those in force.

        The engine thread calls it, until this handle closes: it must be quick, and wait for nothing.
        """
        out = self._sending()

        def begin() -> None:
            out.watchers[self] = watcher
            for announced in out.peers.announced():
                watcher(*announced)

        self.look(begin)

    def close(self) -> None:
        """Give up this handle; the last one of a socket, or of a listener, closes that. Idempotent."""
        if self._closed or not self._engine.alive:
            return
        self._closed = True

        def leave() -> None:
            if self._out is not None:
                self._out.watchers.pop(self, None)
            for end in (self._out, self._ear):
                if end is not None:
                    end.users.discard(self)
            self._engine.close_unused(self._out, self._ear)

        with contextlib.suppress(ListenerError):
            self._engine.ask(leave)
        if self._engine.stopping:
            self._engine.stop()
        if self._out is None or not self._out.socket.closed:
            return
        log.info("no longer publishing as %s from %s", self._out.address.name, self.endpoint)
        bound, until = not self._out.address.active, time.monotonic() + _GIVEN_BACK
        while bound and sockets.port(self.endpoint) in listening_ports() and time.monotonic() < until:
            time.sleep(_LOOK_AGAIN)

    def _sending(self) -> Out:
        self._require()
        if self._out is None:
            raise ConfigurationError("this handle only listens")
        return self._out

    def _require(self) -> None:
        refuse_in_child_of(self._engine.pid, "process %d forked during this call; nothing was sent in the child")
        self._engine.refuse_own_thread()
        if not self.alive:
            raise Gone(*closed().args)

    def _held_back(self) -> float:
        """Return for how many seconds, at most, a message of ours may be held, or what is behind one."""
        return max(0.0, self._out.held_until - time.monotonic()) if self._out is not None else 0.0

    def _held(self, operation: Held) -> None:
        seconds = max(_LONGEST_HOLD, operation.until - time.monotonic()) + self._held_back()
        try:
            self._engine.put(operation)
            self._engine.result_of(operation.outcome, seconds)
        except BaseException:
            operation.abandoned = True
            raise
