"""Readiness: is each recipient listening, before we send; and why not, when one is missing. Pure.

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

The other direction is our ACK listener's connection to the recipient. *Present* is a
recipient that announced itself for the topic and, where its endpoints are known, has the
listener connected to one of them. Through a relay the recipients cannot be seen: there the
relay's own subscription is the evidence.

Presence is a hint. It decides how long a *young* publisher waits before it sends, and
it makes the diagnosis; it never turns a missing ACK into success. Hence the races are
harmless, and are left open:

- *A subscription arrives between the look and the send.* The message reaches that
  recipient too, or the wait ends a moment later than it could have.
- *Presence is lost between the look and the send, or while the ACKs are awaited.* The ACK
  does not come, publish raises; the diagnosis looks again at that moment.
- *Two threads wait for the same socket.* The thread that takes the frame off the socket
  may not be the one that waits for it. Both share the counts and each looks again
  after at most ``LOOK_AGAIN`` seconds, so neither can miss what the other took.
- *A lie.* Anybody may announce any name. It costs at most a wait cut short, and a wrong
  sentence in a Timeout.
"""

from collections import Counter
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set

from . import _acks

#: Seconds after which a waiting thread looks at the shared counts again.
LOOK_AGAIN = 0.01

#: Different subscriptions that are counted; a hostile peer may send any number.
_MOST = 100_000

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"


def announcement(topic: str, common_name: str) -> bytes:
    """Return the subscription by which *common_name* says that it listens to *topic*."""
    return ("%s\0%s" % (topic, common_name)).encode("utf-8")


class Peers:
    """The subscriptions that are in force at one publisher's socket. Its owner holds a lock."""

    def __init__(self) -> None:
        self._subscriptions: Dict[bytes, int] = Counter()
        self._announced: Dict[str, Dict[str, int]] = {}
        self._seen: Set[str] = set()

    def note(self, frame: bytes) -> None:
        """Take in one frame that the XPUB socket received; anything else is ignored."""
        kind, prefix = frame[:1], frame[1:]
        if kind == _SUBSCRIBE and len(self._subscriptions) < _MOST:
            self._subscriptions[prefix] += 1
            self._note_announcement(prefix, +1)
        elif kind == _UNSUBSCRIBE and prefix in self._subscriptions:
            self._subscriptions[prefix] -= 1
            if not self._subscriptions[prefix]:
                del self._subscriptions[prefix]
            self._note_announcement(prefix, -1)

    def _note_announcement(self, prefix: bytes, change: int) -> None:
        topic, found, name = prefix.partition(b"\0")
        if not found:
            return
        common_name = name.decode("utf-8", "replace")
        self._seen.add(common_name)
        topics = self._announced.setdefault(common_name, {})
        key = topic.decode("utf-8", "replace")
        topics[key] = topics.get(key, 0) + change
        if topics[key] <= 0:
            del topics[key]
        if not topics:
            del self._announced[common_name]

    def anyone(self) -> bool:
        """Whether anybody at all subscribes to anything here."""
        return bool(self._subscriptions)

    def subscribed(self, topic: str) -> bool:
        """Whether anybody, gilmsg or not, receives *topic* from here."""
        name = topic.encode("utf-8")
        return any(name[:end] in self._subscriptions for end in range(len(name) + 1))

    def topics(self, common_name: str) -> List[str]:
        """Return the topic prefixes for which *common_name* announced itself."""
        return sorted(self._announced.get(common_name, ()))

    def listens(self, common_name: str, topic: str) -> bool:
        """Whether *common_name* announced itself for *topic*."""
        return any(map(topic.startswith, self._announced.get(common_name, ())))

    def was_here(self, common_name: str) -> bool:
        """Whether *common_name* ever announced itself on this socket."""
        return common_name in self._seen


#: Whether the ACK listener is connected to a recipient; None where its endpoints are unknown.
Linked = Callable[[str], Optional[bool]]


class Route(NamedTuple):
    """How a message leaves: the topic, and through whom."""

    topic: str
    #: Our endpoint, for people.
    endpoint: str
    #: Through a relay (``active=True``).
    via_relay: bool


def present(common_name: str, route: Route, peers: Peers, linked: Linked) -> bool:
    """Whether *common_name* can be expected to get what we send, and we its ACK."""
    if route.via_relay:
        heard = peers.subscribed(route.topic)
    else:
        heard = peers.listens(common_name, route.topic)
    return heard and linked(common_name) is not False


def ready(recipients: Iterable[str], route: Route, peers: Peers, linked: Linked) -> bool:
    """Whether each of *recipients* (of a group, one member) is present."""
    return all(
        any(present(name, route, peers, linked) for name in _acks.members(entry))
        for entry in recipients
    )


class Heard(NamedTuple):
    """What the ACK listener heard of one message, besides the ACKs that counted."""

    refused: Dict[str, str]
    strangers: Sequence[str]
    #: Seconds that were waited.
    waited: float


def explain(
    entry: str, route: Route, peers: Peers, linked: Linked, endpoints: Callable[[str], str], heard: Heard
) -> str:
    """Return what is known of *entry* (a name, or a group), which has not proven receipt."""
    names = _acks.members(entry)
    told = [_explain_one(name, route, peers, linked, endpoints, heard) for name in names]
    if len(names) == 1:
        sentence = told[0]
    else:
        sentence = ", ".join("%s: %s" % pair for pair in zip(names, told))
    if heard.strangers:
        sentence += "; an ACK for this message came signed by %s instead" % ", ".join(heard.strangers)
    return sentence


def _explain_one(
    name: str, route: Route, peers: Peers, linked: Linked, endpoints: Callable[[str], str], heard: Heard
) -> str:
    if name in heard.refused:
        return "an ACK came in its name and was refused: %s" % heard.refused[name]
    if route.via_relay:
        absent = _relay_absent(route, peers)
    else:
        absent = _absent(name, route, peers)
    if absent:
        return absent
    if linked(name) is False:
        return "%s, but its endpoint %s cannot be reached for the ACK" % (
            "the relay is there" if route.via_relay else "it is listening",
            endpoints(name),
        )
    if route.via_relay:
        return (
            "the relay took the message, behind it recipients cannot be seen; "
            "silent for %g s, it may have received the message" % heard.waited
        )
    return "listening, but silent for %g s; it may have received the message" % heard.waited


def _relay_absent(route: Route, peers: Peers) -> Optional[str]:
    if peers.subscribed(route.topic):
        return None
    return "the relay at %s is not there" % route.endpoint


def _absent(name: str, route: Route, peers: Peers) -> Optional[str]:
    """Return why the message cannot have reached *name* directly, None if it can have."""
    if peers.listens(name, route.topic):
        return None
    if peers.topics(name):
        return "connected to us, but not subscribed to this topic (only to %s)" % ", ".join(
            repr(topic) for topic in peers.topics(name)
        )
    if peers.was_here(name):
        return "it was connected to us and has gone"
    if not peers.anyone():
        return "never connected to us: nobody at all is connected to our socket %s" % route.endpoint
    return "never connected to us"
