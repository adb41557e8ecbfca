"""Messages as bytes and fields: topics, ids, marker, ACKs, digests, and what is no message at all."""

import datetime
import hashlib
import json

import pytest

from gilmsg._protocol import wire
from gilmsg._protocol.wire import Received
from gilmsg._version import __version__
from gilmsg.errors import BadFrame, ConfigurationError, PayloadError

CONFIG = {"topic_prefix": "org.example", "environment": "dev"}
ACKS, NACKS = "org.example.dev.gilmsg.ack", "org.example.dev.gilmsg.nack"
UUID = "01234567-89ab-4cde-8f01-23456789abcd"


RESERVED = "is gilmsg's own, for answers of recipients; take another one"


@pytest.mark.parametrize(
    ("topic", "modname", "expected"),
    [
        ("t", "shop", "org.example.dev.shop.t"), (b"t", b"shop", "org.example.dev.shop.t"),
        (None, "shop", "org.example.dev.shop.unspecified"), ("", "shop", "org.example.dev.shop.unspecified"),
        ("t", "org.example.prod", "org.example.prod.t"), ("tür", "shop", "org.example.dev.shop.tür"),
        (7, "shop", ConfigurationError("the topic must be text; it is 7")),
        (b"\xff", "shop", ConfigurationError("the topic must be text; it is b'\\xff'")),
        ("t", None, ConfigurationError("modname must be text; it is None")),
        ("nack", "org.example.gilmsg", ConfigurationError(f"the topic 'org.example.gilmsg.nack' {RESERVED}")),
        ("gilmsg.ack", "shop", ConfigurationError(f"the topic 'org.example.dev.shop.gilmsg.ack' {RESERVED}")),
        ("gilmsg.ack.x", "shop", "org.example.dev.shop.gilmsg.ack.x"),
        ("t\udcff", "shop", ConfigurationError("the topic 'org.example.dev.shop.t\\udcff' is not valid text")),
    ],
)  # fmt: skip
def test_topics_are_formed_as_fedmsg_forms_them(topic, modname, expected):
    """Prefix and environment come first, unless the name begins with the prefix; what is no text is named."""
    if isinstance(expected, str):
        assert wire.full_topic(topic, modname, CONFIG) == expected
        return
    with pytest.raises(ConfigurationError) as raised:
        wire.full_topic(topic, modname, CONFIG)
    assert str(raised.value) == str(expected)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [(ACKS, True), ("com.gilmsg.ack", True), (ACKS + ".x", False), ("gilmsg.ack", False), (None, False), (7, False)],
)
def test_the_ack_topic_is_known_by_its_end(topic, expected):
    """Whatever the prefix and environment."""
    assert wire.ack_topic(CONFIG) == ACKS
    assert wire.on_ack_topic(topic) is wire.is_answer(topic) is expected
    assert wire.nack_topic(ACKS) == NACKS
    nack = topic and str(topic).replace("gilmsg.ack", "gilmsg.nack")
    assert (wire.on_ack_topic(nack), wire.is_answer(nack)) == (False, expected)


@pytest.mark.parametrize(
    ("topic", "name", "expected"),
    [("org.x", "älice", "org.x\0älice".encode()), ("", "alice", b"\0alice"), ("t", "a\0b", b"t\0a\0b")],
)
def test_an_announcement_begins_with_the_topic(topic, name, expected):
    """It is T, a NUL, and the name: a longer prefix than T, so libzmq sends T first."""
    assert wire.announcement(topic, name) == expected


@pytest.mark.parametrize("digits", [None, "00000000", "deadbeef", "0123abcd"])
def test_a_message_has_the_fields_of_fedmsg(digits):
    """The id is year and UUID; an origin, 8 digits and 4 that check them, takes the place of its last 12 digits."""
    origin = digits and wire.checked_origin(digits)
    message = wire.compose("t", {"a": 1}, 3, unique=UUID, year=2026, timestamp=9, username="who", origin=origin)
    msg_id = f"2026-{UUID[:-12]}{origin or UUID[-12:]}"
    assert message == {"topic": "t", "msg": {"a": 1}, "timestamp": 9, "msg_id": msg_id, "i": 3, "username": "who"}
    assert len(msg_id) == 5 + len(UUID)
    assert wire.origin_of(msg_id) == origin
    assert origin is None or origin.startswith(digits)


