"""ACKs that count, ACKs that do not, deadlines, and the order of leaving: with a clock of numbers."""

import contextlib

import pytest

from gilmsg import _protocol as protocol
from gilmsg._protocol import Delivery, Entry, Lines, delivery
from gilmsg.errors import BadFrame, ConfigurationError, Refused

from .test_presence import ACKS, ALICE, TOPIC, off, on, way

DIGEST, NACK = "0" * 64, ACKS.replace("ack", "nack")


class Verifier:
    """Takes the field "signature" for the signer's name; "!" before it makes it a wrong one."""

    def __init__(self):
        self.checked = self.quoted = 0

    def signer_of(self, message, covered):
        self.checked += 1
        assert covered == protocol.canonical(message)
        signer = message.get("signature")
        if signer is None:
            raise Refused("it is not signed")
        if signer.startswith("!"):
            raise Refused("its signature is invalid", signer[1:])
        return signer

    def claimed_name(self, message):
        self.quoted += 1
        return (message.get("signature") or "").lstrip("!") or None


def entry(msg_id, *recipients, ack_timeout=5.0):
    return Entry(msg_id, TOPIC, DIGEST, [b"t", b"{}"], recipients or ["alice"], ack_timeout, Verifier(), way())


def ack(signer="alice", msg_id="1", digest=DIGEST, topic=ACKS, envelope=ACKS, **fields):
    body = {"ack_msg_id": msg_id, "ack_digest": digest}
    if digest is None:
        del body["ack_digest"]
    message = {"topic": topic, "msg": body, "signature": signer, **fields}
    return [envelope.encode(), protocol.encode(message)]


def waiting(*recipients):
    awaits, one = Delivery(ACKS), entry("1", *recipients)
    awaits.expect(one, 100.0)
    return awaits, one


@pytest.mark.parametrize(
    ("recipients", "signers", "acks"),
    [
        (["alice"], ["alice"], ["alice"]), (["alice", "bob"], ["bob", "alice"], ["bob", "alice"]),
        (["alice,bob"], ["bob"], ["bob"]),
        (["alice,bob", "carol"], ["carol", "alice"], ["carol", "alice"]),
        (["alice,bob", "bob,carol"], ["bob"], ["bob"]),
        (["alice,bob", "bob"], ["alice", "bob"], ["alice", "bob"]),
        (["alice,bob", "carol"], ["alice", "bob", "carol"], ["alice", "bob", "carol"]),
        (["alice", "bob"], ["alice", "alice", "alice", "bob"], ["alice", "bob"]),
        (["alice", "bob"], ["!bob", "bob", "alice"], ["bob", "alice"]),
        (["alice", "bob"], ["mallory", "alice", "bob"], ["alice", "bob"]),
    ],
    ids=[
        "one", "two, in any order", "a member", "a group and a name", "one in two groups", "a group and its member",
        "both members", "duplicates", "a forged one before", "a stranger before",
    ],
)  # fmt: skip
def test_the_last_ack_that_is_missing_settles(recipients, signers, acks):
    """Each name, and one member of each group, must answer; then the entry is settled and forgotten."""
    awaits, one = waiting(*recipients)
    for number, signer in enumerate(signers[:-1]):
        assert awaits.frame(ack(signer), 100.0 + number) is None
        assert one.missing()
    assert awaits.frame(ack(signers[-1]), 103.0) is one
    assert not one.missing()
    assert not len(awaits._entries)
    assert list(one.acks) == acks
    assert one.acks[acks[-1]] == 3.0
    assert protocol.result(one) == ("1", TOPIC, one.acks)


