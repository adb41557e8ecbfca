"""Who listens, and who is ready: subscriptions in every order, without a socket."""

import random

import pytest

from gilmsg._protocol import Peers, Way, announcement, presence

TOPIC = "org.example.dev.t"
ACKS = "org.example.dev.gilmsg.ack"
ALICE = announcement("", "alice")


def on(prefix):
    return b"\x01" + prefix


def off(prefix):
    return b"\x00" + prefix


def peers(*frames):
    found = Peers()
    for frame in frames:
        found.note(frame)
    return found


def way(*frames, topic=TOPIC, relay=False, links=None, unresolved=(), told="this topic"):
    endpoint = "tcp://relay:1" if relay else "tcp://here:1"
    linked = (links or {}).get
    return Way(
        topic, endpoint, relay, ACKS, peers(*frames), linked, lambda name: [f"tcp://{name}:1"], lambda _: unresolved, told
    )


@pytest.mark.parametrize(
    ("events", "since", "ended"),
    [
        ("", None, None), ("+", 1, None), ("-", None, None), ("+-", None, 2), ("-+", 2, None), ("++", 1, None),
        ("++-", 1, None), ("++--", None, 4), ("+-+", 3, 2), ("+--+", 4, 2), ("+-+-", None, 4), ("+!", None, 2),
        ("++!", None, 3), ("+!+", 3, 2), ("+!-", None, 2), ("!+", 2, None), ("++!+-", None, 5), (".+.", 2, None),
        ("+.-.", None, 3),
    ],
)  # fmt: skip
def test_every_order_of_coming_and_going(events, since, ended):
    """Each peer is counted; a loss of all ends all; marks tell when. (+ subscribes, - ends, ! all end, . something else)"""
    here = Peers()
    for event in events:
        {
            "+": lambda: here.note(on(ALICE)),
            "-": lambda: here.note(off(ALICE)),
            "!": here.end_all,
            ".": lambda: here.note(on(b"x"), b"more"),
        }[event]()
    assert (here.mark, here.listens_since("alice", TOPIC)) == (len(events), since)
    assert here.anyone() == (since is not None)
    assert (here.ended("alice"), here.last_end) == (ended, ended or 0)


def test_random_subscriptions_end_where_they_began():
    """However the subscriptions of many peers interleave, all ended means nobody is here."""
    source = random.Random(7)
    names = [announcement(t, n) for t in ("", "org", "org.example") for n in ("a", "b")] + [b"", b"org"]
    here, held = Peers(), []
    for _ in range(2000):
        if held and source.random() < 0.5:
            here.note(off(held.pop(source.randrange(len(held)))))
        else:
            held.append(source.choice(names))
            here.note(on(held[-1]))
        assert here.anyone() == bool(held)
        for name in "ab":
            expected = {p.partition(b"\0")[0].decode() for p in held if p.endswith(b"\0" + name.encode())}
            assert here.topics(name) == sorted(expected)
    for prefix in held:
        here.note(off(prefix))
    assert (here.anyone(), here.topics("a")) == (False, [])
    assert here.ended("a") is not None


@pytest.mark.parametrize("parts", [[b""], [b"\x02x"], [b"rubbish\0alice"], [on(ALICE), b"more"], [b"x", on(ALICE)]])
def test_what_is_no_subscription_is_ignored(parts):
    """Empty frames, other kinds, and messages that look like a subscription change nothing."""
    here = Peers()
    here.note(*parts)
    assert (here.anyone(), here.ended("alice")) == (False, None)


def test_names_may_be_anything():
    """Rubbish is counted apart from each other, and never an error; only the first NUL divides topic and name."""
    here = peers(on(b"\xff\0\xfe"), on(b"\xff\0\xfd"), on(b"\xff\0alice"), off(b"\xff\0\xfe"), on(b"org\0a\0b"))
    assert here.listens_since("alice", TOPIC) is None
    here.note(off(b"\xff\0\xfd"))
    assert [here.topics(name) for name in ("alice", "a\0b", "a")] == [["\udcff"], ["org"], []]


def test_beyond_the_limits_nothing_is_counted(monkeypatch):
    """At the most, new prefixes are left out, and that is known; those counted stay right, and all is forgotten again."""
    monkeypatch.setattr(presence, "_MOST", 3)
    here = peers(*(on(b"%d" % n) for n in range(3)))
    assert not here.uncounted
    for frame in (on(b"3"), on(b"0"), off(b"0")):
        here.note(frame)
    assert (here.uncounted, here.subscribed("0"), here.subscribed("3")) == (True, True, False)
    for n in range(4):
        here.note(off(b"%d" % n))
    assert not here.anyone()
    for n in range(10):  # who comes and goes under new names for ever takes no memory for ever
        here.note(on(announcement("", str(n))))
        here.note(off(announcement("", str(n))))
    assert [n for n in range(10) if here.ended(str(n)) is not None] == [7, 8, 9]


@pytest.mark.parametrize(("length", "counted"), [(1024, True), (1025, False)])
def test_a_subscription_has_a_length(length, counted):
    """One that is longer than any topic and name is left out."""
    here = peers(on(b"x" * length))
    assert (here.anyone(), here.uncounted) == (counted, not counted)


