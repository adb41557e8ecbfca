"""ACK, then consume: ``GilmsgConsumer`` for fedmsg-hub. Importing this module imports moksha.

A message's way in moksha.hub 1.5.17, which is relied on: ``_consume`` (the reactor's thread)
validates and queues it, ``_do_work`` (a worker's thread) calls ``validate``, ``pre_consume``,
``consume`` and ``post_consume``. The ACK belongs between ``pre_consume`` and ``consume``, where
no hook of ours exists and subclasses may override everything else: so the instance gets a
``consume`` attribute of its own that acknowledges first and calls the class's after.
"""

import logging
import threading
import weakref
from typing import Any, Callable, Dict, NamedTuple, Optional, Set, Tuple

import fedmsg.encoding  # type: ignore[import-untyped]
import six
from fedmsg.consumers import FedmsgConsumer  # type: ignore[import-untyped]
from kitchen.iterutils import iterate  # type: ignore[import-untyped]

from . import _acks, _bus, _sockets, _trust
from ._acknowledge import Acknowledger, can_acknowledge
from ._outlets import SharedPublisher
from .errors import GilmsgError

__all__ = ["FedmsgConsumer", "GilmsgConsumer"]

log = logging.getLogger(__name__)


#: What was announced on each connection of the hub, which all its consumers share. Twice would
#: count as two listeners at a publisher, of which one would outlive a hub that is killed.
_said: "weakref.WeakKeyDictionary[Any, Set[bytes]]" = weakref.WeakKeyDictionary()


class _Findings(NamedTuple):
    """What was found out about a message when it came, before any hook could change it.

    The hub validates each message twice, in the reactor and in the worker, and a subclass may
    do anything in ``validate`` and ``pre_consume``: neither changes what was received.
    """

    #: Why the message must not be consumed; None if it may be.
    refusal: Optional[str]
    #: The body of the ACK that is due, if any; never for what would be refused.
    ack: Optional[Dict[str, Any]]
    msg_id: Any


class _Envelope(Dict[str, Any]):
    """moksha's envelope, which can carry the findings; its ZMQMessage (``jsonify = False``) can anyhow."""

    gilmsg_findings: _Findings


