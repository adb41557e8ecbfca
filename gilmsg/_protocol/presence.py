"""Evidence of who listens: the subscriptions at our socket, and the decisions that are made by it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import AnyStr, NamedTuple

from . import wire

#: For ``Peers.mark`` when the message left, where none has.
NOT_LEFT = sys.maxsize

#: Different subscriptions that are counted, names of those who left that are remembered, and bytes of one
#: subscription: a hostile peer may send any number.
_MOST, _LONGEST = 100_000, 1024

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


class Peers:
    """The subscriptions that are in force at one publisher's socket."""

    def __init__(self) -> None:
        #: The number of the last frame taken in; that at which a subscription ended last, 0 if none ever did.
        self.mark = self.last_end = 0
        #: Whether there were subscriptions beyond the limits.
        self.uncounted = False
        self._subscriptions: dict[bytes, int] = {}
        #: Common name -> topic -> the mark since when it is announced.
        self._announced: dict[str, dict[str, int]] = {}
        #: Common name -> the mark at which an announcement of it ended last.
        self._ended: dict[str, int] = {}
        #: (common name, whether it is there now) of consumers that came or left; whoever owns this takes them out.
        self.changes: list[tuple[str, bool]] = []

    def note(self, frame: bytes, *more: bytes) -> tuple[str, str] | None:
        """Take in what the XPUB socket received at a time; anything but a subscription or its end is ignored.

        What comes with *more* frames is a message that a peer sent us, even if it looks like a subscription. Return
        (topic, common name) of an announcement, of whatever number: another one may be of who lost the first.
        """
        self.mark += 1
        kind, prefix = frame[:1], frame[1:]
        count = self._subscriptions.get(prefix, 0)
        if more:
            return None
        if kind == _SUBSCRIBE and (count or self._has_room(prefix)):
            self._subscriptions[prefix] = count + 1
            announced = _announced(prefix)
            if announced and not count:
                topic, common_name = announced
                self._note_change(topic, common_name, True)
                self._announced.setdefault(common_name, {})[topic] = self.mark
            return announced
        if kind == _UNSUBSCRIBE and count > 1:
            self._subscriptions[prefix] = count - 1
        elif kind == _UNSUBSCRIBE and count:
            self._end(prefix)
        return None

    def _has_room(self, prefix: bytes) -> bool:
        room = len(self._subscriptions) < _MOST and len(prefix) <= _LONGEST
        self.uncounted = self.uncounted or not room
        return room

    def _end(self, prefix: bytes) -> None:
        del self._subscriptions[prefix]
        self.last_end = self.mark
        announced = _announced(prefix)
        if not announced:
            return
        topic, common_name = announced
        del self._announced[common_name][topic]
        if not self._announced[common_name]:
            del self._announced[common_name]
        self._note_change(topic, common_name, False)
        self._ended.pop(common_name, None)
        if len(self._ended) >= _MOST:
            del self._ended[next(iter(self._ended))]
        self._ended[common_name] = self.mark

    def _note_change(self, topic: str, common_name: str, there: bool) -> None:
        if common_name not in self._announced and not wire.is_answer(topic):
            self.changes.append((common_name, there))

    def end_all(self) -> None:
        self.mark += 1
        for prefix in list(self._subscriptions):
            self._end(prefix)

    def anyone(self, besides: str = "") -> bool:
        """Return whether anybody at all subscribes to anything here, ACK listeners (*besides*) left out."""
        if not besides:
            return bool(self._subscriptions)
        listened = [topic.encode("utf-8") for topic in (besides, wire.nack_topic(besides))]
        return any(one.partition(b"\0")[0] not in listened for one in self._subscriptions)

    def subscribed(self, topic: str) -> bool:
        """Return whether anybody, gilmsg or not, receives *topic* from here."""
        return any(True for _ in _prefixes(topic.encode("utf-8"), self._subscriptions))

    def asked_for(self, topic: str) -> bool:
        """Return whether anybody subscribes to just *topic*, as ACK listeners do to theirs."""
        return topic.encode("utf-8") in self._subscriptions

    def awaits(self, origin: str, topic: str) -> bool:
        """Return whether the listener *origin* has announced itself for just *topic*, that of answers."""
        return wire.announcement(topic, origin) in self._subscriptions

    def announced(self) -> list[tuple[str, str]]:
        """Return (topic, common name) of each announcement that is in force."""
        return [(topic, name) for name, topics in self._announced.items() for topic in topics]

    def topics(self, common_name: str) -> list[str]:
        """Return the topic prefixes for which *common_name* announced itself."""
        return sorted(self._announced.get(common_name, ()))

    def listens_since(self, common_name: str, topic: str) -> int | None:
        """Return the mark since when *common_name* listens to *topic*, None if it does not."""
        topics = self._announced.get(common_name, {})
        return min([topics[prefix] for prefix in _prefixes(topic, topics)], default=None)

    def ended(self, common_name: str) -> int | None:
        """Return the mark at which *common_name* ceased to listen last, None if it never did."""
        return self._ended.get(common_name)


