"""Evidence of who listens: the subscriptions at our socket, and the decisions that are made by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import AnyStr, NamedTuple, Optional

from . import wire

#: For ``Peers.mark`` when the message left, where none has.
NOT_LEFT = sys.maxsize

#: Different subscriptions that are counted, names of those who left that are remembered, and bytes of one
#: subscription: a hostile peer may send any number.
_MOST, _LONGEST = 100_000, 1024

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


class Peers:
    """The subscriptions that are in force at one publisher's socket.

    Attributes:
        mark (int): the number of the last frame taken in.
        last_end (int): the mark at which a subscription ended last; 0 if none ever did.
        uncounted (bool): whether there were subscriptions beyond the limits.
    """

    def __init__(self) -> None:
        self.mark = 0
        self.last_end = 0
        self.uncounted = False
        self._subscriptions: dict[bytes, int] = {}
        #: Common name -> topic -> the mark since when it is announced.
        self._announced: dict[str, dict[str, int]] = {}
        #: Common name -> the mark at which an announcement of it ended last.
        self._ended: dict[str, int] = {}

    def note(self, frame: bytes, *more: bytes) -> None:
        """Take in what the XPUB socket received at a time; anything else is ignored.

        A subscription is one frame. What comes with *more* frames is a message that a peer sent us: it may look
        like a subscription, but libzmq knows of none, nor of its end.
        """
        self.mark += 1
        if more:
            return
        kind, prefix = frame[:1], frame[1:]
        count = self._subscriptions.get(prefix, 0)
        if kind == _SUBSCRIBE and (count or self._has_room(prefix)):
            self._subscriptions[prefix] = count + 1
            if not count:
                self._begin(prefix)
        elif kind == _UNSUBSCRIBE and count > 1:
            self._subscriptions[prefix] = count - 1
        elif kind == _UNSUBSCRIBE and count:
            del self._subscriptions[prefix]
            self._end(prefix)

    def _has_room(self, prefix: bytes) -> bool:
        room = len(self._subscriptions) < _MOST and len(prefix) <= _LONGEST
        self.uncounted = self.uncounted or not room
        return room

    def _begin(self, prefix: bytes) -> None:
        announced = _announced(prefix)
        if announced is not None:
            topic, common_name = announced
            self._announced.setdefault(common_name, {})[topic] = self.mark

    def _end(self, prefix: bytes) -> None:
        self.last_end = self.mark
        announced = _announced(prefix)
        if announced is None:
            return
        topic, common_name = announced
        del self._announced[common_name][topic]
        if not self._announced[common_name]:
            del self._announced[common_name]
        self._ended.pop(common_name, None)
        if len(self._ended) >= _MOST:
            del self._ended[next(iter(self._ended))]
        self._ended[common_name] = self.mark

    def end_all(self) -> None:
        """Note that everybody has gone."""
        self.mark += 1
        for prefix in list(self._subscriptions):
            del self._subscriptions[prefix]
            self._end(prefix)

    def anyone(self, besides: str = "") -> bool:
        """Return whether anybody at all subscribes to anything here, ACK listeners (*besides*) left out."""
        if not besides:
            return bool(self._subscriptions)
        listeners = besides.encode("utf-8")
        announced = listeners + b"\0"
        return any(one != listeners and not one.startswith(announced) for one in self._subscriptions)

    def subscribed(self, topic: str) -> bool:
        """Return whether anybody, gilmsg or not, receives *topic* from here."""
        return next(_prefixes(topic.encode("utf-8"), self._subscriptions), None) is not None

    def asked_for(self, topic: str) -> bool:
        """Return whether anybody subscribes to just *topic*, as ACK listeners do to theirs."""
        return topic.encode("utf-8") in self._subscriptions

    def topics(self, common_name: str) -> list[str]:
        """Return the topic prefixes for which *common_name* announced itself."""
        return sorted(self._announced.get(common_name, ()))

    def listens(self, common_name: str, topic: str) -> bool:
        """Return whether *common_name* announced itself for *topic*."""
        return self.listens_since(common_name, topic) is not None

    def listens_since(self, common_name: str, topic: str) -> int | None:
        """Return the mark since when *common_name* listens to *topic*, None if it does not."""
        topics = self._announced.get(common_name)
        if not topics:
            return None
        return min([topics[prefix] for prefix in _prefixes(topic, topics)], default=None)

    def ended(self, common_name: str) -> int | None:
        """Return the mark at which *common_name* ceased to listen last, None if it never did."""
        return self._ended.get(common_name)


def _announced(prefix: bytes) -> tuple[str, str] | None:
    """Return (topic, common name) of an announcement, None for any other subscription.

    What is not UTF-8 keeps its difference: two prefixes never become one announcement.
    """
    topic, found, name = prefix.decode("utf-8", "surrogateescape").partition("\0")
    return (topic, name) if found else None


def _prefixes(topic: AnyStr, known: Collection[AnyStr]) -> Iterator[AnyStr]:
    """Return those *known* with which *topic* begins. There may be any number of them: look at few only."""
    if len(known) <= len(topic):
        return (one for one in known if topic.startswith(one))
    return (topic[:end] for end in range(len(topic) + 1) if topic[:end] in known)


#: Returns whether the ACK listener is connected to a recipient; None where its endpoints are unknown.
Linked = Callable[[str], Optional[bool]]


class Route(NamedTuple):
    """How a message leaves: the topic (None: any topic of ours, no message is meant), and through whom.

    ``endpoint`` (ours) and ``told`` (the topic) are for people; ``via_relay`` is fedmsg's ``active=True``. Who subscribes
    to just ``ack_topic`` is an ACK listener (our own one is here too): no recipient.
    """

    topic: str | None
    endpoint: str
    via_relay: bool
    ack_topic: str = ""
    told: str = "this topic"

    @property
    def scope(self) -> str:
        """The beginning of every topic of ours: the ACKs' begins so, too."""
        return self.ack_topic[: -len(wire.ACK_SUFFIX)]


