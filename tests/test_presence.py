"""The decisions about readiness, and the sentences about who is missing: pure, without a socket."""

import random
import sys

import pytest

from gilmsg import _diagnosis, _presence
from gilmsg._presence import Peers, Route, announcement, present, ready

TOPIC = "org.example.dev.t"
ACKS = "org.example.dev.gilmsg.ack"
DIRECT = Route(TOPIC, "tcp://here:1", False, ACKS)
RELAY = Route(TOPIC, "tcp://relay:1", True, ACKS)
ALICE = announcement("", "alice")


def peers(*frames):
    found = Peers()
    for frame in frames:
        found.note(frame)
    return found


def on(prefix):
    return b"\x01" + prefix


def off(prefix):
    return b"\x00" + prefix


def linked(**links):
    return links.get


def sentence(
    entry, here, route=DIRECT, links=None, refused=None, strangers=(), left=sys.maxsize, waited=0.25
):
    return _diagnosis.explain(
        entry, route, here, (links or {}).get, lambda name: ["tcp://%s:1" % name],
        _diagnosis.Heard(refused or {}, strangers, waited, left),
    )


def test_an_announcement_is_no_topic_and_starts_with_one():
    """It is T, a NUL, and the name: a longer prefix than T, so libzmq sends T first."""
    assert announcement("org.x", "älice") == "org.x\0älice".encode()
    assert announcement("", "alice") == b"\0alice"


def test_each_peer_is_counted():
    """Of two peers with the same subscription, one that leaves does not take the other along."""
    here = peers(on(ALICE), on(ALICE), off(ALICE))
    assert here.listens("alice", TOPIC)
    here.note(off(ALICE))
    assert not here.listens("alice", TOPIC) and not here.anyone()


def test_an_end_without_a_beginning_is_ignored():
    """An unsubscription from what was never subscribed to changes nothing, before or after."""
    here = peers(off(ALICE), off(b""), on(ALICE))
    assert here.listens("alice", TOPIC)
    assert here.ended("alice") is None


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
    assert not here.anyone() and not here.listens("a", TOPIC) and here.ended("a") is not None


@pytest.mark.parametrize(
    "parts", [[b""], [b"\x02x"], [b"rubbish\0alice"], [on(ALICE), b"more"], [b"x", on(ALICE)]]
)
def test_what_is_no_subscription_is_ignored(parts):
    """Empty frames, other kinds, and messages that look like a subscription change nothing."""
    here = Peers()
    here.note(*parts)
    assert not here.anyone() and here.ended("alice") is None


def test_names_that_are_not_utf8_harm_nobody():
    """Rubbish names are counted apart from each other, told in ASCII, and never an error."""
    here = peers(on(b"\xff\0\xfe"), on(b"\xff\0\xfd"), on(b"\xff\0alice"), off(b"\xff\0\xfe"))
    assert here.anyone() and not here.listens("alice", TOPIC)
    sentence("alice", here).encode("ascii")
    here.note(off(b"\xff\0\xfd"))
    assert here.topics("alice")


def test_names_may_hold_a_nul():
    """Only the first NUL divides topic and name."""
    here = peers(on(b"org\0a\0b"))
    assert here.topics("a\0b") == ["org"] and not here.topics("a")


def test_the_cap_keeps_the_counts_right(monkeypatch):
    """At the most, new prefixes are left out; those known are counted, and all is forgotten again."""
    monkeypatch.setattr(_presence, "_MOST", 3)
    here = peers(*(on(b"%d" % n) for n in range(5)))
    here.note(on(b"0"))
    here.note(off(b"0"))
    assert here.subscribed("0") and not here.subscribed("4")
    for n in range(5):
        here.note(off(b"%d" % n))
    assert not here.anyone()


def test_those_who_left_are_forgotten_in_the_end(monkeypatch):
    """A peer that comes and goes under new names for ever takes no memory for ever."""
    monkeypatch.setattr(_presence, "_MOST", 3)
    here = Peers()
    for n in range(10):
        here.note(on(announcement("", str(n))))
        here.note(off(announcement("", str(n))))
    assert [n for n in range(10) if here.ended(str(n)) is not None] == [7, 8, 9]


def test_all_ends_with_the_only_connection():
    """When a relay's connection is lost, nobody is here, and who was is known to have gone."""
    here = peers(on(b""), on(b""), on(ALICE))
    here.end_all()
    assert not here.anyone() and here.ended("alice") == here.mark == 4
    here.note(on(b""))
    assert here.subscribed(TOPIC)


