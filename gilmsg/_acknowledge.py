"""A consumer's side of the promise: what ACK it owes, and when that may leave."""

import collections
import itertools
import logging
import time
from typing import Any, Callable, Deque, Dict, Iterator, Mapping, Optional

from . import _acks, _bus, _message, _presence, _trust
from ._outlet import Outlet
from ._outlets import SharedPublisher

log = logging.getLogger(__name__)

#: Seconds. A publishing socket younger than this waits for an ACK listener to subscribe
#: before its first ACK leaves: a consumer may get a message before the publisher's listener
#: has found the consumer's new port. With fedmsg's shipped settings the listener tries
#: again after 1.1 s at the latest (zmq_reconnect_ivl_max, and some of zmq_reconnect_ivl).
YOUNG = 1.5

#: Seconds that an older one waits for the very listener that a message comes from. A fresh
#: publisher's listener may have shaken hands with us already, and its subscription still be on
#: its way: of 500 ACKs sent right after the handshake, 6 came to nothing on an idle machine and 23
#: on a busy one, 2 even of those sent 10 ms after it. So no fixed time will do.
HOLD = 0.1

#: So many waits of HOLD may be in vain in so many seconds: senders whose listener cannot reach us, or
#: who invent one, cost a consumer a tenth of its time at most.
IN_VAIN, IN_VAIN_SECONDS = 5, 5.0


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
        #: When the last waits ended that were in vain.
        self._in_vain: Deque[float] = collections.deque(maxlen=IN_VAIN)
        self.common_name = _trust.signing_key(config, self._certname).common_name

    def announcement(self, topic: str) -> bytes:
        """Return the extra subscription that makes us visible as a listener to *topic*."""
        return _presence.announcement(topic, self.common_name)

    def due(
        self, message: Any, validated: bool, received: Optional[_acks.Canonical] = None
    ) -> Optional[Dict[str, Any]]:
        """Return the body of the ACK that we owe for *message*, None if we owe none.

        *received* is its canonical form, where somebody else needs it too.
        """
        return _acks.ack_due(message, self.common_name, validated, received)

    def send(self, body: Mapping[str, Any]) -> None:
        """Sign and send an ACK.

        Raises:
            ConfigurationError: the key cannot be used any more, or no port is free.
            ListenerError: ``destroy()`` was called meanwhile.
        """
        message = _message.compose(self._topic, dict(body), next(self._count))
        sealed = _trust.key_pair(self._config, self._certname).seal(message)
        parts = [self._topic.encode("utf-8"), sealed.wire]
        outlet = self._publisher.outlet()
        origin = _message.origin_of(body["ack_msg_id"])
        heard = self._heard_by(origin, outlet.address.active)
        if outlet.send_if(heard, parts) is None:
            self._wait(outlet, heard, in_person=origin is not None and not outlet.address.active)
            outlet.send(parts)
        log.debug("acknowledged %s as %s", body["ack_msg_id"], self.common_name)

    def _heard_by(self, origin: Optional[str], via_relay: bool) -> Callable[[_presence.Peers], bool]:
        """Return what tells whether the listener *origin* hears us.

        That it has announced itself here proves that its subscription is in force at this
        very socket (as in :mod:`gilmsg._presence`, the other way round).
        """
        if via_relay:
            return lambda peers: peers.subscribed(self._topic)
        if origin is None:
            # Any listener: who subscribes to everything is none.
            return lambda peers: peers.asked_for(self._topic)
        return lambda peers: peers.listens(origin, self._topic)

    def _wait(self, outlet: Outlet, heard: Callable[[_presence.Peers], bool], in_person: bool) -> None:
        """Return when *heard* is true, if it is soon; *in_person*: of the very listener that sent the message."""
        limit = max(YOUNG, outlet.age + HOLD) if in_person and self._has_patience() else YOUNG
        outlet.wait_until(heard, limit)
        if outlet.age >= limit > YOUNG:
            self._in_vain.append(time.monotonic())

    def _has_patience(self) -> bool:
        full = len(self._in_vain) == IN_VAIN
        return not full or time.monotonic() - self._in_vain[0] > IN_VAIN_SECONDS


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
