"""The protocol of confirmed delivery: events and the time go in, decisions come out.

Nothing here knows a socket, thread, clock, file or log. Each object is for one thread.

*What an ACK proves.* A gilmsg message is a fedmsg message whose body holds a marker, which names the recipients under
the publisher's signature. (It lies in the body: fedmsg signs that, and archives drop what else a message has.) A
recipient answers with the id and the *digest* of what it received, under its own certificate: the SHA-256 of the
*covered bytes*, fedmsg's encoding of the message without signature and certificate. :class:`Delivery` counts
an ACK only if the id is awaited, the digest is that of the bytes that left, the signature is valid, and the signer is
a recipient that has not answered. Nothing else ever makes a :class:`Receipt`. A *NACK* is the same on a topic of its
own, with the code of a reason: the recipient got the message and dropped it, or its handler failed. It is a diagnosis.

*Origin.* The last 12 digits of the UUID in the id of such a message name the listener that awaits its ACKs: so a consumer
knows for whose subscription to wait before its ACK leaves. 74 bits of the UUID are random, and 32 of the origin's.

*Presence.* A gilmsg consumer that subscribes to the topic prefix T as certificate C subscribes, on the same socket, to
its *announcement* ``T + "\\0" + C`` as well. No topic starts so: nothing is ever sent because of it, and plain fedmsg
peers do not notice. Our publisher is an XPUB socket, which receives each subscription as a frame. libzmq sends the
shorter prefix first (also when it reconnects): once the announcement is here, the subscription to T is in force. With
XPUB_VERBOSER each peer's subscription and its end (a lost connection included) is reported; :class:`Peers` counts them.

The other direction is the ACK listener's connection to the recipient (:class:`Links`). *Present* is a recipient that
announced itself for the topic and, where its endpoints are known, has the listener connected to one of them. The
listener announces itself to the recipient's socket in the same way, and the recipient's ACK waits for that. Through a
relay the recipients cannot be seen: there the relay's own subscription is the evidence.

Presence is a hint. It decides how long a *young* publisher waits before it sends, and it makes the diagnosis; with
``fail_fast``, and the listener's lost connection, which nobody else can bring about, it ends a wait in vain. It never
turns a missing ACK into success. Hence races, and lies (anybody may announce any name), cost a moment's wait or a wrong
sentence. Frames are numbered: so the diagnosis tells what was so when the message left from what became so afterwards.
"""

from .delivery import Delivery, Entry, NackLimit  # noqa: I001  sorted, but packed
from .diagnosis import BEHIND_RELAY, Receipt, absent, result
from .lines import Lines
from .links import DOWN, RETRIED, UP, Links
from .presence import Peers, Way, of_our_bus, scope
from .wire import (
    HANDLER, LARGEST_ACK, MARKER, Received, ack_topic, announcement, canonical, checked_origin, compose, digest_of, encode,
    full_topic, is_answer, join_group, marked, members, nack_for, nack_topic, on_ack_topic, origin_of, unmarked, unnameable,
)

__all__ = [
    "BEHIND_RELAY", "DOWN", "HANDLER", "LARGEST_ACK", "MARKER", "RETRIED", "UP", "Delivery", "Entry", "Lines", "Links",
    "NackLimit", "Peers", "Receipt", "Received", "Way", "absent", "ack_topic", "announcement", "canonical",
    "checked_origin", "compose", "digest_of", "encode", "full_topic", "is_answer", "join_group", "marked", "members",
    "nack_for", "nack_topic", "of_our_bus", "on_ack_topic", "origin_of", "result", "scope", "unmarked", "unnameable",
]
