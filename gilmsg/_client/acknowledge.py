"""The answers of a consumer: the ACK that it owes, the NACK of what it drops or fails to handle."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Callable

from .. import _engine, _protocol, _trust
from .._engine import Port
from ..errors import BadFrame, ConfigurationError, GilmsgError
from . import message as _message
from . import names as _names

log = logging.getLogger("gilmsg.receive")

#: What has become of messages that owe an ACK, as moksha's monitoring shows it: at first, nothing.
NO_COUNTS: Mapping[str, Any] = {"acks_sent": 0, "acks_failed": 0, "last_ack_error": None, "handler_failures": 0}


class Acknowledger:
    """The ACKs and NACKs of one consumer: one certificate, one *port*, made anew after ``destroy()``. For several threads."""

    def __init__(self, config: Mapping[str, Any], port: Callable[[], Port]) -> None:
        self._config, self._port = config, port
        self._certname = _names.certname(config)
        self._topic, self._nacks = _protocol.ack_topic(config), _protocol.NackLimit()
        self._number = itertools.count(1)
        self._counting = threading.RLock()  # a signal handler may acknowledge, too
        self.counts = dict(NO_COUNTS)
        self.common_name: str = _trust.signer(config, self._certname).common_name
        log.info("acknowledging as %s from %s", self.common_name, port().endpoint)
        never = _protocol.unnameable(self.common_name)
        if never:
            log.warning("%s", never)

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
            frames = self._signed(self._topic, body)
            self._port().acknowledge(frames, _protocol.origin_of(body["ack_msg_id"]))
        except GilmsgError as error:
            self._count_failed(body["ack_msg_id"], error)
            return
        with self._counting:
            self.counts["acks_sent"] += 1
        log.debug("acknowledged %s as %s", body["ack_msg_id"], self.common_name)

    def refuse(self, received: _protocol.Received, code: str) -> None:
        """Have a NACK say why what was *received* is dropped, where one is due; by the callback thread, never this one."""
        with contextlib.suppress(BadFrame):
            self._deny(received.nack_due(self.common_name, code))

    def reject(self, ack: Mapping[str, Any], reason: object) -> None:
        """Have a NACK take the place of an *ack* (its body): what was handed over was not handled. Log *reason*, count it."""
        with self._counting:
            self.counts["handler_failures"] += 1
        log.error("rejected %s: %s", ack["ack_msg_id"], reason)
        self._deny(_protocol.nack_for(ack, _protocol.HANDLER))

    def _deny(self, due: tuple[str, dict[str, Any]] | None) -> None:
        """Have the callback thread send the NACK that is *due*, if any, within the limit; it is a mere diagnosis."""
        if due is None:
            return
        with self._counting:
            if not self._nacks.allows(due[0], time.monotonic()):
                return
        with contextlib.suppress(GilmsgError):
            port = self._port()  # here: that thread must open none, after destroy()
            _engine.callbacks.run(lambda: self._send_nack(port, *due))

    def _send_nack(self, port: Port, origin: str, body: dict[str, Any]) -> None:
        """Sign a NACK, and send it to the listener *origin*, if that announces itself for NACKs: those of 1.0.0 do not."""
        with contextlib.suppress(GilmsgError):
            port.refuse(self._signed(_protocol.nack_topic(self._topic), body), origin)

    def _signed(self, topic: str, body: Mapping[str, Any]) -> list[bytes]:
        message = _message.composed(topic, dict(body), next(self._number))
        return [topic.encode(), _message.sealed(message, self._config, self._certname)[2]]

    def _count_failed(self, msg_id: str, error: Exception) -> None:
        with self._counting:
            self.counts["acks_failed"] += 1
            self.counts["last_ack_error"] = str(error) or repr(error)
        _engine.counting.ack_failed()
        log.error("no ACK for %s: %s", msg_id, error)


def is_after(acknowledge: object, where: str) -> bool:
    """Return whether ACKs leave after the handler, not before; ConfigurationError if *acknowledge* says neither."""
    if acknowledge not in ("before", "after"):
        raise ConfigurationError(f"{where} must be 'before' or 'after'; it is {acknowledge!r}")
    return acknowledge == "after"


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
