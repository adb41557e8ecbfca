"""Every reason for which a recipient can be missing, provoked with real processes."""

import signal

import pytest
import zmq

import gilmsg
from gilmsg import _presence, _sockets
from gilmsg.sandbox import Sandbox

from . import talking as _process
from .conftest import own_config
from .helpers import Forger, Hub, Inbox, Tailer, ack_body, frames, look, signed, until_present, write_config
from .processes import Program
from .talking import wait_for

AT_ONCE = {"gilmsg.head_start": 0}
PATIENT = {"gilmsg.head_start": 30.0}


def timeout_of(*recipients, **config):
    """Publish to *recipients*; return the Timeout."""
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=recipients, **dict({"ack_timeout": 0.3}, **config))
    return raised.value


def only_reason(*recipients, **config):
    [reason] = timeout_of(*recipients, **config).missing.values()
    return reason


def test_never_connected(config):
    """Of a recipient that never announced itself, while others did, that is said."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5.0, **config)
    assert only_reason("nobody", **AT_ONCE) == "never connected to us as a gilmsg consumer"


def test_nobody_at_all(tmp_path):
    """On a bus where nobody listens, it is said that nobody is connected, and to which socket."""
    with Sandbox([]) as bus:
        reason = only_reason("alice", **dict(bus.config, **AT_ONCE))
        endpoint = bus.config["endpoints"]["publisher"][0]
    assert reason == "never connected to us: nobody at all is connected to our socket " + endpoint


def test_not_subscribed_to_this_topic(bus, config, tmp_path):
    """A consumer of other topics is connected, and told apart from one that is not there."""
    gilmsg.init(**config)
    with Tailer(own_config(bus, name="carol"), tmp_path, "org.example.dev.other"):
        wait_for(lambda: look(lambda peers: peers.topics("carol")), "carol is connected")
        assert only_reason("carol", **AT_ONCE) == (
            "connected to us, but not subscribed to this topic (only to 'org.example.dev.other')"
        )


def test_the_endpoint_for_the_ack_cannot_be_reached(bus, config, tmp_path):
    """A consumer whose port we have wrong gets the message; the endpoint at fault is named."""
    wrong = bus.ports.endpoint()
    config["endpoints"]["carol"] = [wrong]
    gilmsg.init(**config)
    with Tailer(own_config(bus, name="carol"), tmp_path):
        wait_for(lambda: look(lambda peers: peers.listens("carol", "")), "carol listens")
        assert only_reason("carol", **AT_ONCE) == (
            "it is listening, but its endpoint %s cannot be reached for the ACK, or not yet again; "
            "its ACK did not come, it may have received the message" % wrong
        )


def test_listening_but_silent(bus, config):
    """A recipient that is there and does not answer is told with how long it was silent."""
    gilmsg.init(**config)
    until_present("bob")
    bus.silent("bob")
    timeout = timeout_of("alice", "bob", ack_timeout=0.5)
    assert timeout.missing == {
        "bob": "listening, but silent for 0.5 s: its ACK did not come, it may have received the message"
    }
    assert str(timeout) == (
        "org.example.dev.tests.t %s: 1 of 2 recipients acknowledged within 0.5 s; missing: bob "
        "(listening, but silent for 0.5 s: its ACK did not come, it may have received the message)" % timeout.msg_id
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
    wait_for(lambda: not look(lambda peers: peers.listens("bob", "")), "its end is seen")
    assert only_reason("bob") == "it was connected to us and has gone"


def test_gone_while_we_wait(bus, config):
    """A recipient that is killed with the message in its hands may have received it."""
    gilmsg.init(**config)
    until_present("bob")
    bus.silent("bob")
    inbox = Inbox(bus, "held", "bob")
    future = gilmsg.publish_async(topic="held", msg={}, recipients=["bob"], ack_timeout=3.0)
    wait_for(inbox.messages, "bob has it")
    bus.dead("bob")
    reason = future.exception(20).missing["bob"]
    assert reason == "it has gone since the message left; its ACK did not come, it may have received the message"


def test_came_too_late(bus, config):
    """A recipient that comes while we wait is not said to be silent: it cannot have answered."""
    gilmsg.init(**config)
    future = gilmsg.publish_async(
        topic="t", msg={}, recipients=["carol"], ack_timeout=2.0, **AT_ONCE
    )
    with zmq.Context() as context, context.socket(zmq.SUB) as late:
        # Our outlet's own port: the config lists all that might be ours.
        for endpoint in config["endpoints"]["publisher"]:
            late.connect(endpoint)
        for subscription in (b"", _presence.announcement("", "carol")):
            late.subscribe(subscription)
        wait_for(lambda: look(lambda peers: peers.listens("carol", "")), "carol listens")
        reason = future.exception(20).missing["carol"]
        late.linger = 0
    assert reason == (
        "it is listening now, but was not yet seen listening when the message left; "
        "its ACK did not come, it may have received the message"
    )


def test_of_a_group_each_member_has_its_reason(bus, config):
    """A group of which one member is dead and one silent says so of each."""
    gilmsg.init(**config)
    until_present("alice", "bob")
    bus.dead("alice")
    bus.silent("bob")
    wait_for(lambda: not look(lambda peers: peers.listens("alice", "")), "its end is seen")
    timeout = timeout_of("alice,bob")
    assert timeout.missing == {
        "alice,bob": "alice: it was connected to us and has gone | "
        "bob: listening, but silent for 0.3 s: its ACK did not come, it may have received the message"
    }
    assert "0 of 1 recipients" in str(timeout)


def test_a_killed_hub_has_gone(bus, config, tmp_path):
    """A hub with several consumers of one topic is one listener, that is gone when it is killed."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5.0, **config)
    settings = own_config(bus, name="carol", **{"second.enabled": True})
    with Hub(tmp_path / "hub", settings, ["First", "Second"]):
        until_present("carol")
        gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=5.0)
    wait_for(lambda: not look(lambda peers: peers.listens("carol", "")), "its end is seen", 5)
    assert only_reason("carol") == "it was connected to us and has gone"