REFUSED = {
    "unsigned": (ack(None), {}, []),
    "a wrong signature": (ack("!alice"), {"alice": "its signature is invalid"}, []),
    "a wrong signature of nobody awaited": (ack("!mallory"), {}, []),
    "another signer": (ack("mallory"), {}, ["mallory"]),
    "a group as a name": (ack("alice,bob"), {}, ["alice,bob"]),
    "another digest": (ack(digest="1" * 64), {"alice": delivery.DIGEST_DIFFERS}, []),
    "another digest, a stranger": (ack("mallory", digest="1" * 64), {}, []),
    "another digest, unsigned": (ack(None, digest=""), {}, []),
    "another id": (ack(msg_id="2"), {}, []),
    "an id that only begins so": (ack(msg_id="12"), {}, []),
    "another envelope": (ack(envelope=ACKS + ".x"), {}, []),
    "an announcement": (ack(envelope=ACKS + "\0x"), {}, []),
    "one part": (ack()[1:], {}, []),
    "three parts": ([*ack(), b""], {}, []),
    "no part": ([], {}, []),
    "no ACK": ([ACKS.encode(), b"{}"], {}, []),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_proves_nothing_is_kept_for_the_diagnosis_at_most(how):
    """It settles nothing, and what it says of a recipient is kept; the right ACK counts after it all the same."""
    frame, refused, strangers = REFUSED[how]
    awaits, one = waiting("alice", "bob")
    assert awaits.frame(frame, 101.0) is None
    assert (one.acks, one.refused, sorted(one.strangers)) == ({}, refused, strangers)
    assert awaits.frame(ack("bob"), 101.0) is None
    assert awaits.frame(ack(), 101.0) is one


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (ack(topic=ACKS + ".x"), "its signed topic or id differs"),
        (ack(topic=None), "its signed topic or id differs"),
        (ack(msg_id="2", a={"ack_msg_id": "1"}), "its signed topic or id differs"),
        (ack(padding="x" * protocol.LARGEST_ACK), "bytes are too many for an ACK"),
        (ack(digest=7), "its ack_digest is not a string"),
        (ack(msg_id=None, a={"ack_msg_id": "1"}), "it has no ack_msg_id"),
        ([ACKS.encode(), b'{"ack_msg_id": "1"'], "it cannot be decoded"),
        ([ACKS.encode(), b'["ack_msg_id", {"ack_msg_id": "1"}]'], "it is a JSON list"),
    ],
    ids=["topic", "no topic", "id", "size", "digest", "no id", "not JSON", "no object"],
)
def test_what_is_no_ack_at_all_is_a_bad_frame(frame, text):
    """It is told to whoever reads the socket, and the entry waits on, its signature never looked at."""
    awaits, one = waiting()
    with pytest.raises(BadFrame, match=text):
        awaits.frame(frame, 101.0)
    assert (one.verifier.checked, one.missing()) == (0, ["alice"])
    assert awaits.frame(ack(), 101.0) is one


@pytest.mark.parametrize("frame", [ack(msg_id="2"), ack(digest="1" * 64), ack(envelope="x"), [ACKS.encode(), b""]])
def test_no_signature_is_checked_for_what_cannot_count(frame):
    """A flood of foreign ACKs must cost nothing; one without digest counts, gilmsg 0.1.x knows none."""
    awaits, one = waiting()
    for _ in range(100):
        awaits.frame(frame, 101.0)
    assert one.verifier.checked == 0
    assert awaits.frame(ack(digest=None), 101.0) is one


def test_of_a_flood_of_altered_acks_the_first_are_read():
    """All are counted, the certificates of 64 are read, and the reason kept for a name is the first."""
    awaits, one = waiting("alice", "bob")
    for _ in range(100):
        awaits.frame(ack(digest="x"), 101.0)
    awaits.frame(ack("!alice"), 101.0)
    assert (one.altered, one.verifier.quoted, one.refused) == (100, 64, {"alice": delivery.DIGEST_DIFFERS})


@pytest.mark.parametrize("end", ["settled", "expired", "forgotten", "cleared"])
def test_a_late_ack_is_nobodys(end):
    """Whatever ended the wait, an ACK after it changes nothing, and the id may be used again."""
    awaits, one = waiting()
    {
        "settled": lambda: awaits.frame(ack(), 101.0),
        "expired": lambda: awaits.expired(105.0),
        "forgotten": lambda: awaits.forget(one),
        "cleared": awaits.clear,
    }[end]()
    acks = dict(one.acks)
    assert awaits.frame(ack(), 106.0) is None
    awaits.forget(one)
    assert (one.acks, awaits._entries) == (acks, {})
    again = entry("1")
    awaits.expect(again, 200.0)
    assert awaits.expired(204.9) == []
    assert awaits.frame(ack(), 204.9) is again