@pytest.mark.parametrize(
    "msg_id",
    ["", "-", f"2026-{UUID}", "2026-x-deadbeef", "2026-x-deadbeef0000", "2026-x-" + "é" * 12, "2026-\ud800" * 3],
)
def test_an_id_of_others_holds_no_origin(msg_id):
    """Any other text has none, and is never an error."""
    assert wire.origin_of(msg_id) is None


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({}, {}), ({"b": [1, None], "a": "ü"}, {"b": [1, None], "a": "ü"}), ({10: 1, 9: 2}, {"10": 1, "9": 2}),
        ({"when": datetime.date(2026, 1, 1)}, {"when": datetime.datetime(2026, 1, 1).timestamp()}),
    ],
)  # fmt: skip
def test_the_marker_joins_the_decoded_payload(payload, expected):
    """The copy is what arrives at the other end, and names the recipients; the caller's dict stays as it is."""
    before = dict(payload)
    found = wire.marked(payload, ["alice", "b,c"])
    assert found == {**expected, "gilmsg": {"version": __version__, "recipients": ["alice", "b,c"]}}
    assert wire.unmarked(found) == expected == wire.unmarked(expected)
    assert payload == before
    assert [wire.unmarked(body) for body in (None, "text", [1])] == [None, "text", [1]]


def nested(depth):
    found = {}
    for _ in range(depth):
        found = {"x": found}
    return found


NO_JSON = "msg cannot be encoded as JSON, all its keys text: "
ENDLESS = {}
ENDLESS["a"] = ENDLESS


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("text", "msg must be a dict when recipients are given, to carry their names; it is 'text'"),
        ((1, 2), "to carry their names; it is (1, 2)"), (None, "to carry their names; it is None"),
        ("x" * 200, "it is '" + "x" * 79),
        ({"gilmsg": 1}, "msg uses the key 'gilmsg', which gilmsg reserves for itself; rename that key"),
        ({"a": object()}, f"{NO_JSON}msg['a'] is a object (Object of type object is not JSON serializable)"),
        ({(1, 2): 1}, NO_JSON + "msg has the key (1, 2) (keys must be str, int, float, bool or None, not tuple)"),
        ({"b": {1: 1, "a": 1}}, f"{NO_JSON}msg['b'] has the key 1 ("), ({"a": ENDLESS}, f"{NO_JSON}msg['a']['a']['a']"),
        ({"a": float("nan")}, f"{NO_JSON}msg['a'] is a float (Out of range float"),
        ({"a": ({}, [float("-inf")])}, f"{NO_JSON}msg['a'][1][0] is a float (Out of range float"),
        ({"when": 1, "items": [0, 0, 0, {"when": datetime.time()}]}, f"{NO_JSON}msg['items'][3]['when'] is a time ("),
        ({"when": ["x" * 500, {object()}]}, f"{NO_JSON}msg['when'][1] is a set ("),
        (nested(20_000), f"{NO_JSON}msg['x']['x']"),
    ],
    ids=[
        "text", "tuple", "None", "long", "key", "object", "tuple key", "mixed keys", "endless", "nan", "infinity", "time",
        "in a set", "nested",
    ],
)  # fmt: skip
def test_what_cannot_carry_the_marker_is_refused(payload, text):
    """It is a PayloadError, which says what is wrong with the value."""
    with pytest.raises(PayloadError) as raised:
        wire.marked(payload, ["alice"])
    assert text in str(raised.value)
    assert len(str(raised.value)) < 300


def test_what_is_received_may_hold_what_is_no_json():
    """Plain fedmsg sends NaN: its signature covers it, and must be checked; what we send ourselves never holds it."""
    message = Received.of([b"t", b'{"a": NaN}']).message
    assert wire.canonical(message) == b'{"a":NaN}'
    with pytest.raises(ValueError, match="Out of range float"):
        wire.encode(message)


