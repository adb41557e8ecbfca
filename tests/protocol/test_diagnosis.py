"""The sentences about who is missing, their codes, and what becomes of an entry: pure, without a socket."""


import pytest

from gilmsg._protocol import BEHIND_RELAY, Entry, absent, announcement, diagnosis, result
from gilmsg._protocol.delivery import DIGEST_DIFFERS
from gilmsg.errors import Reason, Timeout

from .test_presence import ACKS, ALICE, TOPIC, off, on, way

UNPROVEN = "its ACK did not come, it may have received the message"
SILENT = f"listening, but silent for 0.25 s: {UNPROVEN}"
UNKNOWN = " (certnames names no endpoint of it: whether its ACK can reach us is not known)"
NOBODY = "never connected to us: nobody at all is connected to our socket tcp://here:1"
STRANGER = "never connected to us as a gilmsg consumer"
REFUSED = "an ACK came in its name and was refused: "
AT_RELAY = "the relay at tcp://relay:1"
NOT_YET = f"it is listening now, but was not yet seen listening when the message left; {UNPROVEN}"
FAR = "but its endpoint tcp://alice:1 cannot be reached for the ACK"
RELAY, UP, DOWN = {"relay": True}, {"links": {"alice": True}}, {"links": {"alice": False}}


UNSIGNED = (
    "; the message was not signed, and recipients that validate signatures, as we do, drop such a one: set sign_messages "
    "to True"
)


def sent(recipients, *frames, left=0, refused=(), strangers=(), unsigned=False, nacked=(), **options):
    way_there = way(*frames, **options)
    entry = Entry("1", TOPIC, "d", [b"", b""], recipients, 0.25, None, way_there, unsigned=unsigned)
    entry.nacked = {name: (code, 0.1) for name, code in nacked}
    entry.left, entry.refused, entry.strangers = left, dict(refused), set(strangers)
    return entry


def reason(recipient, frames, **options):
    return result(sent([recipient], *frames, **options)).missing[recipient]


GONE = [on(ALICE), off(ALICE)]
BACK = [on(b""), on(ALICE), off(ALICE), on(ALICE)]
HERE = [on(b""), on(ALICE)]