def test_an_acknowledged_name_is_refused_nothing_any_more():
    """A forged ACK after the right one says nothing of its owner; and a second entry of that id is refused."""
    awaits, one = waiting("alice", "bob")
    for signer in ("alice", "!alice", "alice"):
        assert awaits.frame(ack(signer), 101.0) is None
    awaits.frame(ack(digest="x"), 101.0)
    assert (one.refused, one.strangers, one.missing()) == ({}, set(), ["bob"])
    with pytest.raises(ConfigurationError, match="a message with the id '1' still waits for its ACKs"):
        awaits.expect(entry("1"), 101.0)
    assert awaits.frame(ack("bob"), 101.0) is one


@pytest.mark.parametrize(
    ("now", "expired"),
    [(100.0, []), (100.9, []), (101.0, ["b"]), (102.5, ["b", "a"]), (103.0, ["b", "a", "c"]), (1e9, ["b", "a", "c"])],
)
def test_what_is_due_expires_in_order(now, expired):
    """At its deadline and not before; the earliest is told as the next."""
    awaits = Delivery(ACKS)
    entries = {name: entry(name, ack_timeout=wait) for name, wait in (("a", 2.0), ("b", 1.0), ("c", 3.0))}
    for one in entries.values():
        awaits.expect(one, 100.0)
    assert awaits.next_due() == 101.0
    assert [one.msg_id for one in awaits.expired(now)] == expired
    left = [one.deadline for one in entries.values() if one.msg_id not in expired]
    assert (awaits.next_due(), len(awaits._entries)) == (min(left, default=None), len(left))


def test_what_is_settled_does_not_expire():
    """Deadlines of what was forgotten come to nothing, also where the id is used again."""
    awaits, first = waiting()
    again, other = entry("1", ack_timeout=9.0), entry("2", ack_timeout=6.0)
    awaits.expect(other, 100.0)
    awaits.forget(first)
    awaits.forget(first)
    awaits.expect(again, 100.0)
    assert awaits.expired(107.0) == [other]
    assert awaits.expired(110.0) == [again]


@pytest.mark.parametrize(
    ("urgent", "end", "patient"),
    [
        ([False] * 4, None, False), ([False] * 5, None, True), ([False] * 4 + [True], None, False),
        ([True] + [False] * 5, "its ACK", True), ([True] + [False] * 5, "forgotten", True),
        ([True] + [False] * 5, "expired", True), ([True] + [False] * 5, "cleared", False), ([False] * 5, "its ACK", False),
        ([True, True] + [False] * 5, "its ACK", False),
    ],
)  # fmt: skip
def test_many_for_which_no_thread_waits_bear_patience(urgent, end, patient):
    """More than four, and none that is urgent; the end of the first counts, in whatever way it ends."""
    awaits = Delivery(ACKS)
    entries = [entry(str(number), ack_timeout=5.0 if number else 1.0) for number in range(len(urgent))]
    for one, hurry in zip(entries, urgent):
        one.urgent = hurry
        awaits.expect(one, 100.0)
    first = {
        None: lambda: None, "its ACK": lambda: awaits.frame(ack(msg_id="0"), 100.5), "cleared": awaits.clear,
        "forgotten": lambda: awaits.forget(entries[0]), "expired": lambda: awaits.expired(101.0),
    }  # fmt: skip
    first[end]()
    assert awaits.patient is patient


def test_deadlines_of_settled_entries_take_no_memory():
    """However many entries were settled behind one that still waits, few deadlines are kept; that one's is."""
    awaits, first = waiting()
    for number in range(1000):
        one = entry(f"x{number}", ack_timeout=1000.0 + number)
        awaits.expect(one, 100.0)
        awaits.forget(one)
        assert awaits.next_due() == 105.0
    assert len(awaits._deadlines) <= 70
    assert awaits.expired(105.0) == [first]
    assert awaits.next_due() is None


