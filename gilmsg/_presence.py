"""Readiness: is each recipient listening, before we send. Pure.

Theory of operation
-------------------
A gilmsg consumer that subscribes to the topic prefix T as certificate C subscribes, on the
same socket, to its *announcement* ``T + "\\0" + C`` as well. No topic starts so: nothing is
ever sent because of it, and plain fedmsg peers do not notice. Our publisher is an XPUB
socket: it receives each subscription as a frame, and so it sees who listens to what, on
this very connection. libzmq sends the shorter prefix first (also when it reconnects and
sends everything again): once the announcement is here, the subscription to T is in force.
The socket has XPUB_VERBOSER set, so that each peer's subscription and its end (a lost
connection included) is reported; :class:`Peers` counts them.

The other direction is our ACK listener's connection to the recipient. *Present* is a recipient that announced
itself for the topic and, where its endpoints are known, has the listener connected to one of them. The
listener announces itself to the recipient's socket in the same way, and the recipient's ACK waits for that
(:mod:`gilmsg._acknowledge`). Through a relay the recipients cannot be seen: there the relay's own
subscription is the evidence.

Presence is a hint. It decides how long a *young* publisher waits before it sends, and
it makes the diagnosis (:mod:`gilmsg._diagnosis`); it never turns a missing ACK into success. Hence the races are
harmless, and are left open:

- *A subscription arrives between the look and the send.* The message reaches that
  recipient too, or the wait ends a moment later than it could have.
- *Presence is lost between the look and the send, or while the ACKs are awaited.* The ACK
  does not come, publish raises; the diagnosis looks again at that moment. Each frame has a
  number, and the number of the last one before the message left is kept: so the diagnosis
  tells what was so when the message left from what became so afterwards.
- *Two threads wait for the same socket.* The thread that takes the frame off the socket
  may not be the one that waits for it. Both share the counts and each looks again
  after at most ``LOOK_AGAIN`` seconds, so neither can miss what the other took.
- *A lie.* Anybody may announce any name. It costs at most a wait cut short, and a wrong
  sentence in a Timeout. The same goes for a peer that subscribes twice to the same on one
  connection: libzmq reports both, but only one end when the connection is lost. Our own
  consumers take care to announce themselves once.
"""

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from . import _acks

#: Seconds after which a waiting thread looks at the shared counts again.
LOOK_AGAIN = 0.01

#: Different subscriptions that are counted, and names of those who left that are remembered;
#: a hostile peer may send any number.
_MOST = 100_000

#: Bytes of one that is counted.
_LONGEST = 1024

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


def announcement(topic: str, common_name: str) -> bytes:
    """Return the subscription by which *common_name* says that it listens to *topic*."""
    return ("%s\0%s" % (topic, common_name)).encode("utf-8")


