"""Every reason for which a recipient can be missing, provoked with real processes."""

import os
import signal

import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .conftest import own_config
from .helpers import (
    Forger,
    Hub,
    Inbox,
    Tailer,
    ack_body,
    announcement,
    frames,
    lost,
    publish,
    publish_async,
    signed,
    subscriber,
    until_gone,
    until_present,
    write_config,
)  # fmt: skip
from .processes import Program, script, wait_for

AT_ONCE = {"gilmsg.head_start": 0}
PATIENT = {"gilmsg.head_start": 30.0}

UNPROVEN = "its ACK did not come, it may have received the message"


def only_reason(*recipients, **config):
    [reason] = lost(recipients, **config).missing.values()
    return reason


def test_never_connected(config):
    """Of a recipient that never announced itself, while others did, that is said."""
    publish(["alice"], **config)
    assert only_reason("nobody", **AT_ONCE) == "never connected to us as a gilmsg consumer"


def test_nobody_at_all():
    """On a bus where nobody listens, it is said that nobody is connected, and to which socket."""
    with Sandbox([]) as bus:
        reason = only_reason("alice", **dict(bus.config, **AT_ONCE))
        endpoint = bus.config["endpoints"]["publisher"][0]
    assert reason == "never connected to us: nobody at all is connected to our socket " + endpoint


def test_not_subscribed_to_this_topic(bus, config, tmp_path):
    """A consumer of other topics is connected, and told apart from one that is not there."""
    gilmsg.init(**config)
    with Tailer(own_config(bus, name="carol"), tmp_path, "org.example.dev.other"):
        wait_for(lambda: inside.topics("carol"), "carol is connected")
        assert only_reason("carol", **AT_ONCE) == (
            "connected to us, but not subscribed to this topic (only to 'org.example.dev.other')"
        )


def test_the_endpoint_for_the_ack_cannot_be_reached(bus, config, tmp_path):
    """A consumer whose port we have wrong gets the message; the endpoint at fault is named."""
    wrong = bus.ports.endpoint()
    config["endpoints"]["carol"] = [wrong]
    gilmsg.init(**config)
    with Tailer(own_config(bus, name="carol"), tmp_path):
        wait_for(lambda: inside.listens("carol"), "carol listens")
        assert only_reason("carol", **AT_ONCE) == (
            f"it is listening, but its endpoint {wrong} cannot be reached for the ACK, or not yet again; {UNPROVEN}"
        )


def test_listening_but_silent(bus, config):
    """A recipient that is there and does not answer is told with how long it was silent."""
    gilmsg.init(**config)
    until_present("bob")
    bus.silent("bob")
    timeout = lost(["alice", "bob"], ack_timeout=0.5)
    assert timeout.missing == {"bob": "listening, but silent for 0.5 s: " + UNPROVEN}
    assert str(timeout) == (
        f"org.example.dev.tests.t {timeout.msg_id}: 1 of 2 recipients acknowledged within 0.5 s; missing: bob "
        f"(listening, but silent for 0.5 s: {UNPROVEN})"
    )


def test_silent_and_of_unknown_endpoints(bus, config):
    """Where certnames names no endpoint of a recipient, the sentence says what that leaves open."""
    del config["certnames"]["bob"]
    gilmsg.init(**config)
    until_present("bob")
    bus.silent("bob")
    assert only_reason("bob").endswith("whether its ACK can reach us is not known)")


def test_gone(bus, config):
    """A recipient that was there and was killed before the message left has gone."""
    gilmsg.init(**config)
    until_present("bob")
    bus.dead("bob")
    until_gone("bob")
    assert only_reason("bob") == "it was connected to us and has gone"


def test_gone_while_we_wait(bus, config):
    """A recipient that is killed with the message in its hands may have received it."""
    gilmsg.init(**config)
    until_present("bob")
    bus.silent("bob")
    inbox = Inbox(bus, "held", "bob")
    future = publish_async(["bob"], topic="held", ack_timeout=3.0)
    wait_for(inbox.messages, "bob has it")
    bus.dead("bob")
    assert future.exception(20).missing["bob"] == "it has gone since the message left; " + UNPROVEN


def test_came_too_late(config):
    """A recipient that comes while we wait is not said to be silent: it cannot have answered."""
    gilmsg.init(**config)
    future = publish_async(["carol"], ack_timeout=2.0, **AT_ONCE)
    with subscriber(inside.endpoint(), topics=[b"", announcement("", "carol")]):
        wait_for(lambda: inside.listens("carol"), "carol listens")
        reason = future.exception(20).missing["carol"]
    assert reason == "it is listening now, but was not yet seen listening when the message left; " + UNPROVEN


def test_of_a_group_each_member_has_its_reason(bus, config):
    """A group of which one member is dead and one silent says so of each."""
    gilmsg.init(**config)
    until_present("alice", "bob")
    bus.dead("alice")
    bus.silent("bob")
    until_gone("alice")
    timeout = lost(["alice,bob"])
    assert timeout.missing == {
        "alice,bob": "alice: it was connected to us and has gone | bob: listening, but silent for 0.3 s: " + UNPROVEN
    }
    assert "0 of 1 recipients" in str(timeout)


def test_a_killed_hub_has_gone(bus, config, tmp_path):
    """A hub with several consumers of one topic is one listener, that is gone when it is killed."""
    publish(["alice"], **config)
    settings = own_config(bus, name="carol", **{"second.enabled": True})
    with Hub(tmp_path / "hub", settings, ["First", "Second"]):
        until_present("carol")
        publish(["carol"])
    until_gone("carol")
    assert only_reason("carol") == "it was connected to us and has gone"


