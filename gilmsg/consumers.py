"""ACK, then consume: ``GilmsgConsumer`` for fedmsg-hub. Importing this module imports moksha.

A message's way in moksha.hub 1.5.17, which is relied on: ``_consume`` (the reactor's thread)
validates and queues it, ``_do_work`` (a worker's thread) calls ``validate``, ``pre_consume``,
``consume`` and ``post_consume``. The ACK belongs between ``pre_consume`` and ``consume``, where
no hook of ours exists and subclasses may override everything else: so the instance gets a
``consume`` attribute of its own that acknowledges first and calls the class's after.
"""

import logging
from typing import Any, Callable, Dict, Optional

import zmq
from fedmsg.consumers import FedmsgConsumer  # type: ignore[import-untyped]
from kitchen.iterutils import iterate  # type: ignore[import-untyped]

from . import _acks, _bus, _trust
from ._acknowledge import Acknowledger, can_acknowledge
from ._outlet import SharedPublisher
from .errors import ConfigurationError

__all__ = ["FedmsgConsumer", "GilmsgConsumer"]

log = logging.getLogger(__name__)


class _Envelope(Dict[str, Any]):
    """moksha's envelope, which remembers what was found out about it when it came.

    The hub validates each message twice, in the reactor and in the worker; and what a
    subclass does to the message in ``pre_consume`` must not change the ACK.
    """

    examined = False
    ack: Optional[Dict[str, Any]] = None


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
        if not self.config_key:
            self.config_key = "%s.%s.enabled" % (type(self).__module__, type(self).__name__)
            hub.config.setdefault(self.config_key, True)
        if hub.config.get(self.config_key, False):
            # Before the base class subscribes: then the first message finds us ready.
            self._prepare(hub)
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
                for topic in iterate(self.topic):
                    # As moksha does for zeromq, where a topic is a prefix.
                    connection.subscribe(acknowledger.announcement(topic.replace("*", "")))

    def _consume(self, message: Any) -> Any:
        if isinstance(message, dict):
            message = _Envelope(message)
        return super()._consume(message)

    def validate(self, message: Any) -> None:
        """Check topic, signature and routing policy, once per message.

        Raises:
            RuntimeWarning: the message must not be consumed; moksha drops it.
        """
        if getattr(message, "examined", False):
            return
        if not isinstance(message, dict):
            super().validate(message)
            return
        if not isinstance(message.get("body"), dict) or "topic" not in message["body"]:
            # As the base class does for what is not a fedmsg message.
            message["body"] = {"topic": message.get("topic"), "msg": message.get("body")}
        if self.validate_signatures:
            self._check(message["topic"], message["body"])
        if isinstance(message, _Envelope):
            message.ack = self._ack_due(message)
            message.examined = True

    def _check(self, topic: Any, body: Dict[str, Any]) -> None:
        if topic != body["topic"]:
            raise RuntimeWarning("Topic envelope mismatch.")
        try:
            refusal = _trust.validate(body, self.hub.config)
        except _acks.BadFrame as error:
            refusal = str(error)
        if refusal is not None:
            raise RuntimeWarning("Failed to authn message: %s" % refusal)

    def _ack_due(self, message: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        body = message.get("body")
        if self._acknowledger is None or not isinstance(body, dict):
            return None
        if body.get("topic") != message.get("topic"):
            return None
        try:
            return self._acknowledger.due(body, bool(self.validate_signatures))
        except _acks.BadFrame:
            return None

    def _acknowledge_and_consume(self, message: Any) -> Any:
        """Take the place of ``consume``: the ACK, then the subclass's own ``consume``."""
        examined = getattr(message, "examined", False)
        ack = message.ack if examined else self._ack_due(message)
        if ack is not None:
            self._acknowledge(ack)
        if isinstance(message, dict) and isinstance(message.get("body"), dict):
            message.setdefault("msg_id", message["body"].get("msg_id"))
        return self._consume_after_ack(message)

    def _acknowledge(self, ack: Dict[str, Any]) -> None:
        assert self._acknowledger is not None  # an ACK is only due with one
        try:
            self._acknowledger.send(ack)
        except (ConfigurationError, zmq.ZMQError) as error:
            log.error("no ACK for %s: %s", ack["ack_msg_id"], error)