def test_topics_are_prefixes():
    """Who listens to a prefix of the topic listens to it; to a longer or another one, not."""
    for prefix, expected in [("", 1), ("org", 1), (TOPIC, 1), (TOPIC + ".x", 0), ("com", 0)]:
        here = peers(on(announcement(prefix, "alice")))
        assert here.listens("alice", TOPIC) == bool(expected)
        assert (here.listens_since("alice", TOPIC) is not None) == bool(expected)


def test_only_a_listener_asks_for_just_the_ack_topic():
    """Who subscribes to everything is no ACK listener."""
    assert not peers(on(b""), on(b"org")).asked_for("org.gilmsg.ack")
    assert peers(on(b"org.gilmsg.ack")).asked_for("org.gilmsg.ack")


@pytest.mark.parametrize(
    "link, expected", [(None, True), (True, True), (False, False)], ids=["unknown", "up", "down"]
)
def test_present_is_announced_and_linked(link, expected):
    """An announcement counts unless the known way back is down; a plain subscription never counts."""
    assert present("alice", DIRECT, peers(on(ALICE)), linked(alice=link)) is expected
    assert not present("alice", DIRECT, peers(on(b"")), linked(alice=True))
    assert not present("alice", DIRECT, peers(on(announcement("com", "alice"))), linked(alice=True))


def test_ready_means_all_and_of_a_group_one():
    """Each recipient must be present; of a group, one member."""
    here = peers(on(ALICE))
    assert ready(["alice"], DIRECT, here, linked())
    assert not ready(["alice", "bob"], DIRECT, here, linked())
    assert ready(["alice", "bob,alice"], DIRECT, here, linked())
    assert not ready(["bob,carol"], DIRECT, here, linked())
    assert ready([], DIRECT, Peers(), linked())


def test_through_a_relay_its_subscription_stands_for_all():
    """Behind a relay nobody is seen: it must take the topic, and known ways back must be up."""
    here = peers(on(b"org"))
    assert ready(["alice", "bob"], RELAY, here, linked(alice=True))
    assert not ready(["alice"], RELAY, here, linked(alice=False))
    assert not ready(["alice"], RELAY, peers(on(b"com")), linked())
    assert not ready(["alice"], RELAY, Peers(), linked())


def test_any_topic_of_ours():
    """Without a topic, whoever takes in some topic of ours hears us; an ACK listener stands for no relay."""
    for prefix, expected in [("", 1), ("org.example", 1), (TOPIC, 1), ("org.example.prod", 0), ("com", 0)]:
        here = peers(on(announcement(prefix, "alice")))
        assert present("alice", DIRECT._replace(topic=None), here, linked()) == bool(expected)
    anything = RELAY._replace(topic=None)
    assert ready([], anything, Peers(), linked()) and not ready(["alice"], anything, peers(on(ACKS.encode())), linked())
    assert ready(["alice"], anything, peers(on(b"")), linked())


def test_the_sentence_where_no_message_left():
    """Asked without a message, the sentences speak of none, and name the topic that was asked for."""
    route = DIRECT._replace(topic=None, told="any topic of ours (org.example.dev.*)")
    assert _diagnosis.absent("alice", route, peers(on(ALICE))) is None
    assert _diagnosis.absent("alice", route, peers(on(announcement("com", "alice")))) == (
        "connected to us, but not subscribed to any topic of ours (org.example.dev.*) (only to 'com')"
    )
    assert _diagnosis.absent("", RELAY, peers(on(b""), off(b""))) == "the relay at tcp://relay:1 has gone"


UNPROVEN = "its ACK did not come, it may have received the message"
MAY = ": " + UNPROVEN
UNKNOWN = " (certnames names no endpoint of it: whether its ACK can reach us is not known)"

#: What is seen -> what is said of alice.
SEEN = {
    "nobody": (
        [], "never connected to us: nobody at all is connected to our socket tcp://here:1"
    ),
    "our own listener": (
        [on(ACKS.encode()), on(announcement(ACKS, "x"))],
        "never connected to us: nobody at all is connected to our socket tcp://here:1",
    ),
    "a listener and others": (
        [on(ACKS.encode()), on(b"")], "never connected to us as a gilmsg consumer"
    ),
    "others": ([on(b"")], "never connected to us as a gilmsg consumer"),
    "another topic": (
        [on(announcement("com", "alice")), on(announcement("net", "alice"))],
        "connected to us, but not subscribed to this topic (only to 'com', 'net')",
    ),
    "gone": ([on(ALICE), off(ALICE)], "it was connected to us and has gone"),
    "back": ([on(ALICE), off(ALICE), on(ALICE)], "listening, but silent for 0.25 s" + MAY + UNKNOWN),
    "one of two gone": ([on(ALICE)] * 2 + [off(ALICE)], "listening, but silent for 0.25 s" + MAY + UNKNOWN),
}