@pytest.mark.parametrize(
    ("entry", "names"), [("a", ["a"]), ("a,b", ["a", "b"]), (" a , b", ["a", "b"]), ("a,", ["a", ""])]
)
def test_a_group_is_names_and_commas(entry, names):
    """Blanks around a name do not count."""
    assert wire.members(entry) == names
    assert wire.members(wire.join_group(names)) == names


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("alice", True), ("alice b", True), ("älice", True), ("a;b", True), ("a,b", False), (",", False), (" alice", False),
        ("alice ", False), ("alice\t", False), ("", False),
    ],
)  # fmt: skip
def test_some_common_names_cannot_be_named(name, fits):
    """In recipients a comma joins a group, and blanks around a name do not count."""
    found = wire.unnameable(name)
    assert found is None if fits else found.startswith(f"the common name {name!r} holds a comma, or begins or ends with")


@pytest.mark.parametrize(
    "message",
    [{"b": 1, "a": "ü"}, {"b": 1, "a": "ü", "signature": "s", "certificate": "c"}, {"a": "ü", "signature": None, "b": 1}],
)
def test_a_signature_covers_all_but_the_credentials(message):
    """The covered bytes are fedmsg's encoding, keys in order, of all the rest."""
    covered = wire.canonical(message)
    assert covered == b'{"a":"\\u00fc","b":1}'
    assert wire.digest_of(covered) == hashlib.sha256(covered).hexdigest()
    received = Received.of([b"t", json.dumps(message).encode()])
    assert received.covered == covered
    assert received.covered is received.covered