def test_a_frozen_recipient_goes_when_heartbeats_do(bus, config, monkeypatch):
    """A host that falls silent without a word is silent at first, then gone, then back by itself."""
    inside.quicken_heartbeats(monkeypatch, 500, 1500)
    gilmsg.init(**config)
    until_present("bob")
    pid = inside.stand_in(bus, "bob")
    try:
        os.kill(pid, signal.SIGSTOP)
        assert "listening, but silent" in only_reason("bob", ack_timeout=0.05)
        # Heartbeats of the connection by which it hears us; for the other its kernel still answers.
        until_gone("bob")
        assert only_reason("bob", ack_timeout=0.05) == "it was connected to us and has gone"
    finally:
        os.kill(pid, signal.SIGCONT)
    until_present("bob")
    assert publish(["bob"]).acks


def test_a_revoked_recipient_is_told_so():
    """A real consumer whose certificate is revoked answers, and is refused by that reason."""
    with Sandbox(["alice", "bob"]) as bus:
        bus.authority.revoke("alice")
        timeout = lost(["alice", "bob"], **dict(bus.config, ack_timeout=5.0, **PATIENT))
    assert list(timeout.acks) == ["bob"]
    assert timeout.missing == {"alice": "an ACK came in its name and was refused: its certificate is revoked"}


@pytest.fixture(scope="module")
def forgery():
    """A bus where alice's socket is in a forger's hands, and bob is away."""
    bus = Sandbox([])
    bus.config["endpoints"]["alice"] = [bus.ports.endpoint()]
    bus.config["certnames"].update(alice="alice", bob="bob")
    for name in ("alice", "bob", "mallory"):
        bus.authority.issue(name)
    yield bus
    bus.stop()


def test_a_foreign_signer_is_said_of_each_one_missing(forgery):
    """An ACK signed by somebody else is told, with that name, of everybody still missing."""

    def answer(message):
        return [frames(signed(forgery.config, "mallory", ack_body(message)))]

    with Forger(forgery.config, "alice", answer):
        missing = lost(["alice", "bob"], **dict(forgery.config, ack_timeout=3.0)).missing
    instead = "; an ACK for this message came signed by mallory instead"
    assert missing == {
        "alice": "listening, but silent for 3 s: " + UNPROVEN + instead,
        "bob": "never connected to us as a gilmsg consumer" + instead,
    }


def test_a_refused_ack_does_not_hide_that_its_owner_is_away(forgery):
    """A forged ACK in bob's name is told as refused, and bob as absent."""

    def answer(message):
        return [frames(dict(signed(forgery.config, "bob", ack_body(message)), i=99))]

    with Forger(forgery.config, "alice", answer):
        reason = only_reason("bob", **dict(forgery.config, ack_timeout=3.0, **{"gilmsg.head_start": 1}))
    assert reason == (
        "an ACK came in its name and was refused: its signature is invalid; besides, "
        "never connected to us as a gilmsg consumer"
    )


def through_a_relay(bus, **changes):
    return own_config(bus, active=True, name="relay_inbound", cert_prefix="shell", **changes)


def test_no_relay(bus):
    """With active=True and nobody at the relay's port, the relay is missing, not the recipient."""
    away = bus.ports.endpoint()
    config = through_a_relay(bus, relay_inbound=away, **AT_ONCE)
    assert only_reason("alice", **config) == f"the relay at {away} is not there"


def test_silent_behind_a_relay(bus):
    """With active=True the relay stands for presence, and it is said that recipients are unseen."""
    bus.silent("bob")
    timeout = lost(["alice", "bob"], ack_timeout=5.0, **through_a_relay(bus, **PATIENT))
    assert list(timeout.acks) == ["alice"]
    assert timeout.missing["bob"].startswith(
        "the relay is there, behind it recipients cannot be seen; silent for 5 s: " + UNPROVEN
    )


def test_a_dead_recipient_behind_a_relay(bus):
    """With active=True a recipient that is dead shows in its endpoint for the ACK."""
    bus.dead("bob")
    # Presence is never complete, so this waits for its age: time enough to reach the relay.
    timeout = lost(["alice", "bob"], ack_timeout=3.0, **through_a_relay(bus, **{"gilmsg.head_start": 3.0}))
    assert list(timeout.acks) == ["alice"]
    assert timeout.missing["bob"] == (
        f"the relay is there, but its endpoint {bus.config['endpoints']['bob'][0]} cannot be reached "
        "for the ACK, or not yet again; " + UNPROVEN
    )


def test_a_relay_that_is_killed_has_gone(bus, tmp_path):
    """A relay that dies under a running publisher is noticed."""
    config = own_config(bus, relay_inbound=bus.ports.endpoint())
    config["endpoints"]["relay_outbound"] = [bus.ports.endpoint()]
    write_config(tmp_path, config)
    with Program(script("fedmsg.commands.relay:relay"), tmp_path):
        gilmsg.init(**dict(config, active=True, name="relay_inbound", cert_prefix="shell"))
        wait_for(inside.anyone, "the relay is there")
    wait_for(lambda: not inside.anyone(), "its end is seen", 5)
    relay = "the relay at {}".format(config["relay_inbound"])
    assert only_reason("alice") == relay + " has gone; it may get the message when it is back"
