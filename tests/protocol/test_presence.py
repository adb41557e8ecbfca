"""Who listens, and who is ready: subscriptions in every order, without a socket."""

import random

import pytest

from gilmsg._protocol import Peers, Route, announcement, hears, presence, present, ready

TOPIC = "org.example.dev.t"
ACKS = "org.example.dev.gilmsg.ack"
DIRECT = Route(TOPIC, "tcp://here:1", False, ACKS)
RELAY = Route(TOPIC, "tcp://relay:1", True, ACKS)
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


@pytest.mark.parametrize(
    ("events", "since", "ended"),
    [
        ("", None, None),
        ("+", 1, None),
        ("-", None, None),
        ("+-", None, 2),
        ("-+", 2, None),
        ("++", 1, None),
        ("++-", 1, None),
        ("++--", None, 4),
        ("+-+", 3, 2),
        ("+--+", 4, 2),
        ("+-+-", None, 4),
        ("+!", None, 2),
        ("++!", None, 3),
        ("+!+", 3, 2),
        ("+!-", None, 2),
        ("!+", 2, None),
        ("++!+-", None, 5),
        (".+.", 2, None),
        ("+.-.", None, 3),
    ],
)
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
    assert here.mark == len(events)
    assert here.listens_since("alice", TOPIC) == since
    assert here.listens("alice", TOPIC) == here.anyone() == (since is not None)
    assert here.ended("alice") == ended
    assert here.last_end == (ended or 0)


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
    assert not here.anyone()
    assert not here.listens("a", TOPIC)
    assert here.ended("a") is not None


@pytest.mark.parametrize("parts", [[b""], [b"\x02x"], [b"rubbish\0alice"], [on(ALICE), b"more"], [b"x", on(ALICE)]])
def test_what_is_no_subscription_is_ignored(parts):
    """Empty frames, other kinds, and messages that look like a subscription change nothing."""
    here = Peers()
    here.note(*parts)
    assert not here.anyone()
    assert here.ended("alice") is None


def test_names_that_are_not_utf8_harm_nobody():
    """Rubbish names are counted apart from each other, and never an error."""
    here = peers(on(b"\xff\0\xfe"), on(b"\xff\0\xfd"), on(b"\xff\0alice"), off(b"\xff\0\xfe"))
    assert here.anyone()
    assert not here.listens("alice", TOPIC)
    here.note(off(b"\xff\0\xfd"))
    assert here.topics("alice") == ["\udcff"]


def test_names_may_hold_a_nul():
    """Only the first NUL divides topic and name."""
    here = peers(on(b"org\0a\0b"))
    assert here.topics("a\0b") == ["org"]
    assert not here.topics("a")


def test_beyond_the_limits_nothing_is_counted(monkeypatch):
    """At the most, new prefixes are left out, and that is known; those counted stay right, and all is forgotten again."""
    monkeypatch.setattr(presence, "_MOST", 3)
    here = peers(*(on(b"%d" % n) for n in range(3)))
    assert not here.uncounted
    for frame in (on(b"3"), on(b"0"), off(b"0")):
        here.note(frame)
    assert here.uncounted
    assert here.subscribed("0")
    assert not here.subscribed("3")
    for n in range(4):
        here.note(off(b"%d" % n))
    assert not here.anyone()


@pytest.mark.parametrize(("length", "counted"), [(1024, True), (1025, False)])
def test_a_subscription_has_a_length(length, counted):
    """One that is longer than any topic and name is left out."""
    here = peers(on(b"x" * length))
    assert (here.anyone(), here.uncounted) == (counted, not counted)


def test_those_who_left_are_forgotten_in_the_end(monkeypatch):
    """A peer that comes and goes under new names for ever takes no memory for ever."""
    monkeypatch.setattr(presence, "_MOST", 3)
    here = Peers()
    for n in range(10):
        here.note(on(announcement("", str(n))))
        here.note(off(announcement("", str(n))))
    assert [n for n in range(10) if here.ended(str(n)) is not None] == [7, 8, 9]


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
    assert not here.listens("bob", TOPIC)


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
    assert here.asked_for(ACKS) is expected
    assert here.anyone(besides=ACKS) is not expected
    assert not peers(on(announcement(ACKS, "x"))).anyone(besides=ACKS)


@pytest.mark.parametrize(
    ("frames", "link", "expected"),
    [
        ([on(ALICE)], None, True),
        ([on(ALICE)], True, True),
        ([on(ALICE)], False, False),
        ([on(b"")], True, False),
        ([on(announcement("com", "alice"))], True, False),
        ([], True, False),
    ],
    ids=["unknown", "up", "down", "a plain subscription", "another topic", "nobody"],
)
def test_present_is_announced_and_linked(frames, link, expected):
    """An announcement counts unless the known way back is down; a plain subscription never counts."""
    assert present("alice", DIRECT, peers(*frames), lambda name: link) is expected


HERE = [on(ALICE), on(b"org")]


@pytest.mark.parametrize(
    ("recipients", "route", "frames", "links", "expected"),
    [
        ([], DIRECT, [], {}, True),
        (["alice"], DIRECT, HERE, {}, True),
        (["alice", "bob"], DIRECT, HERE, {}, False),
        (["alice", "bob,alice"], DIRECT, HERE, {}, True),
        (["bob,carol"], DIRECT, HERE, {}, False),
        (["alice,bob"], DIRECT, HERE, {"alice": False}, False),
        (["alice", "bob"], RELAY, HERE, {"alice": True}, True),
        (["alice"], RELAY, HERE, {"alice": False}, False),
        (["alice"], RELAY, [on(b"com")], {}, False),
        (["alice"], RELAY, [], {}, False),
        (["alice"], RELAY._replace(topic=None), [on(ACKS.encode())], {}, False),
        (["alice"], RELAY._replace(topic=None), [on(b"")], {}, True),
    ],
)
def test_ready_means_all_and_of_a_group_one(recipients, route, frames, links, expected):
    """Each recipient must be present, of a group one member; through a relay its subscription stands for all."""
    assert ready(recipients, route, peers(*frames), links.get) is expected


@pytest.mark.parametrize(
    ("prefix", "expected"), [("", 1), ("org.example", 1), (TOPIC, 1), ("org.example.prod", 0), ("com", 0)]
)
def test_any_topic_of_ours(prefix, expected):
    """Without a topic, whoever takes in some topic of ours hears us."""
    assert hears("alice", DIRECT._replace(topic=None), peers(on(announcement(prefix, "alice")))) == bool(expected)