def nack(signer="alice", reason="policy", topic=NACK, envelope=None, **fields):
    [_, frame] = ack(signer, **fields, topic=topic)
    message = protocol.Received.of([b"", frame]).message
    message["msg"].update({} if reason is None else {"reason": reason})
    return [(envelope or topic).encode(), protocol.encode(message)]


#: A NACK, or what claims to be one -> those whose NACK counts, and signatures that were checked for it.
NACKS = {
    "right": (nack(), ["alice"], 1),
    "of a member of a group": (nack("carol"), ["carol"], 1),
    "with an unknown code": (nack(reason="moon"), ["alice"], 1),
    "forged": (nack("!alice"), [], 1),
    "unsigned": (nack(None), [], 1),
    "of a stranger": (nack("mallory"), [], 1),
    "for other content": (nack(digest="1" * 64), [], 0),
    "without digest": (nack(digest=None), [], 0),
    "for another id": (nack(msg_id="2"), [], 0),
    "under a longer topic": (nack(envelope=ACKS.replace("ack", "nack.x")), [], 0),
}


@pytest.mark.parametrize("how", NACKS)
def test_a_nack_is_a_diagnosis(how):
    """It settles nothing, and is no refused ACK; the ACKs that come after it count."""
    frame, signers, checked = NACKS[how]
    awaits, one = waiting("alice", "bob,carol")
    for _ in range(2):
        assert awaits.frame(frame, 101.0) is None
    assert (list(one.nacked), one.acks, one.refused, one.strangers) == (signers, {}, {}, set())
    assert (one.verifier.checked, one.missing()) == (2 * checked, ["alice", "bob,carol"])
    assert awaits.frame(ack("bob"), 102.0) is None
    missing = protocol.result(one).missing
    assert list(missing) == ["alice"] and (missing["alice"].code == "nacked") is ("alice" in signers)
    assert awaits.frame(ack(), 103.0) is one
    assert protocol.result(one).acks == {"bob": 2.0, "alice": 3.0}


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (nack(envelope=ACKS), "its signed topic or id differs"), (nack(topic=ACKS, envelope=NACK), "its signed topic"),
        (nack(reason=None), "it has no reason"), (nack(reason=7), "it has no reason"),
        (nack(padding="x" * protocol.LARGEST_ACK), "bytes are too many for an ACK"),
    ],
    ids=["as an ACK", "an ACK as a NACK", "no reason", "odd reason", "size"],
)  # fmt: skip
def test_a_nack_is_never_an_ack(frame, text):
    """Sent as one it is a bad frame, as an ACK is that was sent as a NACK: the topic is signed."""
    awaits, one = waiting()
    with pytest.raises(BadFrame, match=text):
        awaits.frame(frame, 101.0)
    assert (one.acks, one.nacked, one.verifier.checked) == ({}, {}, 0)


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ([], ""), ([(0.0, "a")], "0"), ([(0.0, "a"), (0.9, "a"), (1.0, "a")], "02"),
        ([(0.0, "a"), (0.0, "b"), (0.0, "a"), (0.5, "b")], "01"),
        ([(0.1 * n, str(n)) for n in range(20)], "012341011121314"),
        ([(0.0, str(n)) for n in range(1000)], "01234"),
    ],
)  # fmt: skip
def test_nacks_are_few(asked, allowed):
    """One a second to each listener, and five in all; what was refused does not count."""
    limit = protocol.NackLimit()
    assert "".join(str(n) for n, (when, origin) in enumerate(asked) if limit.allows(origin, when)) == allowed
    assert len(limit._allowed) <= 5


BOB = protocol.announcement("", "bob")


