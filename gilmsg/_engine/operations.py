"""Operations that callers hand to the engine thread, and what the engine thread does with each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Generic, Protocol, TypeVar, Union

from .. import _protocol as protocol
from ..errors import ConfigurationError, ListenerError
from . import counting
from .waiting import Outcome

if TYPE_CHECKING:
    from .ends import Ear, Out
    from .loop import Engine
    from .waiting import Settled

T = TypeVar("T")


class Book(Protocol):
    """Where everybody publishes, as ``_settings.AddressBook`` tells."""

    ack_topic: str
    key: Any

    @property
    def publishing(self) -> Mapping[str, Sequence[str]]: ...
    def of(self, common_name: str, via_relay: bool) -> Sequence[str]: ...


class Operation(Protocol):
    """``run`` begins it on the engine thread; ``fail`` settles one that cannot be run, on any thread."""

    #: Whether a thread waits for it.
    urgent: bool

    def run(self, engine: Engine, now: float) -> None: ...
    def fail(self, error: BaseException) -> None: ...


def closed() -> ListenerError:
    """Return the error of what was to leave by a socket that is closed."""
    return ListenerError("the publisher is closed, by destroy() for example; nothing was sent")


class Ask(Generic[T]):
    """A function that is called between two steps."""

    urgent = True

    def __init__(self, job: Callable[[], T]) -> None:
        self._job = job
        self.outcome: Outcome[T] = Outcome()

    def run(self, engine: Engine, now: float) -> None:
        try:
            result = self._job()
        except Exception as error:  # noqa: BLE001  raised where it is waited for
            self.outcome.settle(None, error)
        else:
            self.outcome.settle(result, None)

    def fail(self, error: BaseException) -> None:
        self.outcome.settle(None, error)


class Held:
    """An operation that may have to wait at its publishing socket: for presence, or behind those of its thread.

    Attributes:
        until: when it leaves anyway, on the monotonic clock.
        abandoned: its caller has left; it must never leave.
        thread: whose line it waits in; None: in none.
    """

    abandoned = False
    urgent = True
    until = 0.0
    thread: int | None = None

    def __init__(self, out: Out, outcome: Settled | None = None) -> None:
        self.out = out
        self.outcome: Any = Outcome() if outcome is None else outcome

    def run(self, engine: Engine, now: float) -> None:
        _leave_or_wait(self, engine, now)

    def ready(self) -> bool:
        return True

    def leave(self, engine: Engine) -> None:
        self.outcome.settle(None, None)

    def fail(self, error: BaseException) -> None:
        self.outcome.settle(None, error)


class Plain(Held):
    """A message that nobody confirms; it leaves behind those of its thread."""

    def __init__(self, out: Out, parts: Sequence[bytes], outcome: Settled) -> None:
        super().__init__(out, outcome)
        self._parts, self.thread = parts, threading.get_ident()

    def leave(self, engine: Engine) -> None:
        if not self.abandoned:
            self.out.send(self._parts)
        super().leave(engine)


class Presence(Held):
    """A caller that waits until its recipients are present, before it sends."""

    def __init__(self, out: Out, recipients: Sequence[str], way: protocol.Way, until: float) -> None:
        super().__init__(out)
        self.until = until
        self._recipients, self._way = recipients, way

    def ready(self) -> bool:
        return self._way.ready(self._recipients)

    def leave(self, engine: Engine) -> None:
        if engine.stopping:  # what is to be sent could not leave any more
            self.fail(engine.ended("nothing was sent"))
        else:
            super().leave(engine)


class Acknowledgement(Held):
    """An ACK of ours; it leaves once the listener that awaits it has announced itself, or patience ends.

    A consumer may get a message before the publisher's listener has found the consumer's new port: with fedmsg's
    shipped settings it tries again after 1.1 s at the latest (zmq_reconnect_ivl_max, and some of zmq_reconnect_ivl).
    Then its subscription is still on its way: of 500 ACKs sent right after the handshake, 23 came to nothing on a
    busy machine, 2 even of those sent 10 ms after it. So no fixed time will do.
    """

    #: Seconds: a publishing socket younger than YOUNG waits for an ACK listener to subscribe; an older one waits
    #: so long for the very listener that a message comes from.
    YOUNG, HOLD = 1.5, 0.1

    #: So many waits of HOLD may be in vain in so many seconds: senders whose listener cannot reach us, or
    #: who invent one, cost a consumer a tenth of its time at most.
    IN_VAIN, IN_VAIN_SECONDS = 5, 5.0

    def __init__(self, out: Out, parts: Sequence[bytes], origin: str | None) -> None:
        super().__init__(out)
        self._parts, self._origin, self._topic = parts, origin, parts[0].decode("utf-8")
        self._in_person = False

    def run(self, engine: Engine, now: float) -> None:
        self.until = self.out.born + self.YOUNG
        if self._origin is not None and not self.out.address.active and self._is_patient(now):
            self._in_person = now + self.HOLD > self.until
            self.until = max(self.until, now + self.HOLD)
        super().run(engine, now)

    def _is_patient(self, now: float) -> bool:
        in_vain = self.out.in_vain
        return len(in_vain) < self.IN_VAIN or now - in_vain[0] > self.IN_VAIN_SECONDS

    def ready(self) -> bool:
        """Return whether the listener hears us: its announcement is here, so its subscription is in force."""
        peers = self.out.peers
        if self.out.address.active:
            return peers.subscribed(self._topic)
        if self._origin is None:
            return peers.asked_for(self._topic)  # any listener: who subscribes to everything is none
        return peers.awaits(self._origin, self._topic)

    def leave(self, engine: Engine) -> None:
        if not self.abandoned:
            if self._in_person and not self.ready():
                self.out.in_vain = [*self.out.in_vain, time.monotonic()][-self.IN_VAIN :]
            self.out.send(self._parts)
            if counting.tally is not None:
                counting.tally.acks_sent += 1
        super().leave(engine)


class Refusal(Held):
    """A NACK of ours: it leaves if the very listener has announced itself, or does so while an ACK would be held for it.

    Nobody waits for that: a stranger can ask for one, for a listener that does not exist.
    """

    def __init__(self, out: Out, parts: Sequence[bytes], origin: str) -> None:
        super().__init__(out)
        self._parts, self._origin, self._topic = parts, origin, parts[0].decode("utf-8")

    def run(self, engine: Engine, now: float) -> None:
        self.until = max(self.out.born + Acknowledgement.YOUNG, now + Acknowledgement.HOLD)
        super().run(engine, now)

    def ready(self) -> bool:
        return self.out.peers.awaits(self._origin, self._topic)

    def leave(self, engine: Engine) -> None:
        if self.ready():
            self.out.send(self._parts)
        super().leave(engine)


class Message(protocol.Entry):
    """A message that is to be confirmed: handed over, perhaps held for its head start, sent, awaited."""

    def __init__(self, out: Out, ear: Ear, until: float, **entry: Any) -> None:
        super().__init__(**entry)
        self.out, self.ear, self.until = out, ear, until
        #: Whose line it waits in; None: in none, its owner asks for no order.
        self.thread: int | None = threading.get_ident()

    def run(self, engine: Engine, now: float) -> None:
        if self.ear.socket.closed:
            self.fail(closed())
        else:
            _leave_or_wait(self, engine, now)

    def ready(self) -> bool:
        return self.way.ready(self.missing())

    def leave(self, engine: Engine) -> None:
        if self.abandoned:
            return
        if self.ear.socket.closed:  # while this was held
            self.fail(closed())
            return
        now = time.monotonic()
        self.left = self.out.peers.mark
        try:
            self.ear.delivery.expect(self, now)
        except ConfigurationError as error:
            self.fail(error)
            return
        try:
            self.out.send(self.parts)
        except BaseException:
            self.ear.delivery.forget(self)  # or its end would be told twice
            raise
        if counting.tally is not None:
            counting.tally.left(self)

    def fail(self, error: BaseException) -> None:
        self.outcome.settle(None, error)


#: What waits to leave at a publishing socket.
Leaving = Union[Held, Message]


def _leave_or_wait(item: Leaving, engine: Engine, now: float) -> None:
    """Let *item* leave if nothing waits at its socket, and it is ready or due; else have it wait there."""
    if item.out.socket.closed:
        item.fail(closed())
    elif not item.out.lines and (now >= item.until or item.ready()):
        item.leave(engine)
    else:
        item.out.lines.submit(item.thread, item)