#: What is seen, and of which way -> what is said of alice, its code, and whether it may have arrived.
SEEN = {
    "nobody": ([], {}, NOBODY, "never_connected", False),
    "our own listener": ([on(ACKS.encode()), on(announcement(ACKS, "x"))], {}, NOBODY, "never_connected", False),
    "a listener and others": ([on(ACKS.encode()), on(b"")], {}, STRANGER, "never_connected", True),
    "others": ([on(b"")], {}, STRANGER, "never_connected", True),
    "others of another topic": ([on(b"com")], {}, STRANGER, "never_connected", False),
    "others who left before": ([on(b""), off(b"")], {"left": 2}, NOBODY, "never_connected", False),
    "others who left after": ([on(b""), off(b"")], {"left": 1}, NOBODY, "never_connected", True),
    "another topic": (
        [on(announcement("com", "alice")), on(announcement("net", "alice"))], {},
        "connected to us, but not subscribed to this topic (only to 'com', 'net')", "other_topic", False,
    ),
    "seven other topics": (
        [on(announcement(name, "alice")) for name in "abcdefg"], {},
        "connected to us, but not subscribed to this topic (only to 'a', 'b', 'c', 'd', 'e' and 2 more)",
        "other_topic", False,
    ),
    "gone": (GONE, {}, "it was connected to us and has gone", "gone", False),
    "gone before": (GONE, {"left": 2}, "it was connected to us and has gone", "gone", False),
    "gone after": (GONE, {"left": 1}, f"it has gone since the message left; {UNPROVEN}", "gone", True),
    "one of two gone": ([on(ALICE), *GONE, on(b"")], UP, SILENT, "silent", True),
    "back": (BACK, UP, SILENT, "silent", True),
    "back before": (BACK, {"left": 4, **UP}, SILENT, "silent", True),
    "back after": (BACK, {"left": 3, **UP}, NOT_YET, "gone", True),
    "come after": (HERE, {"left": 1}, NOT_YET, "never_connected", True),
    "silent": (HERE, UP, SILENT, "silent", True),
    "silent, endpoints unknown": (HERE, {}, SILENT + UNKNOWN, "silent", True),
    "unsigned": (HERE, {"unsigned": True, **UP}, SILENT + UNSIGNED, "unsigned", True),
    "unsigned, endpoints unknown": (HERE, {"unsigned": True}, SILENT + UNKNOWN + UNSIGNED, "unsigned", True),
    "unsigned, and gone": (GONE, {"unsigned": True}, "it was connected to us and has gone", "gone", False),
    "unreachable": (HERE, DOWN, f"it is listening, {FAR}, or not yet again; {UNPROVEN}", "unreachable", True),
    "unresolved": (
        HERE, {"unresolved": ["tcp://alice:1"], **DOWN},
        f"it is listening, {FAR}: the host name does not resolve; {UNPROVEN}", "unresolved", True,
    ),
    "unresolved, but another endpoint is linked": (
        HERE, {"unresolved": ["tcp://alice:1"], **UP}, SILENT, "silent", True,
    ),
    "refused": (
        HERE, {"refused": {"alice": "its signature is invalid"}}, REFUSED + "its signature is invalid", "ack_refused", True,
    ),
    "refused, and away": (
        [on(b"")], {"refused": {"alice": "its certificate is revoked"}},
        f"{REFUSED}its certificate is revoked; besides, {STRANGER}", "ack_refused", True,
    ),
    "another digest": (
        HERE, {"refused": {"alice": DIGEST_DIFFERS}},
        f"{REFUSED}its digest differs, what it received is not what was sent", "digest_differs", True,
    ),
    "beyond what is counted": ([on(b"x" * 2000)], {}, NOBODY, "never_connected", True),
    "a name that is not UTF-8": (
        [on(b"\xff\0alice")], {},
        "connected to us, but not subscribed to this topic (only to '\\udcff')", "other_topic", False,
    ),
    "no relay": ([], {**RELAY, **UP}, f"{AT_RELAY} is not there", "relay_absent", False),
    "a relay of another topic": (
        [on(b"com")], {**RELAY, **UP}, f"{AT_RELAY} does not take this topic", "relay_refuses_topic", False,
    ),
    "a relay": (
        [on(b"")], {**RELAY, **UP},
        f"{BEHIND_RELAY}; silent for 0.25 s: {UNPROVEN}{diagnosis._SIGNING_RELAY}", "silent", True,
    ),
    "unreachable behind a relay": (
        [on(b"")], {**RELAY, **DOWN}, f"the relay is there, {FAR}, or not yet again; {UNPROVEN}", "unreachable", True,
    ),
    "a relay gone before": (
        [on(b""), off(b"")], {**RELAY, "left": 2},
        f"{AT_RELAY} has gone; it may get the message when it is back", "relay_gone", True,
    ),
    "a relay gone after": (
        [on(b""), off(b"")], {**RELAY, "left": 1},
        f"{AT_RELAY} has gone since the message left; {UNPROVEN}", "relay_gone", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("seen", SEEN)
def test_the_reason_says_what_was_seen(seen):
    """Each state of a recipient has its sentence, its code, and says whether the message may have arrived."""
    frames, options, text, code, arrived = SEEN[seen]
    found = reason("alice", frames, **{"left": len(frames), **options})
    assert isinstance(found, Reason)
    assert (str(found), found.code, found.may_have_arrived, found.members) == (text, code, arrived, {})


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("signature", "it takes the signature for invalid"), ("policy", "its routing policy does not allow it"),
        ("trust", "its CA or CRL has expired or cannot be used"),
        ("\x1b[2J", "its reason is unknown to this version of gilmsg"),
    ],
)  # fmt: skip
def test_a_nack_is_quoted(code, text):
    """Whatever else is seen; in our words, for a later version may know more codes."""
    for options in (UP, DOWN, RELAY, {"refused": {"alice": "its signature is invalid"}}):
        found = reason("alice", HERE, nacked=[("alice", code)], **options)
        assert (found.code, found.may_have_arrived) == ("nacked", True)
        spoiled = " (as after a fedmsg-signing-relay, which spoils what was signed already)"
        hint = spoiled if options is RELAY and code == "signature" else ""
        assert found == f"it received the message and dropped it, as its NACK says: {text}{hint}"
    assert reason("alice", HERE, nacked=[("bob", code)], **UP).code != "nacked"