def test_a_frozen_recipient_goes_when_heartbeats_do(bus, config, monkeypatch):
    """A host that falls silent without a word is silent at first, then gone, then back by itself."""
    # The same heartbeats, a little faster, so that the test need not take 7 s.
    monkeypatch.setattr(_sockets, "HEARTBEAT_IVL", 500)
    monkeypatch.setattr(_sockets, "HEARTBEAT_TIMEOUT", 1500)
    gilmsg.init(**config)
    until_present("bob")
    try:
        bus._stand_ins["bob"].signal(signal.SIGSTOP)
        assert "listening, but silent" in only_reason("bob", ack_timeout=0.05)
        # Those of the connection by which it hears us: the kernel of a frozen process still answers for the other.
        wait_for(lambda: not look(lambda peers: peers.listens("bob", "")), "heartbeats find out")
        assert only_reason("bob", ack_timeout=0.05) == "it was connected to us and has gone"
    finally:
        bus._stand_ins["bob"].signal(signal.SIGCONT)
    until_present("bob")
    assert gilmsg.publish(topic="t", msg={}, recipients=["bob"], ack_timeout=5.0).acks


def test_a_revoked_recipient_is_told_so():
    """A real consumer whose certificate is revoked answers, and is refused by that reason."""
    with Sandbox(["alice", "bob"]) as bus:
        bus.authority.revoke("alice")
        timeout = timeout_of("alice", "bob", ack_timeout=5.0, **dict(bus.config, **PATIENT))
    assert list(timeout.acks) == ["bob"]
    assert timeout.missing == {
        "alice": "an ACK came in its name and was refused: its certificate is revoked"
    }


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
        missing = timeout_of("alice", "bob", ack_timeout=3.0, **forgery.config).missing
    instead = "; an ACK for this message came signed by mallory instead"
    assert missing == {
        "alice": "listening, but silent for 3 s: its ACK did not come, it may have received the message" + instead,
        "bob": "never connected to us as a gilmsg consumer" + instead,
    }


def test_a_refused_ack_does_not_hide_that_its_owner_is_away(forgery):
    """A forged ACK in bob's name is told as refused, and bob as absent."""

    def answer(message):
        return [frames(dict(signed(forgery.config, "bob", ack_body(message)), i=99))]

    with Forger(forgery.config, "alice", answer):
        reason = only_reason("bob", ack_timeout=3.0, **dict(forgery.config, **{"gilmsg.head_start": 1}))
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
    assert only_reason("alice", **config) == "the relay at %s is not there" % away


def test_silent_behind_a_relay(bus):
    """With active=True the relay stands for presence, and it is said that recipients are unseen."""
    bus.silent("bob")
    timeout = timeout_of("alice", "bob", ack_timeout=5.0, **through_a_relay(bus, **PATIENT))
    assert list(timeout.acks) == ["alice"]
    assert timeout.missing["bob"].startswith(
        "the relay is there, behind it recipients cannot be seen; "
        "silent for 5 s: its ACK did not come, it may have received the message"
    )


def test_a_dead_recipient_behind_a_relay(bus):
    """With active=True a recipient that is dead shows in its endpoint for the ACK."""
    bus.dead("bob")
    # Presence is never complete, so this waits for its age: time enough to reach the relay.
    config = through_a_relay(bus, **{"gilmsg.head_start": 3.0})
    timeout = timeout_of("alice", "bob", ack_timeout=3.0, **config)
    assert list(timeout.acks) == ["alice"]
    assert timeout.missing["bob"] == (
        "the relay is there, but its endpoint %s cannot be reached for the ACK, or not yet again; "
        "its ACK did not come, it may have received the message" % bus.config["endpoints"]["bob"][0]
    )


def test_a_relay_that_is_killed_has_gone(bus, tmp_path):
    """A relay that dies under a running publisher is noticed."""
    config = own_config(bus, relay_inbound=bus.ports.endpoint())
    config["endpoints"]["relay_outbound"] = [bus.ports.endpoint()]
    write_config(tmp_path, config)
    with Program(_process.script("fedmsg.commands.relay:relay"), tmp_path):
        gilmsg.init(**dict(config, active=True, name="relay_inbound", cert_prefix="shell"))
        wait_for(lambda: look(lambda peers: peers.anyone()), "the relay is there")
    wait_for(lambda: not look(lambda peers: peers.anyone()), "its end is seen", 5)
    relay = "the relay at %s" % config["relay_inbound"]
    assert only_reason("alice") == relay + " has gone; it may get the message when it is back"