def end_of(recipients, events, fail_fast=True, ack_timeout=10.0, **options):
    """What becomes of a message that leaves at 0.0, and when: *events* are pairs of a time and something to do.

    Whoever is called "away" was there, and had left before.
    """
    links = {"alice": True, "bob": True, "away": False}
    away = protocol.announcement("", "away")
    here = way(on(b""), on(ALICE), on(BOB), on(away), off(away), links=options.pop("links", links), **options)
    one = Entry("1", TOPIC, DIGEST, [], recipients, ack_timeout, Verifier(), here, fail_fast=fail_fast)
    one.left = here.peers.mark
    awaits, events = Delivery(ACKS), list(events)
    awaits.expect(one, 0.0)
    while True:
        now = min(awaits.next_due(), *(when for when, _ in events[:1]), ack_timeout)
        if events and events[0][0] <= now:
            do = events.pop(0)[1]
            if isinstance(do, dict):
                links.update(do)
            elif isinstance(do, bytes):
                here.peers.note(do)
            elif awaits.frame(do, now) is one:
                break
        if awaits.expired(now):
            break
    assert (awaits.next_due(), len(awaits._entries)) == (None, 0)
    return protocol.result(one), round(now, 1)


DOWN, UP = {"alice": False}, {"alice": True}
KILLED = [(1.0, off(ALICE)), (1.0, DOWN)]

#: What happens to alice, or to bob besides -> recipients, events, since when the wait is in vain (10.0: it never is), or
#: when the Receipt comes.
FAST = {
    "killed": (["alice"], KILLED, 1.0),
    "its connection ends first": (["alice"], KILLED[::-1], 1.0),
    "left before the message": (["away"], [], 0.0),
    "never there": (["nobody"], [], 10.0),
    "only its announcement ends: a stranger can do that": (["alice"], KILLED[:1], 10.0),
    "a stranger ends its announcement, it answers": (["alice"], [(1.0, off(ALICE)), (9.0, ack())], "9.0"),
    "only the connection to it ends": (["alice"], KILLED[1:], 10.0),
    "a connection that was away for a moment": (["alice"], [*KILLED, (1.9, UP)], 10.0),
    "one that was away twice": (["alice"], [*KILLED, (1.9, UP), (2.3, DOWN)], 2.3),
    "back in time, and it answers": (["alice"], [*KILLED, (1.9, on(ALICE)), (2.5, UP), (5.0, ack())], "5.0"),
    "back for less than a look": (["alice"], [*KILLED, (1.81, on(ALICE)), (1.82, off(ALICE))], 1.82),
    "it listens to other topics still": (["alice"], [(0.0, on(protocol.announcement("com", "alice"))), *KILLED], 10.0),
    "its ACK was on its way": (["alice"], [*KILLED, (1.5, ack())], "1.5"),
    "a stranger replays its revoked certificate": (["alice"], [(1.0, ack("!alice")), (8.0, ack())], "8.0"),
    "one of two": (["alice", "bob"], KILLED, 1.0),
    "one of two, which has answered": (["alice", "bob"], [(0.5, ack()), *KILLED, (8.0, ack("bob"))], "8.0"),
    "a member of a group": (["alice,bob"], KILLED, 10.0),
    "a member of a group, the other answers": (["alice,bob"], [*KILLED, (5.0, ack("bob"))], "5.0"),
    "each member": (["alice,away"], KILLED, 1.0),
    "it says that it dropped the message": (["alice"], [(2.0, nack())], 2.0),
    "a stranger made it say so, it answers": (["alice"], [(0.0, nack()), (0.9, ack())], "0.9"),
    "somebody says so in its name": (["alice"], [(1.0, nack("!alice")), (1.1, nack("mallory"))], 10.0),
    "it says so again and again": (["alice"], [(1.0 + n / 10, nack()) for n in range(9)], 1.0),
    "it says so of other content": (["alice"], [(1.0, nack(digest="1" * 64))], 10.0),
    "through a relay it says so": (["alice"], [(3.0, nack())], 3.0, {"relay": True}),
    "a member says so": (["alice,bob"], [(1.0, nack())], 10.0),
    "a member says so, the other is gone": (["alice,bob"], [(0.5, nack("bob")), *KILLED], 1.0),
    "it says so of one that it confirmed": (["alice", "bob"], [(1.0, ack()), (1.0, nack()), (5.0, ack("bob"))], "5.0"),
    "a group, and one of it": (["alice,bob", "alice"], KILLED, 1.0),
}