@pytest.mark.parametrize("crowd", [0, 200], ids=["few", "many"])
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [("", True), ("o", True), ("org.exa", True), (TOPIC, True), (TOPIC + ".x", False), ("com", False), ("rg", False)],
)
def test_topics_are_prefixes(prefix, expected, crowd):
    """Who listens to a prefix of the topic listens to it, dots or not, however many others it announced."""
    others = [on(announcement(f"z{number}", "alice")) for number in range(crowd)]
    here = peers(*others, on(announcement(prefix, "alice")), on(prefix.encode()))
    assert here.listens_since("alice", TOPIC) == (crowd + 1 if expected else None)
    assert here.subscribed(TOPIC) is expected
    assert here.listens_since("bob", TOPIC) is None


def test_of_several_announcements_the_first_counts():
    """Since when somebody listens is told by the oldest that is in force."""
    here = peers(on(announcement("org", "alice")), on(ALICE), on(announcement(TOPIC, "alice")))
    assert here.listens_since("alice", TOPIC) == 1
    here.note(off(announcement("org", "alice")))
    assert here.listens_since("alice", TOPIC) == 2
    assert here.topics("alice") == ["", TOPIC]


@pytest.mark.parametrize(("prefix", "expected"), [(b"", False), (b"org", False), (ACKS.encode(), True)])
def test_only_a_listener_asks_for_just_the_ack_topic(prefix, expected):
    """Who subscribes to everything is no ACK listener."""
    here = peers(on(prefix))
    assert (here.asked_for(ACKS), here.anyone(besides=ACKS)) == (expected, not expected)
    nacks = ACKS.replace("ack", "nack")
    listener = [on(nacks.encode()), *(on(announcement(topic, "x")) for topic in (ACKS, nacks))]
    assert not peers(*listener).anyone(besides=ACKS)
    assert peers(*listener, on(nacks.encode() + b".x")).anyone(besides=ACKS)


HERE = [on(ALICE), on(b"org")]
ANY = {"topic": None}
AT_RELAY = {"relay": True}


@pytest.mark.parametrize(
    ("events", "awaits"),
    [
        ([], False), ([on(ACKS.encode())], False), ([on(announcement(ACKS, "abc"))], True),
        ([on(announcement(ACKS, "abd"))], False), ([on(announcement("org", "abc"))], False),
        ([on(announcement(ACKS, "abc")), off(announcement(ACKS, "abc"))], False),
    ],
)  # fmt: skip
def test_a_listener_awaits_what_it_has_announced_itself_for(events, awaits):
    """It names the whole topic of answers, and its own origin."""
    here = Peers()
    for event in events:
        here.note(event)
    assert here.awaits("abc", ACKS) is awaits


@pytest.mark.parametrize(
    ("recipients", "frames", "options", "expected"),
    [
        ([], [], {}, True), (["alice"], [], {}, False), (["alice"], HERE, {}, True),
        (["alice"], HERE, {"links": {"alice": True}}, True), (["alice"], HERE, {"links": {"alice": False}}, False),
        (["alice"], [on(b"")], {}, False),
        (["alice"], [on(announcement("com", "alice"))], {}, False),
        (["alice", "bob"], HERE, {}, False), (["alice", "bob,alice"], HERE, {}, True),
        (["bob,carol"], HERE, {}, False),
        (["alice,bob"], HERE, {"links": {"alice": False}}, False),
        (["alice", "bob"], HERE, {"links": {"alice": True}, **AT_RELAY}, True),
        (["alice"], HERE, {"links": {"alice": False}, **AT_RELAY}, False),
        (["alice"], [on(b"com")], AT_RELAY, False),
        (["alice"], [], AT_RELAY, False),
        (["alice"], [on(ACKS.encode())], {**ANY, **AT_RELAY}, False),
        (["alice"], [on(b"")], {**ANY, **AT_RELAY}, True),
        (["alice"], [on(ALICE)], ANY, True),
        (["alice"], [on(announcement("org.example", "alice"))], ANY, True),
        (["alice"], [on(announcement(TOPIC, "alice"))], ANY, True),
        (["alice"], [on(announcement("org.example.prod", "alice"))], ANY, False),
        (["alice"], [on(announcement("com", "alice"))], ANY, False),
    ],
)
def test_ready_means_all_and_of_a_group_one(recipients, frames, options, expected):
    """Each is announced, and linked where that is known, of a group one; a relay's subscription stands for all."""
    assert way(*frames, **options).ready(recipients) is expected


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([on(ALICE)], ("", "alice")), ([on(announcement(TOPIC, "bob"))], (TOPIC, "bob")), ([on(ALICE)] * 2, ("", "alice")),
        ([on(b"org")], None), ([on(ALICE), off(ALICE)], None), ([on(b"x" * 2000 + ALICE)], None), ([b""], None),
    ],
)  # fmt: skip
def test_an_announcement_is_told(frames, told):
    """Each, though another peer has announced the same: of two the first may be of one that has lost its connection."""
    here = Peers()
    assert [here.note(frame) for frame in frames][-1] == told
    assert here.note(on(announcement("more", "carol")), b"frames") is None


def test_the_announcements_in_force():
    """One for each topic and name, until its last one ends."""
    here = peers(on(ALICE), on(ALICE), off(ALICE), on(announcement(TOPIC, "alice")), on(announcement("", "bob")))
    assert sorted(here.announced()) == [("", "alice"), ("", "bob"), (TOPIC, "alice")]


@pytest.mark.parametrize(
    ("topic", "ours"),
    [
        ("", True), ("org.exam", True), ("org.example.dev.", True), ("org.example.dev.a.b", True),
        ("org.example.prod", False), ("com", False),
    ],
)  # fmt: skip
def test_who_may_get_messages_of_our_bus(topic, ours):
    """Who subscribes to a beginning of its topics, or to one of them."""
    assert presence.of_our_bus(topic, ACKS) == ours