def of_our_bus(topic: str, ack_topic: str) -> bool:
    """Return whether who subscribes to *topic* may get messages of the bus of *ack_topic*."""
    begin = scope(ack_topic)
    return begin.startswith(topic) or topic.startswith(begin)


def scope(ack_topic: str) -> str:
    """Return how the topics of the bus of *ack_topic* begin."""
    return ack_topic[: -len(wire.ACK_SUFFIX)]


def _announced(prefix: bytes) -> tuple[str, str] | None:
    """Return (topic, common name) of an announcement. What is not UTF-8 keeps its difference: no two become one."""
    topic, found, name = prefix.decode("utf-8", "surrogateescape").partition("\0")
    return (topic, name) if found else None


def _prefixes(topic: AnyStr, known: Collection[AnyStr]) -> Iterator[AnyStr]:
    """Return those *known* with which *topic* begins. There may be any number of them: look at few only."""
    if len(known) <= len(topic):
        return (one for one in known if topic.startswith(one))
    return (topic[:end] for end in range(len(topic) + 1) if topic[:end] in known)


class Way(NamedTuple):
    """How messages of one topic (None: any topic of ours) leave, and the evidence of who gets them and can answer."""

    topic: str | None
    #: Ours, or the relay's; for people.
    endpoint: str
    #: fedmsg's ``active=True``.
    via_relay: bool
    #: Who subscribes to just this is an ACK listener (our own one is here too): no recipient.
    ack_topic: str
    peers: Peers
    #: Returns whether the ACK listener is connected to a recipient; None where its endpoints are unknown.
    linked: Callable[[str], bool | None]
    #: Returns those from which ACKs of a recipient can come, as far as is known.
    endpoints: Callable[[str], Sequence[str]]
    #: Returns those of them whose host name does not resolve (yet).
    unresolved: Callable[[str], Sequence[str]] = lambda name: ()
    #: The topic, for people.
    told: str = "this topic"

    def anybody_hears(self) -> bool:
        """Return whether anybody, gilmsg or not, gets what we send."""
        return self.peers.anyone(self.ack_topic) if self.topic is None else self.peers.subscribed(self.topic)

    def hears_since(self, common_name: str) -> int | None:
        """Return the mark since when *common_name* gets what we send, None if it does not; 0 for any topic of ours."""
        if self.topic is not None:
            return self.peers.listens_since(common_name, self.topic)
        return 0 if any(of_our_bus(one, self.ack_topic) for one in self.peers.topics(common_name)) else None

    def hears(self, common_name: str) -> bool:
        """Return whether *common_name*, or the relay before it, can be expected to get what we send."""
        return self.anybody_hears() if self.via_relay else self.hears_since(common_name) is not None

    def gone(self, common_name: str) -> int | None:
        """Return the mark at which *common_name* left; None if it is not, or not for certain, gone.

        Its announcement has ended, which a stranger can bring about, and our listener has no connection to any of its
        endpoints, which a stranger cannot. Of unknown endpoints, or behind a relay, nothing is certain.
        """
        ended = self.peers.ended(common_name)
        if ended is None or self.via_relay or self.peers.topics(common_name) or self.linked(common_name) is not False:
            return None
        return ended

    def ready(self, recipients: Iterable[str]) -> bool:
        """Return whether each of *recipients* (of a group, one member) hears us, and can answer as far as is known."""
        return all(
            any(self.hears(name) and self.linked(name) is not False for name in wire.members(entry))
            for entry in recipients
        )