@pytest.mark.parametrize("how", FAST)
def test_with_fail_fast_a_wait_in_vain_ends(how):
    """Once a recipient is gone for a second, as no stranger can feign; whoever may still answer is waited for."""
    recipients, events, end, *options = FAST[how]
    found, at = end_of(recipients, events, **dict(*options))
    if isinstance(end, str):
        assert (type(found), at) == (protocol.Receipt, float(end))
    elif end == 10.0:
        assert (at, found.ack_timeout) == (10.0, 10.0)
    else:
        assert end + 1.0 <= at <= end + 1.5 and found.ack_timeout == pytest.approx(at, abs=0.06)
        assert f"acknowledged within {found.ack_timeout:g} s" in str(found)


@pytest.mark.parametrize(
    ("recipient", "options"),
    [
        ("alice", {"fail_fast": False}), ("alice", {"relay": True}), ("alice", {"links": {}}),
        ("away", {"fail_fast": False}), ("away", {"relay": True}), ("away", {"links": {}}),
    ],
    ids=lambda one: one if isinstance(one, str) else ", ".join(one),
)  # fmt: skip
def test_who_may_not_be_gone_is_waited_for(recipient, options):
    """Without fail_fast, through a relay, or where its endpoints are unknown, the deadline ends the wait."""
    assert end_of([recipient], KILLED, **options)[1] == 10.0


def test_of_many_that_fail_fast_only_those_in_vain_end():
    """Others wait on, some of them without a look; when all have ended nothing is due."""
    awaits = Delivery(ACKS)
    here = way(on(BOB), off(BOB), on(b""), on(ALICE), links={"alice": True, "bob": False})
    for number, (name, fast) in enumerate([("alice", True), ("bob", True), ("bob", False), ("alice", False)]):
        awaits.expect(Entry(str(number), TOPIC, DIGEST, [], [name], 5.0, Verifier(), here, fail_fast=fast), 0.0)
    ended = [(round(now / 10, 1), one.msg_id) for now in range(60) for one in awaits.expired(now / 10)]
    assert ended == [(1.3, "1"), (5.0, "0"), (5.0, "2"), (5.0, "3")]
    assert awaits.next_due() is None


class Item:
    """Waits to leave, in a test."""

    def __init__(self, name, until=10.0, isready=False, abandoned=False):
        self.name, self.until, self.isready, self.abandoned = name, until, isready, abandoned

    def ready(self):
        return self.isready


READY, GONE, DUE, WAITS = {"isready": True}, {"abandoned": True}, {"until": 1.0}, {}


@pytest.mark.parametrize(
    ("submitted", "ripe", "due"),
    [
        ([], "", None), ([("t", READY)], "0", None), ([("t", WAITS)], "", 10.0), ([("t", DUE)], "0", None),
        ([("t", GONE)], "0", None), ([("t", WAITS), ("t", READY)], "", 10.0),
        ([("t", READY), ("t", WAITS), ("t", READY)], "0", 10.0),
        ([("t", GONE), ("t", DUE), ("t", READY)], "012", None),
        ([("t", WAITS), ("u", READY), ("t", READY)], "1", 10.0),
        ([("t", WAITS), (None, READY), (None, WAITS), (None, READY)], "13", 10.0),
        ([("t", READY), ("u", READY), ("t", READY)], "021", None),
        ([("t", {"until": 7.0}), ("u", {"until": 5.0})], "", 5.0),
        ([("t", {"until": 7.0}), ("t", {"until": 5.0})], "", 7.0),
    ],
    ids=[
        "nothing", "ready", "waits", "due", "abandoned", "behind one that waits", "a ready head frees the next",
        "all free the next", "another thread", "no thread", "in each thread's order", "the next due", "only heads are due",
    ],
)  # fmt: skip
def test_a_threads_items_leave_in_its_order(submitted, ripe, due):
    """One that waits holds back what its thread handed over later, and nobody else's."""
    lines = Lines()
    for number, (thread, how) in enumerate(submitted):
        lines.submit(thread, Item(str(number), **how))
    assert bool(lines) is bool(submitted)
    assert "".join(item.name for item in lines.ripe(1.0)) == ripe
    assert lines.next_due() == due
    assert all(lines._lines.values())  # threads come and go: nothing is kept of those that hold nothing
    assert len(lines.clear()) == len(submitted) - len(ripe)
    assert not lines._lines


