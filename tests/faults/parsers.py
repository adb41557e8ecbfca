"""What must hold for whatever bytes come from the bus, as functions: for Hypothesis and for atheris."""

import json
import shutil
import tempfile

from gilmsg.errors import BadFrame, Refused

from .. import helpers, inside
from ..helpers import ack_body, compose, digest, frames, marked, sign
from ..inside import protocol
from ..inside import protocol_wire as wire

TOPIC = "org.example.dev.gilmsg.ack"


class Ground:
    """Real keys, one message that waits for alice, and her real ACK for it."""

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="gilmsg-")
        authority = inside.authority(self._folder)
        authority.issue("alice")
        self.config = inside.signed_bus(authority, {}, {})
        self.verifier = inside.verifier(self.config)
        self.sent = compose("org.example.dev.x.y", marked({"n": 1}, ["alice"]))
        self.ack = sign(self.config, "alice", compose(TOPIC, ack_body(self.sent)))
        self.wire = frames(self.ack)[1]

    def close(self):
        shutil.rmtree(self._folder)

    def take(self, parts):
        """Only what is alice's ACK settles the message, everything else is dropped; return whether it did."""
        entry = protocol.Entry(
            self.sent["msg_id"], self.sent["topic"], digest(self.sent), [], ["alice"], 1.0, self.verifier, None
        )
        delivery = protocol.Delivery(TOPIC)
        delivery.expect(entry, 0.0)
        try:
            settled = delivery.frame(parts, 0.5)
        except BadFrame:
            settled = None
        assert settled is None or (settled is entry and entry.acks == {"alice": 0.5})
        if settled:
            assert parts[0].decode() == TOPIC
            assert helpers.canonical(protocol.Received.of(parts).message) == helpers.canonical(self.ack)
        assert set(entry.refused) <= {"alice"} and not entry.strangers
        assert delivery.expired(1.0) == ([] if settled else [entry])
        return settled is not None

    def verify(self, message):
        """Only Refused and BadFrame leave; who is believed has signed exactly this."""
        claimed = self.verifier.claimed_name(message)
        assert claimed is None or isinstance(claimed, str)
        try:
            signer = self.verifier.signer_of(message, protocol.canonical(message))
        except (Refused, BadFrame):
            return
        assert signer == "alice" and helpers.canonical(message) == helpers.canonical(self.ack)


def frame(parts):
    """Decoding, covered bytes, ACK and the sieve agree with each other, or there is a BadFrame."""
    for part in parts:
        wire.claimed_id(part)
    try:
        received = protocol.Received.of(parts)
        covered = received.covered
        again = protocol.Received.of([parts[0], covered])
    except BadFrame:
        return
    assert isinstance(received.topic, str) and isinstance(received.message, dict)
    assert again.covered == covered
    assert digest({**received.message, "signature": "x", "certificate": "y"}) == protocol.digest_of(covered)
    due(received)
    try:
        msg_id, _ = wire.parse_ack(received.message)
    except BadFrame:
        return
    assert isinstance(msg_id, str)
    assert wire.claimed_id(b'{"ack_msg_id":' + wire.escaped(msg_id)) == wire.escaped(msg_id)


def due(received):
    """An ACK is owed only for what names us and is no ACK; it states what was received."""
    message = received.message
    body = received.ack_due("alice", True)
    if body is None:
        return
    assert body == {"ack_msg_id": message["msg_id"], "ack_digest": digest(message)}
    assert not str(message.get("topic")).endswith(".gilmsg.ack")
    named = message["msg"]["gilmsg"]["recipients"]
    assert any("alice" in [n.strip() for n in one.split(",")] for one in named if isinstance(one, str))


def sieve(msg_id):
    """Whatever the id, it is found in the bytes of an ACK as it is looked for."""
    ack = json.dumps({"certificate": "x", "msg": {"ack_digest": "y", "ack_msg_id": msg_id}}).encode()
    assert wire.claimed_id(ack) == wire.escaped(msg_id)


def peers(received):
    """The counts are those of a plain list of what was subscribed and not unsubscribed."""
    real, model = protocol.Peers(), []
    for one in received:
        real.note(one)
        if one[:1] == b"\x01" and len(one) <= 1024:
            model.append(one[1:])
        elif one[:1] == b"\0" and one[1:] in model:
            model.remove(one[1:])
    assert real.anyone() == bool(model)
    assert real.subscribed("a.b") == any(b"a.b".startswith(prefix) for prefix in model)
    announced = [p.partition(b"\0")[0] for p in model if p.partition(b"\0")[1:] == (b"\0", b"alice")]
    assert (real.listens_since("alice", "a.b") is not None) == any(b"a.b".startswith(topic) for topic in announced)
