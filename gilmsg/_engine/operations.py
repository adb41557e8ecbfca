"""Operations that callers hand to the engine thread, and what the engine thread does with each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Generic, Protocol, TypeVar, Union

from .. import _protocol as protocol
from ..errors import ConfigurationError, ListenerError
from .waiting import Outcome

if TYPE_CHECKING:
    from .ends import Ear, Out
    from .loop import Engine

T = TypeVar("T")


class Book(Protocol):
    """Where everybody publishes, as ``_settings.AddressBook`` tells."""

    ack_topic: str

    @property
    def publishing(self) -> Mapping[str, Sequence[str]]: ...
    @property
    def key(self) -> Any: ...
    def of(self, common_name: str, via_relay: bool) -> Sequence[str]: ...


class Operation(Protocol):
    """``run`` begins it on the engine thread; ``fail`` settles one that cannot be run, on any thread."""

    def run(self, engine: Engine, now: float) -> None: ...
    def fail(self, engine: Engine, error: BaseException) -> None: ...


def closed() -> ListenerError:
    """Return the error of what was to leave by a socket that is closed."""
    return ListenerError("the publisher is closed, by destroy() for example; nothing was sent")


class Ask(Generic[T]):
    """A function that is called between two steps."""

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

    def fail(self, engine: Engine, error: BaseException) -> None:
        self.outcome.settle(None, error)


class Held:
    """An operation that may have to wait at its publishing socket: for presence, or behind those of its thread.

    Attributes:
        until: when it leaves anyway, on the monotonic clock.
        abandoned: its caller has left; it must never leave.
    """

    abandoned = False
    until = 0.0
    out: Out

    def __init__(self) -> None:
        self.thread: int | None = threading.get_ident()
        self.outcome: Outcome[None] = Outcome()

    def run(self, engine: Engine, now: float) -> None:
        if self.out.closed:
            self.fail(engine, closed())
        else:
            self.out.lines.submit(self.thread, self)

    def ready(self) -> bool:
        return True

    def leave(self, engine: Engine) -> None:
        raise NotImplementedError

    def fail(self, engine: Engine, error: BaseException) -> None:
        self.outcome.settle(None, error)


class Plain(Held):
    """A message that nobody confirms; it leaves behind those of its thread."""

    def __init__(self, out: Out, parts: Sequence[bytes]) -> None:
        super().__init__()
        self.out, self._parts = out, parts

    def leave(self, engine: Engine) -> None:
        if not self.abandoned:
            self.out.send(self._parts)
        self.outcome.settle(None, None)


class Presence(Held):
    """A caller that waits until its recipients are present."""

    def __init__(self, out: Out | None, recipients: Sequence[str], way: protocol.Way, until: float) -> None:
        super().__init__()
        self.out = out  # type: ignore[assignment]  # never None where it is run
        self.thread = None
        self.until = until
        self._recipients, self._way = recipients, way

    def ready(self) -> bool:
        return protocol.ready(self._recipients, self._way.route, self._way.peers, self._way.linked)

    def leave(self, engine: Engine) -> None:
        if engine.stopping:  # what it waits to send could not leave any more
            self.fail(engine, engine.ended("nothing was sent"))
        else:
            self.outcome.settle(None, None)


class Acknowledgement(Held):
    """An ACK of ours; it leaves once the listener that awaits it has announced itself, or ``Patience`` ends."""

    def __init__(self, out: Out, parts: Sequence[bytes], origin: str | None) -> None:
        super().__init__()
        self.out, self._parts, self._origin = out, parts, origin
        self.thread = None
        self._topic = parts[0].decode("utf-8")

    def run(self, engine: Engine, now: float) -> None:
        if not self.out.closed:
            self.out.take(now)
            if self.ready():
                self.leave(engine)
                return
        in_person = self._origin is not None and not self.out.address.active
        self.until = self.out.patience.until(self.out.born, now, in_person)
        super().run(engine, now)

    def ready(self) -> bool:
        """Return whether the listener hears us.

        That it has announced itself here proves that its subscription is in force at this
        very socket (as for presence, the other way round).
        """
        peers = self.out.peers
        if self.out.address.active:
            return peers.subscribed(self._topic)
        if self._origin is None:
            return peers.asked_for(self._topic)  # any listener: who subscribes to everything is none
        return peers.listens(self._origin, self._topic)

    def leave(self, engine: Engine) -> None:
        if not self.abandoned:
            if self.until > self.out.born + self.out.patience.YOUNG and not self.ready():
                self.out.patience.note_in_vain(time.monotonic())
            self.out.send(self._parts)
        self.outcome.settle(None, None)


class Message(protocol.Entry):
    """A message that is to be confirmed: handed over, perhaps held for its head start, sent, awaited."""

    __slots__ = ("ear", "out", "thread", "until")

    def __init__(self, out: Out, ear: Ear, until: float, **entry: Any) -> None:
        super().__init__(**entry)
        self.out, self.ear, self.until = out, ear, until
        self.thread = threading.get_ident()

    def run(self, engine: Engine, now: float) -> None:
        if self.out.closed or self.ear.closed:
            self.fail(engine, closed())
        elif not self.out.lines and (now >= self.until or self.ready()):
            self.leave(engine)
        else:
            self.out.lines.submit(self.thread, self)

    def ready(self) -> bool:
        return protocol.ready(self.recipients, self.way.route, self.way.peers, self.way.linked)

    def leave(self, engine: Engine) -> None:
        if self.abandoned:
            return
        now = time.monotonic()
        self.out.take(now)
        self.left = self.out.peers.mark
        try:
            self.ear.delivery.expect(self, now)
        except ConfigurationError as error:
            engine.settle(self, None, error)
            return
        self.out.send(self.parts)

    def fail(self, engine: Engine, error: BaseException) -> None:
        engine.settle(self, None, error)


#: What waits to leave at a publishing socket.
Leaving = Union[Held, Message]


class Forget:
    """The end of a wait whose caller has left by an exception."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def run(self, engine: Engine, now: float) -> None:
        self._message.ear.delivery.forget(self._message)

    def fail(self, engine: Engine, error: BaseException) -> None:
        """There is nobody to tell."""
