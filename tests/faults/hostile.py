"""A hostile process on the bus: everything but the recipients' keys. ``python -m tests.faults.hostile``.

It binds the endpoint ``hostile`` (or, where the order says ``relay``, connects to a relay's inbound
one), hears every message that is published, and floods the ACK topic with junk of one *kind* at *rate*
a second until stdin ends. One JSON line on stdin says so; on stdout it says ``ready``, then ``aims`` for
each message that it aims at. To each further line it answers how much it has sent.

Half of the junk is about the newest message, half about the last one on the topic ``bait``: one that
is still waited for, so that each frame costs its hearer all that its kind can cost.

The kinds, from cheap to dear for who hears them: ``suffix`` (another topic behind the ACK topic),
``unknown`` (an id that nobody waits for), ``digest`` (the right id, a wrong digest), ``signature`` (the
right id and digest, the recipient's own certificate, a rubbish signature), ``certificate`` (the same
with a certificate that is new each time), ``padded`` (the recipient's own, padded anew each time).
"""

import base64
import json
import sys
import threading
import time

import zmq

from ..helpers import ack_topic, announcement, compose, digest, frames
from .talker import say

#: Frames made up beforehand for each target, each different.
POOL = 300

#: Frames between two looks at what is published.
BURST = 500

ID, DIGEST = "@" * 8, "#" * 64


class Junk:
    """The frames of one kind; *victim* is the recipient in whose name they are sent."""

    def __init__(self, order):
        self.kind = order["kind"]
        config = order["config"]
        self.topic = ack_topic(config).encode()
        self.envelope = self.topic + b".x" if self.kind == "suffix" else self.topic
        with open("{}/{}.crt".format(config["ssldir"], order["victim"]), "rb") as stream:
            self.pem = stream.read()
        body = b"".join(self.pem.splitlines(True)[1:-1])
        self.der = base64.b64decode(body)
        self.common = compose(self.topic.decode(), {})
        self.templates = [self.template(n) for n in range(2 * POOL)]
        self.bodies = [b""] * 2 * POOL
        for bait in (False, True):
            self.aim("2026-nobody", "0" * 64, bait)

    def aim(self, msg_id, digest, bait):
        """From now on let one half of the frames claim to confirm this message."""
        msg_id, digest = msg_id.encode(), digest.encode()
        for n in range(bait, 2 * POOL, 2):
            self.bodies[n] = self.templates[n].replace(ID.encode(), msg_id).replace(DIGEST.encode(), digest)

    def certificate(self, n):
        if self.kind == "certificate":
            der = bytearray(self.der)
            der[-1 - n % 200] ^= 1 + n % 255
            der[40 + n % 8] ^= 1 + n % 127
            lines = base64.encodebytes(bytes(der))
            pem = b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"
        elif self.kind == "padded":
            pem = b"%d\n" % n + self.pem
        else:
            pem = self.pem
        return base64.encodebytes(pem).decode()

    def template(self, n):
        stated = {"ack_msg_id": ID, "ack_digest": DIGEST}
        if self.kind == "unknown":
            stated["ack_msg_id"] = f"2026-{n}"
        elif self.kind == "digest":
            stated["ack_digest"] = f"{n:064x}"
        message = dict(
            self.common, i=n, msg=stated, crypto="x509", certificate=self.certificate(n),
            signature=base64.encodebytes(b"%0256d" % n).decode(),
        )
        return frames(message)[1]


class Flood:
    """Sends, and counts: what was to be sent, and what the other ends' connections took."""

    def __init__(self, context, order):
        self.junk = Junk(order)
        self.rate = order["rate"]
        self.offered = self.taken = 0
        self.publisher = context.socket(zmq.XPUB)
        # Where a connection is full it refuses the frame, and does not drop it in silence.
        self.publisher.setsockopt(zmq.XPUB_NODROP, 1)
        self.publisher.setsockopt(zmq.SNDHWM, 5000)
        if order.get("relay"):
            self.publisher.connect(order["config"]["relay_inbound"])
        else:
            self.publisher.bind(order["config"]["endpoints"]["hostile"][0])

    def send(self, due):
        send, envelope, bodies = self.publisher.send, self.junk.envelope, self.junk.bodies
        more = zmq.SNDMORE | zmq.NOBLOCK
        for n in range(self.offered, self.offered + due):
            self.offered += 1
            try:
                send(envelope, more)
                send(bodies[n % len(bodies)], zmq.NOBLOCK)
            except zmq.Again:
                continue
            self.taken += 1


def eavesdrop(context, order):
    """Hear what is published, as anybody can, and aim at it."""
    subscriber = context.socket(zmq.SUB)
    for prefix in (b"", announcement("", order["victim"])):  # a lie: we are not the victim
        subscriber.subscribe(prefix)
    if order.get("relay"):
        # Not the whole of it: our own junk comes back by there.
        subscriber.unsubscribe(b"")
        subscriber.subscribe(order["hears"].encode())
    name = "relay_outbound" if order.get("relay") else "publisher"
    for endpoint in order["config"]["endpoints"][name]:
        subscriber.connect(endpoint)
    return subscriber


def aim(subscriber, junk):
    while subscriber.poll(0):
        topic, body = subscriber.recv_multipart()
        message, bait = json.loads(body), topic.endswith(b".bait")
        junk.aim(message["msg_id"], digest(message), bait)
        say("aims", msg_id=message["msg_id"], bait=bait)


def answer(flood, over):
    for _ in sys.stdin:
        say("sent", offered=flood.offered, taken=flood.taken, now=time.monotonic())
    over.set()


def main():
    order = json.loads(sys.stdin.readline())
    over = threading.Event()
    context = zmq.Context()
    flood = Flood(context, order)
    subscriber = eavesdrop(context, order)
    threading.Thread(target=answer, args=(flood, over), daemon=True).start()
    say("ready")
    begin = time.monotonic()
    while not over.is_set():
        aim(subscriber, flood.junk)
        due = int((time.monotonic() - begin) * flood.rate) - flood.offered
        flood.send(min(due, BURST))
        if due <= 0:
            subscriber.poll(1)
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
