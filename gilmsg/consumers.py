"""Acknowledge and consume: ``GilmsgConsumer`` for fedmsg-hub. Importing this module imports moksha.

A message's way in moksha.hub 1.5.17, which is relied on: ``_consume`` (the reactor's thread) validates and queues it,
``_do_work`` (a worker's thread; in blocking mode the reactor's) calls ``validate``, ``pre_consume``, ``consume`` and
``post_consume``. The ACK belongs just before or after ``consume``, where there is no hook, and subclasses may override
all else: so the instance gets a ``consume`` attribute of its own, which acknowledges and calls the class's.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Mapping
from typing import Any, Callable, Literal, NamedTuple

import fedmsg.encoding
import six
from kitchen.iterutils import iterate

from . import _protocol, _settings, _trust
from ._client import acknowledge as _acknowledge
from ._client import context as _context
from ._client import names as _names
from ._engine import counting as _counting
from ._engine import sockets
from .errors import BadFrame, ConfigurationError, Refused

_moksha_log = logging.getLogger("moksha.hub")
_level = _moksha_log.level
_moksha_log.setLevel(logging.ERROR)  # it warns that there is no AMQP, which nobody here has asked for
try:
    with warnings.catch_warnings():  # moksha's, which its users can do nothing about
        for category in (DeprecationWarning, SyntaxWarning):  # the latter where it was not compiled yet
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "pkg_resources is deprecated")
        from fedmsg.consumers import FedmsgConsumer
finally:
    _moksha_log.setLevel(_level)

__all__ = ["FedmsgConsumer", "GilmsgConsumer"]


class _Findings(NamedTuple):
    """The fedmsg message as it came, why it must not be consumed, if so, and the body of its ACK, if due."""

    received: _protocol.Received
    refusal: Refused | None
    ack: dict[str, Any] | None


class _Envelope(dict[str, Any]):
    """moksha's envelope, which can carry the findings; its ZMQMessage (``jsonify = False``) can anyhow."""


class GilmsgConsumer(FedmsgConsumer):  # type: ignore[misc]  # it has no types
    """A fedmsg-hub consumer that acknowledges each message just before its ``consume()``, or after it.

    Use it as :class:`fedmsg.consumers.FedmsgConsumer`: set ``topic``, implement ``consume(self, message)``, register
    the class under the ``moksha.consumer`` entry point. ``message`` holds ``topic``, ``body`` (the fedmsg message, so
    ``message["body"]["msg"]`` is what was published) and ``msg_id``. What a service itself puts into ``incoming``
    and is no such message is consumed as by a FedmsgConsumer, without an ACK.

    The worker that is about to call ``consume()`` sends the ACK, after validation and ``pre_consume()``. If it cannot
    be sent, that is logged and ``consume()`` runs; the publisher then gets a Timeout.

    With ``acknowledge = "after"`` that worker sends the ACK when ``consume()`` has returned. If ``consume()`` raises,
    that is logged with the ``msg_id``, and a NACK tells the publisher; moksha takes the exception as ever. Without an
    outbox nobody sends the message again.

    ACKs leave through the process's one gilmsg socket, under the configuration's ``name``, else under
    ``<top-level module of the class>.<short host name>``. With ``sign_messages`` off or ``mute`` on, the consumer
    works as a plain one and acknowledges nothing.

    Attributes:
        config_key (str): the setting that enables the consumer. Without one it is ``<module>.<Class>.enabled``, and
            True unless the configuration says otherwise.
        acknowledge (str): ``"before"`` (the default) or ``"after"`` its ``consume()``.

    Raises:
        ConfigurationError: when the hub starts. ``acknowledge`` is neither. With ``sign_messages``: no free endpoint, no usable key or certificate.
            ``gilmsg.metrics.port`` is no port, or prometheus_client is not installed.
    """

    config_key: str | None = None
    acknowledge: Literal["before", "after"] = "before"
    _acknowledger: _acknowledge.Acknowledger | None = None

    def __init__(self, hub: Any) -> None:
        if not self.config_key:
            self.config_key = f"{type(self).__module__}.{type(self).__name__}.enabled"
            hub.config.setdefault(self.config_key, True)
        if hub.config.get(self.config_key, False):
            self._after = _acknowledge.is_after(self.acknowledge, f"{type(self).__name__}.acknowledge")
            # Before the base class subscribes: then the first message finds us ready.
            self._consume_only: Callable[[Any], Any] = self.consume  # type: ignore[has-type]  # the class's
            self.consume = self._acknowledge_and_consume
            if _acknowledge.can_acknowledge(hub.config, type(self).__name__):
                config = _names.named_after(hub.config, type(self).__module__.partition(".")[0])
                publisher = _context.SharedPublisher(_context.require_publisher(config), config)
                self._acknowledger = _acknowledge.Acknowledger(config, publisher.port)
            for extension in _extensions(hub):
                _watch_links(extension)
            _serve_metrics(hub.config)
        super().__init__(hub)
        if self._acknowledger is not None and self._initialized:
            # As moksha does for zeromq, where a topic is a prefix.
            topics = [topic.replace("*", "") for topic in iterate(self.topic)]
            _announce(hub, {_protocol.announcement(topic, self._acknowledger.common_name) for topic in topics})

    def _consume(self, message: Any) -> Any:
        if isinstance(message, dict):
            message = _Envelope(message)
        findings = self._findings(message)
        if findings is not None:
            message.gilmsg_findings = findings
        return super()._consume(message)

    def validate(self, message: Any) -> None:
        """Check topic, signature and routing policy.

        Raises:
            RuntimeWarning: the message must not be consumed; moksha drops it.
        """
        findings = self._findings(message)
        if findings is None:
            super().validate(message)
            return
        if isinstance(message, dict):
            message["body"] = findings.received.message
        if findings.refusal is not None:
            if self._acknowledger is not None and findings.refusal.code:
                self._acknowledger.refuse(findings.received, findings.refusal.code)
            _counting.dropped(findings.refusal.code or "malformed")
            raise RuntimeWarning(findings.refusal.reason)

    def _findings(self, message: Any) -> _Findings | None:
        """Return what was found before any hook saw *message*, or now; None if it is no envelope of the hub's."""
        found = getattr(message, "gilmsg_findings", None)
        if isinstance(found, _Findings):
            return found
        received = _opened(message)
        if received is None:
            return None
        ack, refusal = None, self._refusal(received) if self.validate_signatures else None
        if self._acknowledger is not None and refusal is None:
            ack = self._acknowledger.due(received, bool(self.validate_signatures))
        return _Findings(received, refusal, ack)

    def _refusal(self, received: _protocol.Received) -> Refused | None:
        if received.topic != received.message["topic"]:
            return Refused("Topic envelope mismatch.", code="")
        try:
            refusal = _trust.validate(received.message, self.hub.config, lambda: received.covered)
        except BadFrame as error:
            return Refused(str(error), code="")
        return refusal and Refused(f"Failed to authn message: {refusal}", code=refusal.code)

    def _acknowledge_and_consume(self, message: Any) -> Any:
        findings = self._findings(message)
        if findings is not None and isinstance(message, dict):
            message.setdefault("msg_id", findings.received.message.get("msg_id"))
        ack = findings and findings.ack
        if self._acknowledger is None or ack is None:
            return self._consume_only(message)
        if not self._after:
            self._acknowledger.acknowledge(ack)
            return self._consume_only(message)
        try:
            result = self._consume_only(message)
        except BaseException as error:
            self._acknowledger.reject(ack, f"consume() raised {error!r}")
            raise
        self._acknowledger.acknowledge(ack)
        return result

    def __json__(self) -> dict[str, Any]:
        """Return what ``moksha.monitoring.socket`` tells of us; what counts ACKs and failures does from the hub's start."""
        counts = _acknowledge.NO_COUNTS if self._acknowledger is None else self._acknowledger.counts
        return {**super().__json__(), **counts}