class Way(NamedTuple):
    """The evidence for the messages of one route: who listens there, and whose ACKs can come.

    ``endpoints`` returns those from which ACKs of a common name can come, as far as is known; ``unresolved`` those of
    them whose host name does not resolve (yet).
    """

    route: Route
    peers: Peers
    linked: Linked
    endpoints: Callable[[str], Sequence[str]]
    unresolved: Callable[[str], Sequence[str]] = lambda name: ()

    def ready(self, recipients: Iterable[str]) -> bool:
        """Return whether each of *recipients* (of a group, one member) is present."""
        return ready(recipients, self.route, self.peers, self.linked)


def hears_since(common_name: str, route: Route, peers: Peers) -> int | None:
    """Return the mark since when *common_name* gets what we send, None if it does not; 0 for any topic of ours."""
    if route.topic is not None:
        return peers.listens_since(common_name, route.topic)
    prefixes, scope = peers.topics(common_name), route.scope
    return 0 if any(scope.startswith(one) or one.startswith(scope) for one in prefixes) else None


def hears(common_name: str, route: Route, peers: Peers) -> bool:
    """Return whether *common_name*, or the relay before it, can be expected to get what we send."""
    if not route.via_relay:
        return hears_since(common_name, route, peers) is not None
    return peers.anyone(route.ack_topic) if route.topic is None else peers.subscribed(route.topic)


def present(common_name: str, route: Route, peers: Peers, linked: Linked) -> bool:
    """Return whether *common_name* can be expected to get what we send, and we its ACK."""
    return hears(common_name, route, peers) and linked(common_name) is not False


def ready(recipients: Iterable[str], route: Route, peers: Peers, linked: Linked) -> bool:
    """Return whether each of *recipients* (of a group, one member) is present."""
    return all(any(present(name, route, peers, linked) for name in wire.members(entry)) for entry in recipients)