def test_what_cannot_be_encoded_again_is_a_bad_frame():
    """It can be nested so deeply that it was decoded and has no covered bytes."""
    with pytest.raises(BadFrame, match="it is nested too deeply"):
        wire.canonical(nested(100_000))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([], "0 parts instead of topic and message"),
        ([b"t"], "1 parts instead of topic and message"),
        ([b"t", b"{}", b""], "3 parts instead of topic and message"),
        ([b"\xff", b"{}"], "it cannot be decoded: "), ([b"t", b"\xff"], "it cannot be decoded: "),
        ([b"t", b""], "it cannot be decoded: "), ([b"t", b"{" * 100], "it cannot be decoded: "),
        ([b"t", b"[" * 200_000], "it cannot be decoded: "), ([b"t", b"[]"], "it is a JSON list, not an object"),
        ([b"t", b'"x"'], "it is a JSON str, not an object"),
        ([b"t", b"null"], "it is a JSON NoneType, not an object"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:24],
)  # fmt: skip
def test_what_is_no_message_is_a_bad_frame(parts, text):
    """Anything but two parts, UTF-8 and a JSON object says why it is none, in few words."""
    with pytest.raises(BadFrame) as raised:
        Received.of(parts)
    assert str(raised.value).startswith(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("message", [None, [], "x", {}, {"topic": 7}])
def test_a_replayed_message_has_a_topic(message):
    """A message without envelope must be an object that tells its topic."""
    with pytest.raises(BadFrame, match="it is no JSON object with a topic"):
        Received.opened(message)
    assert Received.opened({"topic": "t"}).topic == "t"


def to(*recipients, **changes):
    marker = {"version": "1", "recipients": list(recipients)}
    return {"topic": "org.example.dev.t", "msg_id": "2026-1", "msg": {"gilmsg": marker}, **changes}


@pytest.mark.parametrize(
    ("message", "validated", "owed"),
    [
        (to("alice"), True, True), (to("bob", "alice"), True, True), (to("bob, alice"), True, True),
        (to("bob"), False, False), (to("alicea"), False, False), (to(), False, False),
        (to(None, 7, "alice"), True, True), (to("alice", topic=ACKS), True, False), (to("alice", topic=NACKS), True, False),
        (to("alice", msg_id=7), True, False), (to("alice", msg="alice"), True, False),
        (to("alice", msg={"gilmsg": "alice"}), True, False),
        (to("alice", msg={"gilmsg": {"recipients": "alice"}}), True, False),
        (to("bob", gilmsg_version="0.1.2"), False, True),
        (to("bob", gilmsg_version="0.1.2"), True, False),
        (to("bob", gilmsg_version="0.1.2", topic=ACKS), False, False),
        ({}, False, False),
    ],
    ids=[
        "named", "second", "in a group", "another", "a longer name", "nobody", "odd entries", "an ACK", "a NACK", "odd id",
        "odd body", "odd marker", "odd recipients", "0.1.x", "0.1.x, validated", "an ACK of 0.1.x", "empty",
    ],
)  # fmt: skip
def test_an_ack_is_owed_by_whom_the_marker_names(message, validated, owed):
    """It states id and digest; nobody owes one for an ACK, nor for a plain message."""
    received = Received("t", message)
    expected = {"ack_msg_id": "2026-1", "ack_digest": wire.digest_of(received.covered)} if owed else None
    assert received.ack_due("alice", validated) == expected


OURS = "2026-" + UUID[:-12] + wire.checked_origin("0123abcd")


@pytest.mark.parametrize(
    ("message", "owed"),
    [
        (to("bob,alice", msg_id=OURS), True), (to("bob", msg_id=OURS), False), (to("alice"), False),
        (to("alice", msg_id="2026-" + UUID), False), (to("alice", msg_id=7), False), ({"msg_id": OURS}, False),
        (to("alice", msg_id=OURS, topic=ACKS), False), (to("alice", msg_id=OURS, topic=NACKS), False),
        (to("bob", msg_id=OURS, gilmsg_version="0.1.2"), False),
    ],
)  # fmt: skip
def test_a_nack_is_owed_where_a_listener_awaits_it(message, owed):
    """By whom the marker names, for an id that has an origin; never for an answer, nor for a message of 0.1.x."""
    received = Received("t", message)
    digest = wire.digest_of(received.covered)
    body = {"ack_msg_id": OURS, "ack_digest": digest, "reason": "policy"}
    assert received.nack_due("alice", "policy") == ((OURS[-12:], body) if owed else None)


@pytest.mark.parametrize(("msg_id", "origin"), [(OURS, OURS[-12:]), ("2026-" + UUID, None), ("", None)])
def test_a_nack_may_take_the_place_of_an_ack(msg_id, origin):
    """It says of what the ACK would have confirmed, and why not; where the id tells no listener there is none."""
    ack = {"ack_msg_id": msg_id, "ack_digest": "d"}
    assert wire.nack_for(ack, "handler") == (origin and (origin, {**ack, "reason": "handler"}))
    assert "reason" not in ack


@pytest.mark.parametrize("reason", [None, 7, ["policy"]])
def test_a_nack_states_a_reason(reason):
    """A code, that is text, known or not."""
    with pytest.raises(BadFrame, match="it has no reason"):
        wire.nack_reason({"msg": {"reason": reason}})
    assert wire.nack_reason({"msg": {"reason": "x"}}) == "x"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"ack_msg_id": "1", "ack_digest": "d"}, ("1", "d")),
        ({"ack_msg_id": "1"}, ("1", None)),
        ({"ack_msg_id": "1", "ack_digest": None}, "its ack_digest is not a string"),
        ({"ack_msg_id": "1", "ack_digest": ["d"]}, "its ack_digest is not a string"),
        ({"ack_msg_id": 1}, "it has no ack_msg_id"), ({}, "it has no ack_msg_id"), ("1", "it has no ack_msg_id"),
        (None, "it has no ack_msg_id"),
    ],
)  # fmt: skip
def test_an_ack_states_id_and_digest(body, expected):
    """The digest may be absent (0.1.x), but not of another type."""
    if isinstance(expected, str):
        with pytest.raises(BadFrame, match=expected):
            wire.parse_ack({"msg": body})
    else:
        assert wire.parse_ack({"msg": body}) == expected


@pytest.mark.parametrize("msg_id", ["2026-1", "", 'a"b', "a\\", "ü", "\ud800", "\n"])
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_the_sieve_finds_the_id_undecoded(msg_id, separators):
    """The id that the bytes claim is the escaped one, whatever is in it and around it."""
    frame = json.dumps({"msg": {"ack_digest": "d", "ack_msg_id": msg_id}, "i": 1}, separators=separators).encode()
    assert wire.claimed_id(frame) == wire.escaped(msg_id)


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"ack_msg_id": 7}', b'{"ack_msg_id": "open', b"\xff" * 99])
def test_the_sieve_lets_nothing_else_through(frame):
    """What has no such field is no ACK."""
    assert wire.claimed_id(frame) is None