def _serve_metrics(config: Mapping[str, Any]) -> None:
    """Serve metrics where the configuration names a port for them, once in a process."""
    where = _settings.read(_settings.METRICS_PORT, config)
    if where is not None:
        try:
            from .metrics import serve_by_key
        except ImportError as error:
            raise ConfigurationError(f"{_settings.METRICS_PORT} is set: {error}") from error
        serve_by_key(where, config)


def _extensions(hub: Any) -> list[Any]:
    """Return the extensions of *hub*; none of a stand-in for a hub, as unit tests of services have."""
    found = getattr(hub, "extensions", None)
    return found if isinstance(found, list) else []


def _announce(hub: Any, announcements: set[bytes]) -> None:
    """Make these known to publishers on each socket of *hub*, once: twice would count as two listeners."""
    for extension in _extensions(hub):
        for connection in getattr(extension, "subscriber_factories", {}).values():
            said = vars(connection).setdefault("gilmsg_said", set())
            for announcement in announcements - said:
                connection.subscribe(announcement)
            said |= announcements


def _watch_links(extension: Any) -> None:
    """Have the sockets that the hub will open for subscriptions notice when a link silently dies.

    moksha leaves that to TCP: after 30 s of packet loss nothing comes for another half minute. Relied on, of its
    extension for zeromq: it makes each with its ``connection_cls``, whose ``addEndpoints`` connects it.
    """
    kind = getattr(extension, "connection_cls", None)
    if kind is None or hasattr(kind, "gilmsg_watches"):
        return

    class Connection(kind):  # type: ignore[misc, valid-type]  # known at run time only
        gilmsg_watches = True

        def addEndpoints(self, endpoints: Any) -> None:
            sockets.beat(self.socket)
            sockets.watch_limited(self.socket)
            super().addEndpoints(endpoints)

    extension.connection_cls = Connection


def _opened(message: Any) -> _protocol.Received | None:
    """Return topic and message of an envelope of the hub's, None for anything else.

    What is no fedmsg message, or no JSON (``jsonify = False``), becomes the body of one, as in the base class.
    """
    envelope = message if isinstance(message, dict) else getattr(message, "__json__", dict)()
    if not isinstance(envelope, dict) or "body" not in envelope:
        return None
    topic: Any = envelope.get("topic")
    body = envelope["body"]
    if envelope is not message:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            body = fedmsg.encoding.loads(six.ensure_text(body))
    if not isinstance(body, dict) or "topic" not in body:
        body = {"topic": topic, "msg": body}
    return _protocol.Received(topic, body)
