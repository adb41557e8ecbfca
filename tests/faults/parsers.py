"""What must hold for whatever bytes come from the bus, as functions: for Hypothesis and for atheris."""

import shutil
import tempfile

from gilmsg._acks import BadFrame, Refused
from gilmsg._judge import Judge
from gilmsg._keypair import KeyPair
from gilmsg._ledger import Ledger, Sent
from gilmsg._pending import Pending

from gilmsg import _acks, _chain, _credentials, _message, _presence
from gilmsg.sandbox import Authority

from ..helpers import digest

TOPIC = "org.example.dev.gilmsg.ack"


class Ground:
    """Real keys, one message that waits for alice, and her real ACK for it."""

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="gilmsg-")
        authority = Authority(self._folder)
        authority.issue("alice")
        self.store = _chain.TrustStore(authority.ca_file, authority.crl_file, 3600)
        self.sent = _message.compose("org.example.dev.x.y", _acks.marked({"n": 1}, ["alice"]), 1)
        body = {"ack_msg_id": self.sent["msg_id"], "ack_digest": digest(self.sent)}
        self.pair = KeyPair(self._folder, "alice")
        self.ack = self.pair.sign(_message.compose(TOPIC, body, 1))
        self.wire = _message.encode(self.ack)
        self.ledger = Ledger()
        self.judge = Judge(TOPIC, self.ledger.find)

    def close(self):
        shutil.rmtree(self._folder)

    def entry(self):
        sent = Sent(self.sent["msg_id"], self.sent["topic"], digest(self.sent), 0.0)
        # What tells the end of it is not under test here: an entry is only judged.
        return Pending(sent, ["alice"], 1.0, None, None, self.store)

    def take(self, parts):
        """Only what is alice's ACK is proven, everything else dropped; return whether it was proven."""
        entry = self.entry()
        self.ledger.clear()
        self.ledger.add(entry)
        try:
            proven = self.judge.proven(parts)
        except BadFrame:
            proven = None
        if proven is not None:
            assert proven == (entry, "alice")
            topic, message = _acks.decode(parts)
            assert topic == TOPIC
            assert _acks.canonical(message) == _acks.canonical(self.ack)
        assert set(entry.refused) <= {"alice"} and not entry.strangers
        return proven is not None

    def verify(self, message):
        """Only Refused and BadFrame leave; who is believed has signed exactly this."""
        _credentials.claimed_name(message)
        try:
            signer = self.store.signer_of(message)
        except (Refused, BadFrame):
            return
        assert signer == "alice" and _acks.canonical(message) == _acks.canonical(self.ack)


def certificate(message):
    """Each stage of reading a stranger's certificate lets only Refused out."""
    try:
        _, encoded = _credentials.credentials(message)
        parsed = _credentials.certificate(encoded)
        _credentials.names(parsed)
        _credentials.public_key(parsed)
    except Refused:
        pass


def frame(parts):
    """Decode, canonical form, ACK and the sieve agree with each other, or there is a BadFrame."""
    for part in parts:
        _acks.claimed_id(part)
    try:
        topic, message = _acks.decode(parts)
        canonical = _acks.canonical(message)
        _, again = _acks.decode([parts[0], canonical])
    except BadFrame:
        return
    assert isinstance(topic, str) and isinstance(message, dict)
    assert _acks.canonical(again) == canonical
    assert digest(dict(message, signature="x", certificate="y")) == digest(message)
    due(message)
    try:
        ack = _acks.parse_ack(message)
    except BadFrame:
        return
    assert isinstance(ack.msg_id, str)
    assert _acks.claimed_id(b'{"ack_msg_id":' + _acks.escaped(ack.msg_id)) == _acks.escaped(ack.msg_id)


def due(message):
    """An ACK is owed only for what names us and is no ACK; it states what was received."""
    body = _acks.ack_due(message, "alice", True)
    if body is None:
        return
    assert body == {"ack_msg_id": message["msg_id"], "ack_digest": digest(message)}
    assert not str(message.get("topic")).endswith(".gilmsg.ack")
    named = message["msg"]["gilmsg"]["recipients"]
    assert any("alice" in [n.strip() for n in one.split(",")] for one in named if isinstance(one, str))


def peers(frames):
    """The counts are those of a plain list of what was subscribed and not unsubscribed."""
    real, model = _presence.Peers(), []
    for one in frames:
        real.note(one)
        if one[:1] == b"\x01" and len(one) <= _presence._LONGEST:
            model.append(one[1:])
        elif one[:1] == b"\0" and one[1:] in model:
            model.remove(one[1:])
    assert real.anyone() == bool(model)
    assert real.subscribed("a.b") == any(b"a.b".startswith(prefix) for prefix in model)
    announced = [p.partition(b"\0")[0] for p in model if p.partition(b"\0")[1:] == (b"\0", b"alice")]
    assert real.listens("alice", "a.b") == any(b"a.b".startswith(topic) for topic in announced)