def heard(*recipients, **options):
    """An entry whose ACKs are told one by one, and the list of whom was heard."""
    signers = []
    one = Entry("1", TOPIC, DIGEST, [b"t", b"{}"], recipients, 5.0, Verifier(), way(), heard=signers.append, **options)
    return one, signers


def test_each_ack_that_counts_is_told():
    """One by one, as they come: each signer once, of a group each member until the last entry is met; no other one."""
    awaits, (one, signers) = Delivery(ACKS), heard("alice", "bob,carol")
    awaits.expect(one, 100.0)
    for signer in ("carol", "carol", "!alice", "mallory", "bob"):
        assert awaits.frame(ack(signer), 101.0) is None
    assert awaits.frame(ack("alice", digest="1" * 64), 101.0) is None
    assert signers == ["carol", "bob"]
    assert awaits.frame(ack(), 102.0) is one
    assert signers == ["carol", "bob", "alice"]


def test_a_late_ack_is_told_until_the_next_attempt():
    """It settles nothing, for the end was told; what is met then is forgotten. A next attempt takes its place."""
    awaits, (one, signers) = Delivery(ACKS), heard("alice", "bob")
    awaits.expect(one, 100.0)
    assert awaits.expired(105.0) == [one] and awaits.next_due() is None
    assert awaits.frame(ack(), 106.0) is None and signers == ["alice"]
    next_one, next_signers = heard("alice", "bob", met=["alice"])
    awaits.expect(next_one, 107.0)
    assert awaits.frame(ack("alice"), 108.0) is None
    assert awaits.frame(ack("bob"), 108.0) is next_one
    assert (signers, next_signers) == (["alice"], ["alice", "bob"])
    (one, signers) = heard("alice", "bob")
    awaits.expect(one, 110.0)
    assert awaits.frame(ack(), 111.0) is None
    assert awaits.expired(115.0) == [one]
    for forged in (ack("!bob"), ack("mallory"), ack("bob", digest="1" * 64), ack("alice"), ack("bob", envelope=NACK)):
        with contextlib.suppress(BadFrame):
            assert awaits.frame(forged, 116.0) is None and signers == ["alice"]
    assert awaits.frame(ack("bob"), 116.0) is None and signers == ["alice", "bob"] and not awaits._late
    assert awaits.frame(ack("bob"), 117.0) is None and signers == ["alice", "bob"]


def test_late_entries_are_few(monkeypatch):
    """The oldest go; those whose owner is told the end only are not kept, nor what is cleared."""
    monkeypatch.setattr(delivery, "_MOST_LATE", 2)
    awaits = Delivery(ACKS)
    for number in range(4):
        one = Entry(str(number), TOPIC, DIGEST, [b"t"], ["alice"], 5.0, Verifier(), way(), heard=[].append)
        awaits.expect(one, 100.0)
        assert awaits.expired(105.0) == [one]
    awaits.expect(entry("9"), 100.0)
    awaits.expired(105.0)
    assert [late.msg_id for late in awaits._late.values()] == ["2", "3"]
    assert awaits.clear() == [] and not awaits._late


def test_those_who_are_met_are_not_waited_for():
    """They are named by the message, so their ACKs are no strangers'; the end speaks of the others."""
    awaits, (one, signers) = Delivery(ACKS), heard("alice", "bob", "carol", met=["alice", "bob"])
    assert one.missing() == ["carol"]
    awaits.expect(one, 100.0)
    assert awaits.frame(ack("alice"), 101.0) is None and not one.strangers and signers == ["alice"]
    [late] = awaits.expired(105.0)
    end = protocol.result(late)
    assert list(end.missing) == ["carol"] and "2 of 3 recipients acknowledged" in str(end)
