"""A hostile process on the bus with everything but the recipients' keys, among real recipients.

alice and bob are real processes; bob is told to be silent. So alice's real ACK comes, and the
attacker, a process of its own that hears all traffic, tries to make one of bob out of what it has. Each
attack must be heard by the listener, and must leave bob missing. What a forger of every single
rule can do is in tests/test_ack_checks.py.
"""

import functools
import hashlib
import shutil

import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import make_known, make_room, own_config
from ..helpers import ack_body, chain_checks, signed, told
from ..processes import wait_for
from .attacks import ATTACKS
from .talker import Talker


@pytest.fixture(scope="module")
def field():
    """A bus with alice and bob on it, and room for others."""
    bus = Sandbox(["alice", "bob"])
    make_room(bus, "hostile", "middle")
    make_known(bus, "carol")
    with bus:
        yield bus


@pytest.fixture(scope="module")
def attacker(field, tmp_path_factory):
    """The hostile process, with keys of its own."""
    loot = str(tmp_path_factory.mktemp("loot"))
    issue_keys(field.authority, loot, lambda: str(tmp_path_factory.mktemp("ca")))
    process = Talker("tests.faults.attacker", {"loot": loot, "endpoints": field.config["endpoints"]})
    try:
        process.hear("ready")
        yield process
    finally:
        process.stop()


def issue_keys(authority, loot, new_folder):
    """Put into *loot* what the CA and others have issued to the attacker, and bob's certificate."""
    for name in ("mallory", "Bob", "bob\u00ad"):
        authority.issue(name, folder=loot)
    authority.revoke(authority.issue("old", common_names=["bob"], folder=loot))
    authority.issue("ended", common_names=["bob"], days=-1, folder=loot)
    authority.issue("early", common_names=["bob"], age=-1, folder=loot)
    # The same names everywhere, even the CA's own; only the keys differ.
    inside.authority(new_folder()).issue("bob of another CA", common_names=["bob"], folder=loot)
    alone = inside.authority(new_folder(), name="bob")
    inside.write_key(alone, loot + "/bob by himself.key")
    shutil.copy(alone.ca_file, loot + "/bob by himself.crt")
    below = inside.authority(new_folder(), name="mallory")
    inside.read_key(below, loot + "/mallory.key")
    below.issue("bob of mallory", common_names=["bob"], folder=loot)
    shutil.copy(f"{authority.folder}/bob.crt", loot)


def tell(attacker, order, **more):
    """Give it an order; return how many events came before."""
    before = len(attacker.events())
    attacker.order(dict(more, order=order))
    return before


def events(attacker, kind, before=0):
    return [event for event in attacker.events()[before:] if event["event"] == kind]


@pytest.fixture
def heard(monkeypatch):
    """The SHA-256 of each frame that reaches the listener."""
    taken = set()
    inside.spy(monkeypatch, lambda parts: taken.add(hashlib.sha256(parts[-1]).hexdigest()))
    return taken


def said_by_bob(field, message):
    """What else bob may sign, and anybody hears: a message with the body of the ACK that is awaited."""
    topics = {"another topic": "org.example.dev.x.y", "another environment": "org.example.stg.gilmsg.ack"}
    return {
        name: signed(field.config, "bob", ack_body(message), topic=topic) for name, topic in topics.items()
    }


def test_no_forgery_makes_an_ack_of_the_silent(field, attacker, heard, monkeypatch):
    """Of all that the attacker can make of what he hears, nothing counts as bob's ACK."""
    config = own_config(field, **{"gilmsg.head_start": 20.0})
    alice, bob = (signed(field.config, name, {})["certificate"] for name in ("alice", "bob"))
    field.well("bob")

    def both_heard():  # the attacker's own connections need a moment, too
        gilmsg.publish(topic="t", msg={}, recipients=["alice", "bob"], ack_timeout=20.0, **config)
        return {alice, bob} <= {event["certificate"] for event in events(attacker, "ack")}

    both_heard() or wait_for(both_heard, "the attacker hears alice and bob")
    checks = chain_checks(monkeypatch)
    both_heard()
    assert not checks, "the caches are not hot: no certificate of alice and bob is remembered"
    wait_for(lambda: inside.connected(config["endpoints"]["hostile"][0]), "the attacker is heard")
    field.silent("bob")
    for patience in (4.0, 20.0, 60.0):
        left = []
        future = gilmsg.publish_async(
            topic="t", msg={"n": 1}, recipients=["alice", "bob"], ack_timeout=patience,
            pre_fire_hook=lambda message, left=left: left.append(dict(message)), **config
        )
        before = tell(
            attacker, "forge", message=left[0], said=said_by_bob(field, left[0]), alice=alice, bob=bob
        )
        wait_for(lambda before=before: attacker.said("done", before), "the attacker has sent all")
        sent = {event["attack"]: event["sha256"] for event in events(attacker, "sent", before)}
        assert set(sent) == set(ATTACKS)
        wait_for(lambda sent=sent: set(sent.values()) <= heard, "the listener has heard all")
        if not future.done():
            break  # else it came too late to tell
    else:
        pytest.fail("the attacks came too late each time")
    with pytest.raises(gilmsg.Timeout) as raised:
        future.result(90)
    field.well("bob")
    assert list(raised.value.missing) == ["bob"] and list(raised.value.acks) == ["alice"]


def test_a_recipient_that_was_handed_altered_content_does_not_count(field, attacker, monkeypatch):
    """A man in the middle alters what a consumer that does not validate gets: no success."""
    config = own_config(field, **{"gilmsg.head_start": 20.0})
    middle = config["endpoints"]["middle"]
    behind = dict(
        config, name="carol", validate_signatures=False,
        endpoints={"publisher": middle, "carol": config["endpoints"]["carol"]},
    )
    before = tell(
        attacker, "pass on", of="publisher", at=middle[0], claims="carol",
        instead=['"amount":1', '"amount":1000000'],
    )
    carol = Talker(inside.STAND_IN, behind)
    try:
        carol.hear("ready")
        wait_for(lambda: attacker.said("victim", before), "carol listens to the man in the middle")
        send = lambda ack_timeout, **body: gilmsg.publish(
            topic="t", msg=body, recipients=["carol"], ack_timeout=ack_timeout, **config
        )
        send(20.0, harmless=True)  # passed on as it is, it counts
        checks = chain_checks(monkeypatch)
        told("digest differs", functools.partial(send, amount=1))
    finally:
        carol.stop()
        tell(attacker, "rest")
    assert not checks  # her certificate was remembered, and helped nobody
    handed = [e["message"]["msg"].get("amount") for e in carol.events() if e["event"] == "message"]
    assert 1000000 in handed


def test_a_faked_presence_confirms_nothing(field, attacker):
    """Who announces another's name makes nobody believe that the message arrived."""
    before = tell(attacker, "announce", name="nobody")
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["nobody"], **dict(own_config(field), **{
            "gilmsg.ack_timeout": 0.3, "gilmsg.head_start": 20.0}))
    wait_for(lambda: attacker.said("got", before), "the liar has got the message")
    tell(attacker, "rest")
    assert "may have received" in raised.value.missing["nobody"]
