"""Reasons for which a recipient can be missing, with real processes; each sentence: tests/protocol/test_diagnosis."""


import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .conftest import own_config
from .helpers import (
    Forger,
    Tailer,
    ack_body,
    frames,
    lost,
    lost_when,
    publish,
    publish_async,
    signed,
    until_gone,
    until_present,
)  # fmt: skip
from .processes import wait_for

AT_ONCE = {"gilmsg.head_start": 0}

UNPROVEN = "its ACK did not come, it may have received the message"


def only_reason(*recipients, **config):
    [reason] = lost(recipients, **config).missing.values()
    return reason


def test_never_connected(config):
    """Of a recipient that never announced itself, while others did, that is said."""
    publish(["alice"], **config)
    assert only_reason("nobody", **AT_ONCE) == "never connected to us as a gilmsg consumer"


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


def test_silent_and_then_gone(bus, config):
    """Who is there and does not answer is told with how long it was silent; once it was killed, it has gone."""
    gilmsg.init(**config)
    until_present("alice", "bob")
    bus.silent("bob")
    timeout = lost_when(lambda one: one.acks, ["alice", "bob"])
    silent = f"listening, but silent for {timeout.ack_timeout:g} s: {UNPROVEN}"
    assert timeout.missing == {"bob": silent}
    assert str(timeout) == (
        f"org.example.dev.tests.t {timeout.msg_id}: 1 of 2 recipients acknowledged within {timeout.ack_timeout:g} s; "
        f"missing: bob ({silent})"
    )
    bus.dead("bob")
    until_gone("bob")
    assert only_reason("bob", **AT_ONCE) == "it was connected to us and has gone"


def test_the_name_of_an_endpoint_in_place_of_a_common_name(config, caplog):
    """publish, publish_async and the log say which common name is meant; that is read from the certificate."""
    config["certnames"]["app01"] = "carol"
    publish(["alice"], **config)
    told = "never connected to us as a gilmsg consumer; 'app01' is a name in certnames, its common name is 'carol'"
    assert only_reason("app01", **AT_ONCE) == told
    late = publish_async(["app01"], ack_timeout=0.3, **AT_ONCE).exception(20)
    assert late.missing == {"app01": told} and told in str(late)
    wait_for(lambda: len(caplog.records) == 2, "both lines")
    reason = {"code": "never_connected", "may_have_arrived": True, "text": told}
    assert [record.reasons for record in caplog.records] == [{"app01": reason}] * 2


def test_what_is_not_signed_is_dropped_by_whom_validates(config):
    """A publisher that would itself drop what it sends is told so, of each recipient that is there."""
    config.update(sign_messages=False)
    gilmsg.init(**config)
    until_present("alice")
    timeout = lost(["alice", "nobody"], **AT_ONCE)
    # Its NACK comes in time, or on a slow machine it does not.
    assert timeout.missing["alice"].endswith(
        "; the message was not signed, and recipients that validate signatures, as we do, drop such a one: set "
        "sign_messages to True"
    )
    assert timeout.missing["alice"].code in ("nacked", "unsigned")
    assert timeout.missing["nobody"].code == "never_connected"


@pytest.fixture(scope="module")
def forgery(tmp_path_factory):
    """A bus where alice's socket is in a forger's hands, and bob is away."""
    bus = Sandbox([])
    bus.config["endpoints"]["alice"] = [bus.ports.endpoint()]
    bus.config["certnames"].update(alice="alice", bob="bob")
    for name in ("alice", "bob", "mallory"):
        bus.authority.issue(name)
    for name, options in (("expired", {"days": -1}), ("revoked", {})):
        bus.authority.issue(name, common_names=["alice"], **options)
    bus.authority.revoke("revoked")
    other = inside.authority(tmp_path_factory.mktemp("other"))
    other.issue("alice")
    bus.other = other.folder
    yield bus
    bus.stop()


DIFFERS = "its digest differs, what it received is not what was sent"

#: What is wrong with alice's ACK -> who signs it, what of it is changed, the files, and what is said. The tables in
#: tests/protocol/test_delivery and tests/trust/test_verifying have all the others.
FORGED = {
    "another digest": ("alice", {}, {"ack_digest": "0" * 64}, DIFFERS),
    "changed after signing": ("alice", {"i": 99}, {}, "its signature is invalid"),
    "revoked": ("revoked", {}, {}, "its certificate is revoked"),
    "expired": ("expired", {}, {}, "its certificate has expired"),
    "another CA": (
        "another CA", {}, {}, "its certificate was not issued by our CA (unable to get local issuer certificate)",
    ),
    "for another id": ("alice", {}, {"ack_msg_id": "2026-another"}, None),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_broken_ack_never_counts(forgery, how):
    """An ACK that breaks a single rule is heard and refused, with its reason; bob's, which comes after it, counts."""
    certname, changes, body, reason = FORGED[how]
    ssldir, certname = (forgery.other, "alice") if certname == "another CA" else (None, certname)

    def answer(message):
        broken = dict(signed(forgery.config, certname, ack_body(message, **body), ssldir=ssldir), **changes)
        return [frames(broken), frames(signed(forgery.config, "bob", ack_body(message)))]

    with Forger(forgery.config, "alice", answer, ["bob"]):
        timeout = lost_when(lambda one: one.acks, ["alice", "bob"], **own_config(forgery))
    silent = f"listening, but silent for {timeout.ack_timeout:g} s: {UNPROVEN}"
    assert (list(timeout.acks), list(timeout.missing)) == (["bob"], ["alice"])
    assert timeout.missing["alice"] == (f"an ACK came in its name and was refused: {reason}" if reason else silent)


def test_a_foreign_signer_is_said_of_each_one_missing(forgery):
    """An ACK signed by somebody else is told, with that name, of everybody still missing."""

    def answer(message):
        return [frames(signed(forgery.config, "mallory", ack_body(message)))]

    instead = "; an ACK for this message came signed by mallory instead"
    with Forger(forgery.config, "alice", answer):
        gilmsg.init(**forgery.config)
        until_present("alice")
        timeout = lost_when(lambda one: instead in one.missing["bob"], ["alice", "bob"], **AT_ONCE)
    assert timeout.missing == {
        "alice": f"listening, but silent for {timeout.ack_timeout:g} s: {UNPROVEN}{instead}",
        "bob": "never connected to us as a gilmsg consumer" + instead,
    }


def through_a_relay(bus, **changes):
    return own_config(bus, active=True, name="relay_inbound", cert_prefix="shell", **changes)


def test_a_dead_recipient_behind_a_relay(bus):
    """With active=True a recipient that is dead shows in its endpoint for the ACK."""
    bus.dead("bob")
    # Presence is never complete, so this waits for its age: time enough to reach the relay, most often.
    config = through_a_relay(bus, **{"gilmsg.head_start": 1.0})
    timeout = lost_when(lambda one: one.acks, ["alice", "bob"], **config)
    assert list(timeout.acks) == ["alice"]
    assert timeout.missing["bob"] == (
        f"the relay is there, but its endpoint {bus.config['endpoints']['bob'][0]} cannot be reached "
        "for the ACK, or not yet again; " + UNPROVEN
    )
