"""Property-based tests of everything that parses what came from the bus; see ``parsers``.

Derandomized: the same examples on each run. More: ``GILMSG_EXAMPLES=100000 pytest tests/faults/test_fuzz.py``.
"""

import base64
import json
import os
import warnings

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .. import inside
from ..helpers import compose, digest
from ..inside import protocol
from . import parsers

EXAMPLES = int(os.environ.get("GILMSG_EXAMPLES", "50"))

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize="GILMSG_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

#: Text and keys that mean something to us, among any others.
words = st.sampled_from(
    ["msg", "topic", "msg_id", "gilmsg", "recipients", "alice", "bob,alice", "ack_msg_id", "ack_digest",
     "signature", "certificate", "crypto", "x509", parsers.TOPIC, "org.example.dev.x.gilmsg.ack"]
)
texts = st.one_of(words, st.text(max_size=20))


def nested(floats):
    return st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), floats, texts),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
        max_leaves=6,
    )


values = nested(st.floats())
payloads = nested(st.floats(allow_nan=False, allow_infinity=False))
marker = st.fixed_dictionaries({"recipients": st.one_of(values, st.lists(texts, max_size=3))})
messages = st.one_of(
    st.dictionaries(texts, values, max_size=6),
    st.fixed_dictionaries(
        {"topic": texts, "msg_id": texts, "msg": st.fixed_dictionaries({"gilmsg": marker})},
        optional={"gilmsg_version": values, "i": values},
    ),
    st.fixed_dictionaries(
        {"topic": texts, "msg": st.fixed_dictionaries({"ack_msg_id": values}, optional={"ack_digest": values})}
    ),
)


@pytest.fixture(scope="module")
def ground():
    ground = parsers.Ground()
    yield ground
    ground.close()


def mutated(data, original, most=4):
    """*original* with some bytes changed, cut out, repeated or put in."""
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, most))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        end = at + data.draw(st.integers(0, 30))
        kind = data.draw(st.sampled_from(["change", "cut", "repeat", "insert"]))
        if kind == "change":
            changed[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
        elif kind == "cut":
            del changed[at:end]
        elif kind == "repeat":
            changed[end:end] = changed[at:end]
        else:
            changed[at:at] = data.draw(st.one_of(st.binary(max_size=8), texts.map(
                lambda text: text.encode("utf-8", "surrogatepass"))))
    return bytes(changed)


@fuzz
@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes(parts):
    """Whatever bytes come, decoding ends in a message or a BadFrame."""
    parsers.frame(parts)


@fuzz
@given(messages)
@example({"msg": {"ack_msg_id": "\ud800"}})
def test_any_json_object(ground, message):
    """Whatever object comes, canonical form, ACK and what is owed agree with each other."""
    parsers.frame([b"t", json.dumps(message).encode()])
    ground.verify(message)


@fuzz
@given(st.data())
def test_any_change_to_a_real_ack(ground, data):
    """A changed ACK confirms nothing, unless nothing that it says has changed."""
    changed = mutated(data, ground.wire)
    topic = data.draw(st.sampled_from([parsers.TOPIC.encode()] * 4 + [b"", b"x"]))
    ground.take([topic, changed])
    parsers.frame([topic, changed])


@fuzz
@given(st.data())
def test_any_field_of_a_real_ack_replaced(ground, data):
    """The same where whole fields are replaced, so that the JSON stays in order."""
    fields = st.sampled_from(sorted(ground.ack))
    message = dict(ground.ack, **data.draw(st.dictionaries(fields, values, max_size=3)))
    body = dict(ground.ack["msg"], **data.draw(st.dictionaries(texts, values, max_size=2)))
    if data.draw(st.booleans()):
        message["msg"] = body
    ground.verify(message)
    ground.take([parsers.TOPIC.encode(), json.dumps(message).encode()])


@fuzz
@given(st.data())
def test_any_change_to_a_certificate(ground, data):
    """No certificate, however broken, gets anything but Refused out of the parsers."""
    pem = base64.b64decode(ground.ack["certificate"])
    lines = pem.splitlines(True)
    der = mutated(data, base64.b64decode(b"".join(lines[1:-1])))
    encoded = base64.encodebytes(lines[0] + base64.encodebytes(der) + lines[-1]).decode()
    message = dict(ground.ack, certificate=encoded)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography says what it tolerates
        ground.verify(message)
        ground.take([parsers.TOPIC.encode(), json.dumps(message).encode()])


@fuzz
@given(st.dictionaries(texts.filter(lambda key: key != "gilmsg"), payloads, max_size=6), texts)
def test_the_digest_is_that_of_what_arrives(ground, payload, topic):
    """The digest that publish awaits, of what it signed, is that of what a recipient decodes."""
    message = compose(topic, protocol.marked(payload, ["alice"]))
    sealed, covered, wire = inside.sealed(message, ground.config, "alice")
    arrived = protocol.Received.of([b"", wire])
    assert arrived.message == sealed
    assert protocol.digest_of(covered) == digest(arrived.message)
    assert ground.verifier.signer_of(arrived.message, arrived.covered) == "alice"


def test_the_real_ack_counts(ground):
    """Unchanged, or written in another way, the ACK is confirmed: the harness itself works."""
    assert ground.take([parsers.TOPIC.encode(), ground.wire])
    assert ground.take([parsers.TOPIC.encode(), json.dumps(ground.ack, indent=1).encode()])


@fuzz
@given(st.lists(st.tuples(st.sampled_from([b"\0", b"\x01", b"\x02", b""]), st.one_of(
    st.sampled_from([b"", b"a", b"a.b", b"a\0alice", b"\0alice", b"b\0alice", b"a\0bob", b"\0"]),
    st.binary(max_size=5))).map(b"".join), max_size=30))
def test_any_upstream_frames(frames):
    """The publisher's picture of its subscribers is right, whatever they send."""
    parsers.peers(frames)


@fuzz
@given(st.text(max_size=40))
def test_the_sieve_finds_every_id(msg_id):
    """Whatever the id, the sieve finds it in the bytes of an ACK as it is looked for."""
    parsers.sieve(msg_id)