@pytest.mark.parametrize("seen", sorted(SEEN))
def test_the_sentence_says_what_was_seen(seen):
    """Each state of a recipient has its sentence."""
    frames, expected = SEEN[seen]
    assert sentence("alice", peers(*frames)) == expected


def test_the_sentence_tells_before_from_after():
    """What changed after the message left is told apart from what was so when it left."""
    frames = [on(b""), on(ALICE), off(ALICE), on(ALICE)]
    assert "listening, but silent" in sentence("alice", peers(*frames), left=4)
    assert sentence("alice", peers(*frames), left=3) == (
        "it is listening now, but was not yet seen listening when the message left; " + UNPROVEN
    )
    gone = "it has gone since the message left; " + UNPROVEN
    assert sentence("alice", peers(*frames[:3]), left=2) == gone
    assert sentence("alice", peers(*frames[:3]), left=3) == "it was connected to us and has gone"


def test_the_sentence_of_the_way_back():
    """A listening recipient whose endpoint is not linked is told with that endpoint."""
    here = peers(on(ALICE))
    assert sentence("alice", here, links={"alice": True}) == "listening, but silent for 0.25 s" + MAY
    assert sentence("alice", here, links={"alice": False}) == (
        "it is listening, but its endpoint tcp://alice:1 cannot be reached for the ACK, or not yet again; "
        + UNPROVEN
    )


def test_the_sentences_of_a_relay():
    """A relay that is not there, takes not this topic, or is there, recipients unseen."""
    up = {"alice": True}
    assert sentence("alice", Peers(), RELAY, up) == "the relay at tcp://relay:1 is not there"
    assert sentence("alice", peers(on(b"com")), RELAY, up) == (
        "the relay at tcp://relay:1 does not take this topic"
    )
    assert sentence("alice", peers(on(b"")), RELAY, up) == (
        "the relay is there, behind it recipients cannot be seen; silent for 0.25 s" + MAY
        + _diagnosis._SIGNING_RELAY
    )
    assert sentence("alice", peers(on(b"")), RELAY, {"alice": False}) == (
        "the relay is there, but its endpoint tcp://alice:1 cannot be reached "
        "for the ACK, or not yet again; " + UNPROVEN
    )


def test_a_relay_that_goes_is_told_before_from_after():
    """Whether the relay went before the message left or afterwards is told apart."""
    here, up = peers(on(b""), off(b"")), {"alice": True}
    assert sentence("alice", here, RELAY, up, left=2) == (
        "the relay at tcp://relay:1 has gone; it may get the message when it is back"
    )
    assert sentence("alice", here, RELAY, up, left=1) == (
        "the relay at tcp://relay:1 has gone since the message left; " + UNPROVEN
    )


def test_a_refused_ack_is_the_reason_whoever_sent_it():
    """The refusal is told; if its owner is not even there, that too: somebody else may have sent it."""
    here, refused = peers(on(ALICE)), {"alice": "its signature is invalid"}
    told = "an ACK came in its name and was refused: its signature is invalid"
    assert sentence("alice", here, refused=refused) == told
    assert sentence("alice", peers(on(b"")), refused=refused) == (
        told + "; besides, never connected to us as a gilmsg consumer"
    )


def test_of_a_group_each_member_is_told():
    """Each member of a group has its own reason."""
    here = peers(on(ALICE), off(ALICE), on(announcement("", "bob")))
    assert sentence("alice,bob", here, links={"bob": True}) == (
        "alice: it was connected to us and has gone | bob: listening, but silent for 0.25 s" + MAY
    )


def test_foreign_signers_are_named():
    """Who else signed an ACK is said; a crowd is cut short."""
    here = peers(on(ALICE))
    assert sentence("alice", here, strangers=["x", "y"]).endswith(
        "; an ACK for this message came signed by x, y instead"
    )
    assert sentence("alice", here, strangers=list("abcdefg")).endswith("a, b, c, d, e and 2 more instead")
