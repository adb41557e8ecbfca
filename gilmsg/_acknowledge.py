"""A consumer's side of the promise: under which name it consumes, and the ACKs that it sends."""

import itertools
import logging
from typing import Any, Dict, Iterator, Mapping, Optional

from . import _acks, _bus, _message, _presence, _trust
from ._outlet import SharedPublisher

log = logging.getLogger(__name__)

#: Seconds. A publishing socket younger than this waits for an ACK listener to subscribe
#: before its first ACK leaves: a consumer may get a message before the publisher's listener
#: has found the consumer's new port.
YOUNG = 1.0


class Acknowledger:
    """Sends the ACKs of one consumer: one certificate, one socket. Thread-safe.

    Args:
        config: the consumer's configuration, ``name`` included.
        publisher: the socket by which the ACKs leave.

    Raises:
        ConfigurationError: the key or the certificate cannot be used.
    """

    def __init__(self, config: Mapping[str, Any], publisher: SharedPublisher) -> None:
        self._config = config
        self._certname = _bus.certname(config)
        self._publisher = publisher
        self._topic = _acks.ack_topic(config)
        self._count: Iterator[int] = itertools.count(1)
        self.common_name = _trust.signing_key(config, self._certname).common_name

    def announcement(self, topic: str) -> bytes:
        """Return the extra subscription that makes us visible as a listener to *topic*."""
        return _presence.announcement(topic, self.common_name)

    def due(self, message: Any, validated: bool) -> Optional[Dict[str, Any]]:
        """Return the body of the ACK that we owe for *message*, None if we owe none."""
        return _acks.ack_due(message, self.common_name, validated)

    def send(self, body: Mapping[str, Any]) -> None:
        """Sign and send an ACK.

        Raises:
            ConfigurationError: the key cannot be used any more, or no port is free.
            zmq.ZMQError: the socket was closed meanwhile.
        """
        message = _message.compose(self._topic, dict(body), next(self._count))
        signed = _trust.signing_key(self._config, self._certname).sign(message)
        outlet = self._publisher.outlet()
        outlet.wait_until(lambda peers: peers.subscribed(self._topic), YOUNG)
        outlet.send([self._topic.encode("utf-8"), _message.encode(signed)])
        log.debug("acknowledged %s as %s", body["ack_msg_id"], self.common_name)


def can_acknowledge(config: Mapping[str, Any], who: str) -> bool:
    """Whether a consumer of this configuration signs at all; if not, warn: *who* proves nothing."""
    if not config.get("sign_messages", False):
        reason = "sign_messages is off"
    elif config.get("mute", False):
        reason = "mute is on"
    else:
        return True
    log.warning("%s will acknowledge nothing: %s", who, reason)
    return False