class _Tally:
    """What became of the ACKs of one consumer since the hub started; several workers count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent = self._failed = 0
        self._last_error: Optional[str] = None

    def count(self, error: Optional[Exception] = None) -> None:
        """Count an ACK that was sent, or, with *error*, one that could not be."""
        with self._lock:
            if error is None:
                self._sent += 1
            else:
                self._failed += 1
                self._last_error = str(error) or repr(error)

    def read(self) -> Dict[str, Any]:
        """Return the three fields as they go into the monitoring JSON."""
        with self._lock:
            return {
                "acks_sent": self._sent,
                "acks_failed": self._failed,
                "last_ack_error": self._last_error,
            }


class GilmsgConsumer(FedmsgConsumer):  # type: ignore[misc]
    """A fedmsg-hub consumer that acknowledges each message just before its ``consume()``.

    Use it as :class:`fedmsg.consumers.FedmsgConsumer`: set ``topic``, implement
    ``consume(self, message)``, register the class under the ``moksha.consumer`` entry point.
    ``message`` holds ``topic``, ``body`` (the fedmsg message, so ``message["body"]["msg"]`` is
    what was published) and ``msg_id``.

    The worker that is about to call ``consume()`` sends the ACK, after validation and
    ``pre_consume()``. If it cannot be sent, that is logged and ``consume()`` runs; the
    publisher then gets a Timeout.

    ACKs leave through the process's one gilmsg socket, under the configuration's ``name``, else
    under ``<top-level module of the class>.<short host name>``. With ``sign_messages`` off or
    ``mute`` on, the consumer works as a plain one and acknowledges nothing.

    Attributes:
        config_key (str): the setting that enables the consumer. Without one it is
            ``<module>.<Class>.enabled``, and True unless the configuration says otherwise.

    Raises:
        ConfigurationError: when the hub starts. With ``sign_messages``: no free endpoint, no
            usable key or certificate. When validating: no usable CA or CRL.
    """

    config_key: Optional[str] = None

    def __init__(self, hub: Any) -> None:
        self._acknowledger: Optional[Acknowledger] = None
        self._tally = _Tally()
        if not self.config_key:
            self.config_key = "%s.%s.enabled" % (type(self).__module__, type(self).__name__)
            hub.config.setdefault(self.config_key, True)
        if hub.config.get(self.config_key, False):
            # Before the base class subscribes: then the first message finds us ready.
            self._prepare(hub)
            for extension in hub.extensions:
                _watch_links(extension)
        super().__init__(hub)
        if self._acknowledger is not None and self._initialized:
            self._announce(self._acknowledger)

    def _prepare(self, hub: Any) -> None:
        """Open the socket for our ACKs and put the ACK before ``consume()``."""
        self._consume_after_ack: Callable[[Any], Any] = getattr(self, "consume")
        self.consume = self._acknowledge_and_consume
        if can_acknowledge(hub.config, type(self).__name__):
            config = _bus.named_after(hub.config, type(self).__module__.partition(".")[0])
            publisher = SharedPublisher(_bus.require_publisher(config), config)
            self._acknowledger = Acknowledger(config, publisher)

    def _announce(self, acknowledger: Acknowledger) -> None:
        """Make us visible to publishers, on each socket that the hub subscribed for us."""
        for extension in self.hub.extensions:
            for connection in getattr(extension, "subscriber_factories", {}).values():
                said = _said.setdefault(connection, set())
                for topic in iterate(self.topic):
                    # As moksha does for zeromq, where a topic is a prefix.
                    announcement = acknowledger.announcement(topic.replace("*", ""))
                    if announcement not in said:
                        said.add(announcement)
                        connection.subscribe(announcement)

    def _consume(self, message: Any) -> Any:
        """Take a message from the hub: look at it first, then as the base class does."""
        if isinstance(message, dict):
            message = _Envelope(message)
        message.gilmsg_findings = self._examine(message)
        return super()._consume(message)

    def validate(self, message: Any) -> None:
        """Check topic, signature and routing policy.

        Raises:
            RuntimeWarning: the message must not be consumed; moksha drops it.
        """
        refusal = self._findings(message).refusal
        if isinstance(message, dict):
            message["body"] = _opened(message)[1]
        if refusal is not None:
            raise RuntimeWarning(refusal)

    def _findings(self, message: Any) -> _Findings:
        found: Optional[_Findings] = getattr(message, "gilmsg_findings", None)
        return self._examine(message) if found is None else found

    def _examine(self, message: Any) -> _Findings:
        topic, body = _opened(message)
        try:
            received = _acks.Canonical(body)
            refusal = self._refusal(topic, body, received) if self.validate_signatures else None
            ack = None if refusal else self._ack_due(topic, body, received)
        except _acks.BadFrame as error:
            refusal, ack = (str(error) if self.validate_signatures else None), None
        return _Findings(refusal, ack, body.get("msg_id"))

    def _refusal(self, topic: Any, body: Dict[str, Any], received: _acks.Canonical) -> Optional[str]:
        if topic != body["topic"]:
            return "Topic envelope mismatch."
        refusal = _trust.validate(body, self.hub.config, received)
        return None if refusal is None else "Failed to authn message: %s" % refusal

    def _ack_due(self, topic: Any, body: Dict[str, Any], received: _acks.Canonical) -> Optional[Dict[str, Any]]:
        if self._acknowledger is None or body["topic"] != topic:
            return None
        return self._acknowledger.due(body, bool(self.validate_signatures), received)

    def _acknowledge_and_consume(self, message: Any) -> Any:
        """Take the place of ``consume``: the ACK, then the subclass's own ``consume``."""
        findings = self._findings(message)
        if findings.ack is not None:
            self._acknowledge(findings.ack)
        if isinstance(message, dict):
            message.setdefault("msg_id", findings.msg_id)
        return self._consume_after_ack(message)

    def _acknowledge(self, ack: Dict[str, Any]) -> None:
        assert self._acknowledger is not None  # an ACK is only due with one
        try:
            self._acknowledger.send(ack)
            self._tally.count()
        except GilmsgError as error:
            self._tally.count(error)
            log.error("no ACK for %s: %s", ack["ack_msg_id"], error)

    def __json__(self) -> Dict[str, Any]:
        """Return what ``moksha.monitoring.socket`` tells of us.

        ``acks_sent`` and ``acks_failed`` count from the start of the hub (moksha's own counters
        begin anew each time): a monitor that misses one report misses nothing.
        """
        return dict(super().__json__(), **self._tally.read())


def _watch_links(extension: Any) -> None:
    """Have the sockets that the hub will open for subscriptions notice when a link silently dies.

    moksha leaves that to TCP: after 30 s of packet loss nothing comes for another half minute. An extension
    for zeromq makes each with its ``connection_cls``, whose ``addEndpoints`` connects it. Those that a plain
    consumer of the same hub had opened before are shared, and stay as they are.
    """
    kind = getattr(extension, "connection_cls", None)
    if kind is None or hasattr(kind, "gilmsg_watches"):
        return

    class Connection(kind):  # type: ignore[misc, valid-type]
        gilmsg_watches = True

        def addEndpoints(self, endpoints: Any) -> None:
            _sockets.beat(self.socket)
            _sockets.watch_limited(self.socket)
            super().addEndpoints(endpoints)

    extension.connection_cls = Connection


def _opened(message: Any) -> Tuple[Any, Dict[str, Any]]:
    """Return (topic, fedmsg message) of what the hub handed over.

    What is no fedmsg message becomes the body of one, as in the base class; so does, with
    ``jsonify = False``, what is no JSON.
    """
    envelope: Dict[str, Any] = message if isinstance(message, dict) else message.__json__()
    topic, body = envelope.get("topic"), envelope["body"]
    if not isinstance(message, dict):
        try:
            body = fedmsg.encoding.loads(six.ensure_text(body))
        except (ValueError, TypeError, RecursionError):
            log.debug("what came on %r is no JSON", topic)
    if not isinstance(body, dict) or "topic" not in body:
        body = {"topic": topic, "msg": body}
    return topic, body