@pytest.mark.parametrize("options", [UP, DOWN, RELAY, {"unsigned": True}])
def test_a_handler_that_failed_is_told(options):
    """It did get the message: nothing else that is seen of it matters, nor how the message was signed."""
    found = reason("alice", HERE, nacked=[("alice", "handler")], **options)
    assert (found.code, found.may_have_arrived) == ("nacked", True)
    assert found == "it received the message, and its handler failed, as its NACK says"


def test_of_a_group_each_member_is_told():
    """Each member of a group has its own reason, and the group's says them all."""
    frames = [*GONE, on(b""), on(announcement("", "bob"))]
    found = reason("alice,bob", frames, links={"bob": True}, left=4, strangers="x")
    assert found == (
        f"alice: it was connected to us and has gone | bob: {SILENT}; an ACK for this message came signed by x instead"
    )
    assert (found.code, found.may_have_arrived) == ("group", True)
    assert {name: one.code for name, one in found.members.items()} == {"alice": "gone", "bob": "silent"}
    assert found.members["bob"] == SILENT


@pytest.mark.parametrize(
    ("strangers", "named"),
    [("x", "x"), ("yx", "x, y"), ("abcde", "a, b, c, d, e"), ("abcdefg", "a, b, c, d, e and 2 more")],
)
def test_foreign_signers_are_named(strangers, named):
    """Who else signed an ACK is said of each one missing; a crowd is cut short."""
    found = reason("alice", [on(b"")], strangers=strangers)
    assert found == f"{STRANGER}; an ACK for this message came signed by {named} instead"
    assert found.code == "never_connected"


@pytest.mark.parametrize(
    ("options", "frames", "text"),
    [
        ({}, [on(ALICE)], None),
        ({"topic": None}, [on(announcement("org.example.dev.x", "alice"))], None),
        (
            {"topic": None, "told": "any topic of ours"}, [on(announcement("com", "alice"))],
            "connected to us, but not subscribed to any topic of ours (only to 'com')",
        ),
        (RELAY, [on(b"")], None),
        ({"told": "'t'", **RELAY}, [on(b"com")], f"{AT_RELAY} does not take 't'"),
        (RELAY, [on(b""), off(b"")], f"{AT_RELAY} has gone"),
        ({"topic": None, **RELAY}, [], f"{AT_RELAY} is not there"),
    ],
)  # fmt: skip
def test_the_sentence_where_no_message_left(options, frames, text):
    """Asked without a message, the sentences speak of none, and name the topic that was asked for."""
    assert absent("alice", way(*frames, **options)) == text


def test_an_entry_becomes_a_receipt_or_a_timeout():
    """Who acknowledged, how long it took, and of each one missing a reason."""
    entry = sent(["alice", "bob"])
    entry.acks["alice"] = 0.5
    del entry._open["alice"]
    timeout = result(entry)
    assert isinstance(timeout, Timeout)
    assert (timeout.msg_id, timeout.topic, timeout.ack_timeout, timeout.acks) == ("1", TOPIC, 0.25, {"alice": 0.5})
    assert timeout.missing == {"bob": NOBODY}
    assert str(timeout) == f"{TOPIC} 1: 1 of 2 recipients acknowledged within 0.25 s; missing: bob ({NOBODY})"
    del entry._open["bob"]
    assert result(entry)._asdict() == {"msg_id": "1", "topic": TOPIC, "acks": {"alice": 0.5}}
