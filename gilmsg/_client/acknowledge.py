"""The ACKs of a consumer: which one it owes, and how that is signed and sent."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from .. import _protocol, _trust
from ..errors import BadFrame, GilmsgError
from . import context, messages

if TYPE_CHECKING:
    from .._engine import Port

log = logging.getLogger("gilmsg.receive")


class Acknowledger:
    """The ACKs of one consumer: one certificate, one port. Several threads may acknowledge.

    Args:
        config: the consumer's configuration, ``name`` included.
        port: returns the port by which an ACK leaves, a new one after ``destroy()``.

    Raises:
        ConfigurationError: the key or the certificate cannot be used.
    """

    def __init__(self, config: Mapping[str, Any], port: Callable[[], Port]) -> None:
        self._config, self._port = config, port
        self._certname = context.certname(config)
        self._topic = _protocol.ack_topic(config)
        self._number = itertools.count(1)
        self._counting = threading.RLock()  # a signal handler may acknowledge, too
        self._sent = self._failed = 0
        self._last_error: str | None = None
        self.common_name: str = _trust.signer(config, self._certname).common_name

    def announcement(self, topic: str) -> bytes:
        """Return the extra subscription that makes the consumer visible as a listener to *topic*."""
        return _protocol.announcement(topic, self.common_name)

    def due(self, received: _protocol.Received, validated: bool) -> dict[str, Any] | None:
        """Return the body of the ACK that is owed for what was *received*, None if none is."""
        if received.message.get("topic") != received.topic:
            return None
        try:
            return received.ack_due(self.common_name, validated)
        except BadFrame as error:
            self._count_failed(received.message["msg_id"], error)
            return None

    def acknowledge(self, body: Mapping[str, Any]) -> None:
        """Sign an ACK, and return when it was given to the socket, or could not be: that is logged and counted."""
        try:
            message = messages.composed(self._topic, dict(body), next(self._number))
            signed = messages.sealed(message, self._config, self._certname)
            self._port().acknowledge([self._topic.encode(), signed.wire], _protocol.origin_of(body["ack_msg_id"]))
        except GilmsgError as error:
            self._count_failed(body["ack_msg_id"], error)
            return
        with self._counting:
            self._sent += 1
        log.debug("acknowledged %s as %s", body["ack_msg_id"], self.common_name)

    def counts(self) -> dict[str, Any]:
        """Return what became of the ACKs so far, as moksha's monitoring shows it."""
        with self._counting:
            return {"acks_sent": self._sent, "acks_failed": self._failed, "last_ack_error": self._last_error}

    def _count_failed(self, msg_id: str, error: Exception) -> None:
        with self._counting:
            self._failed += 1
            self._last_error = str(error) or repr(error)
        log.error("no ACK for %s: %s", msg_id, error)


def can_acknowledge(config: Mapping[str, Any], who: str) -> bool:
    """Return whether a consumer of this configuration signs at all; if not, warn: *who* proves nothing."""
    if not config.get("sign_messages", False):
        reason = "sign_messages is off"
    elif config.get("mute", False):
        reason = "mute is on"
    else:
        return True
    log.warning("%s will acknowledge nothing: %s", who, reason)
    return False
