"""Messages that were prepared earlier: signed and sent under the certificate, name and port of this process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Union

from .. import _engine, _protocol, _settings, _trust
from ..errors import BadFrame, PayloadError, Reason, Timeout
from . import context as _context
from . import end as _end
from . import message as _message
from . import names as _names

#: What is said of a recipient that, as far as our own socket shows, is not there.
_AWAY = ("never_connected", "other_topic", "gone")


class Prepared(NamedTuple):
    """A finished message without a signature; ``covered`` are its bytes, which never change."""

    msg_id: str
    topic: str
    covered: bytes
    signs: bool

    @classmethod
    def of(cls, covered: bytes) -> Prepared:
        """Return what is in *covered*; PayloadError if these are not the covered bytes of a message.

        A recipient makes the digest of its ACK from what it decodes: it would never be that of other bytes.
        """
        try:
            received = _protocol.Received.of([b"", covered])
            same = received.covered == covered
            str(received.message.get("topic")).encode("utf-8")
        except (BadFrame, UnicodeEncodeError) as error:
            raise PayloadError(f"the stored message cannot be sent: {error}") from error
        topic, msg_id = received.message.get("topic"), received.message.get("msg_id")
        if not same or not isinstance(topic, str) or not isinstance(msg_id, str):
            raise PayloadError("the stored message cannot be sent: it was changed since it was put, its digest is another")
        return cls(msg_id, topic, covered, "crypto" in received.message)


class Heard(NamedTuple):
    """An ACK for *attempt*, or for an earlier one of the same message."""

    attempt: Attempt
    signer: str


class Ended(NamedTuple):
    """The end of *attempt*: confirmed by all, where there is no error."""

    attempt: Attempt
    error: BaseException | None


class Appeared(NamedTuple):
    """A recipient that announced itself at our socket, or was there when we began to look."""

    common_name: str


News = Union[Heard, Ended, Appeared]


class Attempt:
    """One sending of a prepared message, of which its owner is told; *key* is the owner's.

    ``message`` may be set to None once the attempt has ended: there may be many that still hear ACKs.
    """

    __slots__ = ("_reports", "key", "message")

    def __init__(self, key: Any, reports: _engine.Reports) -> None:
        self.key, self._reports = key, reports
        self.message: _engine.Message | None = None

    @property
    def sent_at(self) -> float:
        """When it left, on the monotonic clock; 0 if it has not."""
        return self.message.sent_at if self.message is not None else 0.0

    def settle(self, result: object, error: BaseException | None) -> None:
        """Tell its end; the engine thread calls it."""
        self._reports.put(Ended(self, error))

    def heard(self, signer: str) -> None:
        """Tell of an ACK; the engine thread calls it."""
        self._reports.put(Heard(self, signer))

    def missed(self, reason: Reason) -> bool:
        """Return whether, by our socket, who has this *reason* (of a group, each member) was not there when it left."""
        return all(one.code in _AWAY for one in reason.members.values() or [reason])

    def knows(self, entry: str) -> bool:
        """Return whether it is known where *entry* (each of its members) publishes, so that it can be seen to be away."""
        way = self.message.way if self.message is not None else None
        return way is not None and not way.via_relay and all(map(way.endpoints, _protocol.members(entry)))


class Sender:
    """Sends prepared messages, and awaits their ACKs as the listener *origin*, that of the outbox; for one thread.

    *tell* is called on the thread of ``futures`` with a list of ``News``; it must not block. Raises ConfigurationError where
    a setting, key, CA or CRL is not usable, or no declared port is free, and ListenerError where the engine cannot start.
    """

    def __init__(self, config: dict[str, Any], origin: str, tell: Callable[[list[News]], None]) -> None:
        _engine.prepare()
        self.config = config
        self._origin, self._reports = origin, _engine.Reports(tell)
        address = _context.require_publisher(self.config)
        self._check_keys()
        self._publisher = _context.SharedPublisher(address, self.config)
        self._ack_topic = _protocol.ack_topic(self.config)
        self._port: _engine.Port | None = None

    @property
    def scope(self) -> str:
        """How the topics of this bus begin."""
        return _protocol.scope(self._ack_topic)

    def port(self) -> _engine.Port:
        """Return the open port, opened anew if need be: its listener listens as ours, and who appears is told."""
        port = self._publisher.port(awaits=True)
        if port is not self._port:
            port.listen_as(self._origin)
            port.watch(self._saw)
            self._port = port
        return port

    def check(self) -> None:
        """Raise ConfigurationError, or ListenerError, if nothing can be sent now: port, key, CA and CRL must be usable."""
        self.port()
        self._check_keys()

    def _check_keys(self) -> None:
        _trust.require_x509(self.config)
        if self.config.get("sign_messages", False):
            _trust.signer(self.config, _names.certname(self.config))
        _trust.verifier(self.config)

    def send(
        self, message: Prepared, recipients: Sequence[str], met: Collection[str], ack_timeout: float, head_start: float,
        key: Any,
    ) -> Attempt:  # fmt: skip
        """Sign *message* and hand it over; wait for those of its *recipients* only that are not *met*. Raises as `check`."""
        port, verifier = self.port(), _trust.verifier(self.config)
        wire = message.covered
        if message.signs:
            wire = _message.signed(message.covered, self.config, _names.certname(self.config))[1]
        attempt = Attempt(key, self._reports)
        attempt.message = entry = port.message(
            head_start, msg_id=message.msg_id, topic=message.topic, digest=_protocol.digest_of(message.covered),
            parts=[message.topic.encode("utf-8"), wire], recipients=recipients, met=met, ack_timeout=ack_timeout,
            verifier=verifier, way=port.way(message.topic), outcome=attempt, heard=attempt.heard,
            unsigned=not message.signs and bool(self.config.get("validate_signatures")), urgent=False,
        )  # fmt: skip
        entry.thread = None  # its recipients' absence holds up nobody else's message
        port.publish(entry)
        return attempt

    def explain(self, timeout: Timeout) -> None:
        """Have *timeout* say what the engine does not know."""
        _end.tell(timeout, self.config)

    def abandon(self, attempts: Collection[Attempt]) -> list[Attempt]:
        """Have those of *attempts* that have not left never leave; return them."""
        messages = [attempt.message for attempt in attempts if attempt.message is not None and not attempt.sent_at]
        for message in messages:
            message.abandoned = True
        if self._port is not None and self._port.alive:
            self._port.look(lambda: None)  # whoever is leaving just now has left
        return [attempt for attempt in attempts if not attempt.sent_at]

    def close(self) -> None:
        """Give up the port; the last user closes it."""
        self._publisher.close()

    def _saw(self, topic: str, common_name: str) -> None:
        if _protocol.of_our_bus(topic, self._ack_topic):
            self._reports.put(Appeared(common_name))


def configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that holds for the calling thread, as for a publish, all ``gilmsg.*`` keys of *config* in it."""
    found = _context.current()
    if found is not None:
        own = {key: value for key, value in config.items() if key.startswith("gilmsg.")}
        return {**found.c, **own}
    whole = {**_settings.current(config), **config}
    _settings.require(whole)
    _settings.require_known(whole)
    return _names.named_after(whole, _names.calling_module())
