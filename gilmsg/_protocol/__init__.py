"""The protocol of confirmed delivery: events and the time go in, decisions come out.

Nothing here knows a socket, thread, clock, file or log: whoever calls says what came and when it is now. So each rule
can be tried in microseconds, in every order. Each object is for one thread.

*What an ACK proves.* A gilmsg message names its recipients under the publisher's signature (:mod:`.wire`). A
recipient answers with the id and the digest of what it received, under its own certificate. :class:`Delivery` counts
an ACK only if the id is awaited, the digest is that of the bytes that left, the signature is valid, and the signer is
a recipient that has not answered. Nothing else ever makes a :class:`Receipt`; presence, below, does not either.

*Presence.* A gilmsg consumer that subscribes to the topic prefix T as certificate C subscribes, on the same socket, to
its *announcement* ``T + "\\0" + C`` as well. No topic starts so: nothing is ever sent because of it, and plain fedmsg
peers do not notice. Our publisher is an XPUB socket: it receives each subscription as a frame, and so it sees who
listens to what, on this very connection. libzmq sends the shorter prefix first (also when it reconnects and sends
everything again): once the announcement is here, the subscription to T is in force. The socket has XPUB_VERBOSER set,
so that each peer's subscription and its end (a lost connection included) is reported; :class:`Peers` counts them.

The other direction is the ACK listener's connection to the recipient (:class:`Links`). *Present* is a recipient that
announced itself for the topic and, where its endpoints are known, has the listener connected to one of them. The
listener announces itself to the recipient's socket in the same way, and the recipient's ACK waits for that. Through a
relay the recipients cannot be seen: there the relay's own subscription is the evidence.

Presence is a hint. It decides how long a *young* publisher waits before it sends, and it makes the diagnosis; it never
turns a missing ACK into success. Hence the races are harmless, and are left open:

- *A subscription arrives between the look and the send.* The message reaches that recipient too, or the wait ends a
  moment later than it could have.
- *Presence is lost between the look and the send, or while the ACKs are awaited.* The ACK does not come, publish raises;
  the diagnosis looks again at that moment. Each frame has a number, and the number of the last one before the message
  left is kept: so the diagnosis tells what was so when the message left from what became so afterwards.
- *A lie.* Anybody may announce any name. It costs at most a wait cut short, and a wrong sentence in a Timeout. The same
  goes for a peer that subscribes twice to the same on one connection: libzmq reports both, but only one end when the
  connection is lost. Our own consumers take care to announce themselves once.
"""

from .delivery import Delivery, Entry, Leaving, Lines, Receipt, Verifier  # noqa: I001  sorted, but packed
from .diagnosis import BEHIND_RELAY, Heard, absent, explain, result
from .links import DOWN, RETRIED, UP, Links
from .presence import NOT_LEFT, Linked, Peers, Route, Way, hears, hears_since, present, ready
from .wire import (
    ACK_SUFFIX, LARGEST_ACK, LEGACY_MARKER, MARKER, Ack, Received, ack_due, ack_topic, announcement, canonical,
    checked_origin, claimed_id, compose, digest_of, encode, escaped, full_topic, join_group, marked, members,
    on_ack_topic, origin_of, parse_ack, unmarked,
)

__all__ = [
    "ACK_SUFFIX", "BEHIND_RELAY", "DOWN", "LARGEST_ACK", "LEGACY_MARKER", "MARKER", "NOT_LEFT", "RETRIED", "UP", "Ack",
    "Delivery", "Entry", "Heard", "Leaving", "Lines", "Linked", "Links", "Peers", "Receipt", "Received", "Route",
    "Verifier", "Way", "absent", "ack_due", "ack_topic", "announcement", "canonical", "checked_origin", "claimed_id",
    "compose", "digest_of", "encode", "escaped", "explain", "full_topic", "hears", "hears_since", "join_group", "marked",
    "members", "on_ack_topic", "origin_of", "parse_ack", "present", "ready", "result", "unmarked",
]