class Peers:
    """The subscriptions that are in force at one publisher's socket. Its owner holds a lock.

    Attributes:
        mark (int): the number of the last frame taken in.
        last_end (int): the mark at which a subscription ended last; 0 if none ever did.
    """

    def __init__(self) -> None:
        self.mark = 0
        self.last_end = 0
        self._subscriptions: Dict[bytes, int] = {}
        #: Common name -> topic -> the mark since when it is announced.
        self._announced: Dict[str, Dict[str, int]] = {}
        #: Common name -> the mark at which an announcement of it ended last.
        self._ended: Dict[str, int] = {}

    def note(self, frame: bytes, *more: bytes) -> None:
        """Take in what the XPUB socket received at a time; anything else is ignored.

        A subscription is one frame. What comes with *more* frames is a message that a peer
        sent us: it may look like a subscription, but libzmq knows of none, nor of its end.
        """
        self.mark += 1
        if more:
            return
        kind, prefix = frame[:1], frame[1:]
        count = self._subscriptions.get(prefix, 0)
        room = len(self._subscriptions) < _MOST and len(prefix) <= _LONGEST
        if kind == _SUBSCRIBE and (count or room):
            self._subscriptions[prefix] = count + 1
            if not count:
                self._begin(prefix)
        elif kind == _UNSUBSCRIBE and count > 1:
            self._subscriptions[prefix] = count - 1
        elif kind == _UNSUBSCRIBE and count:
            del self._subscriptions[prefix]
            self._end(prefix)

    def _begin(self, prefix: bytes) -> None:
        """Note the first subscription to *prefix*, if it is an announcement."""
        announced = _announced(prefix)
        if announced is not None:
            topic, common_name = announced
            self._announced.setdefault(common_name, {}).setdefault(topic, self.mark)

    def _end(self, prefix: bytes) -> None:
        """Note the end of the last subscription to *prefix*; it may be an announcement."""
        self.last_end = self.mark
        announced = _announced(prefix)
        if announced is None:
            return
        topic, common_name = announced
        topics = self._announced[common_name]
        del topics[topic]
        if not topics:
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
        """Whether anybody at all subscribes to anything here, ACK listeners (*besides*) left out."""
        if not besides:
            return bool(self._subscriptions)
        listeners = besides.encode("utf-8")
        announced = listeners + b"\0"
        return any(
            one != listeners and not one.startswith(announced) for one in self._subscriptions
        )

    def subscribed(self, topic: str) -> bool:
        """Whether anybody, gilmsg or not, receives *topic* from here."""
        name, known = topic.encode("utf-8"), self._subscriptions
        return name in known or any(name[:end] in known for end in range(len(name)))

    def asked_for(self, topic: str) -> bool:
        """Whether anybody subscribes to just *topic*, as ACK listeners do to theirs."""
        return topic.encode("utf-8") in self._subscriptions

    def topics(self, common_name: str) -> List[str]:
        """Return the topic prefixes for which *common_name* announced itself."""
        return sorted(self._announced.get(common_name, ()))

    def listens(self, common_name: str, topic: str) -> bool:
        """Whether *common_name* announced itself for *topic*."""
        return self.listens_since(common_name, topic) is not None

    def listens_since(self, common_name: str, topic: str) -> Optional[int]:
        """Return the mark since when *common_name* listens to *topic*, None if it does not."""
        topics = self._announced.get(common_name)
        if not topics:
            return None
        # Not the other way round: somebody may have announced any number of topics.
        prefixes = (topic[:end] for end in range(len(topic) + 1))
        return min((topics[prefix] for prefix in prefixes if prefix in topics), default=None)

    def ended(self, common_name: str) -> Optional[int]:
        """Return the mark at which *common_name* ceased to listen last, None if it never did."""
        return self._ended.get(common_name)


def _announced(prefix: bytes) -> Optional[Tuple[str, str]]:
    """Return (topic, common name) of an announcement, None for any other subscription.

    What is not UTF-8 keeps its difference: two prefixes never become one announcement.
    """
    topic, found, name = prefix.partition(b"\0")
    if not found:
        return None
    return topic.decode("utf-8", "surrogateescape"), name.decode("utf-8", "surrogateescape")


#: Whether the ACK listener is connected to a recipient; None where its endpoints are unknown.
Linked = Callable[[str], Optional[bool]]


class Route(NamedTuple):
    """How a message leaves: the topic, and through whom."""

    #: None stands for any topic of ours, where no message is meant.
    topic: Optional[str]
    #: Our endpoint, for people.
    endpoint: str
    #: Through a relay (``active=True``).
    via_relay: bool
    #: Who subscribes to just this is an ACK listener (our own one is here too): no recipient.
    ack_topic: str = ""
    #: The topic, for people.
    told: str = "this topic"

    @property
    def scope(self) -> str:
        """How every topic of ours begins: the ACKs' does, too."""
        return self.ack_topic[: -len(_acks.ACK_SUFFIX)]


def hears_since(common_name: str, route: Route, peers: Peers) -> Optional[int]:
    """Return the mark since when *common_name* gets what we send, None if it does not; 0 for any topic of ours."""
    if route.topic is not None:
        return peers.listens_since(common_name, route.topic)
    prefixes, scope = peers.topics(common_name), route.scope
    return 0 if any(scope.startswith(one) or one.startswith(scope) for one in prefixes) else None


def hears(common_name: str, route: Route, peers: Peers) -> bool:
    """Whether *common_name*, or the relay before it, can be expected to get what we send."""
    if not route.via_relay:
        return hears_since(common_name, route, peers) is not None
    return peers.anyone(route.ack_topic) if route.topic is None else peers.subscribed(route.topic)


def present(common_name: str, route: Route, peers: Peers, linked: Linked) -> bool:
    """Whether *common_name* can be expected to get what we send, and we its ACK."""
    return hears(common_name, route, peers) and linked(common_name) is not False


def ready(recipients: Iterable[str], route: Route, peers: Peers, linked: Linked) -> bool:
    """Whether each of *recipients* (of a group, one member) is present."""
    return all(
        any(present(name, route, peers, linked) for name in _acks.members(entry))
        for entry in recipients
    )
