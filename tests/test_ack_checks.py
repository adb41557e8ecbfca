"""Each condition that an ACK must fulfil, broken alone: it must not count.

Each is tried with *hot* caches: everybody's certificate is remembered, by right ACKs to the very same
store; and, in the slow set, with *cold* ones: nobody's is.

alice's part is played by a forger; her ACK breaks one rule, and bob's, which comes after it on
the same socket, is right. So the Timeout proves that alice's ACK was heard and refused.
"""

import shutil

import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .conftest import own_config
from .helpers import Forger, ack_body, chain_checks, frames, publish, signed


@pytest.fixture(scope="module")
def quiet_bus(tmp_path_factory):
    """A bus with keys and endpoints, and nobody on it."""
    bus = Sandbox([])
    bus.config["endpoints"]["alice"] = [bus.ports.endpoint()]
    bus.config["certnames"].update(alice="alice", bob="bob")
    for name in ("alice", "bob", "mallory", "expired", "future", "revoked", "twofold", "nameless"):
        options = {
            "expired": {"common_names": ["alice"], "days": -1},
            "future": {"common_names": ["alice"], "age": -1},
            "revoked": {"common_names": ["alice"]},
            "twofold": {"common_names": ["alice", "bob"]},
            "nameless": {"common_names": []},
        }.get(name, {})
        bus.authority.issue(name, **options)
    bus.authority.revoke("revoked")
    other = inside.authority(tmp_path_factory.mktemp("other"))
    other.issue("alice")
    bus.other = other.folder
    yield bus
    bus.stop()


def right(bus, message, certname="alice", **changes):
    return signed(bus.config, certname, ack_body(message, **changes))


def tampered(bus, message, **changes):
    return dict(right(bus, message), **changes)


def cut(message, *keys):
    return {k: v for k, v in message.items() if k not in keys}


ACK = "org.example.dev.gilmsg.ack"

BROKEN = {
    "sent under a longer topic": (lambda b, m: frames(right(b, m), ACK + ".x"), None),
    "signed for another topic": (
        lambda b, m: frames(signed(b.config, "alice", ack_body(m), topic=ACK + ".x"), ACK),
        None,
    ),
    "for another id": (lambda b, m: frames(right(b, m, ack_msg_id="2026-another")), None),
    "for an id that is no string": (lambda b, m: frames(right(b, m, ack_msg_id=7)), None),
    "for another digest": (lambda b, m: frames(right(b, m, ack_digest="0" * 64)), "digest differs"),
    "for a digest that is no string": (lambda b, m: frames(right(b, m, ack_digest=["x"])), None),
    "for a null digest": (
        lambda b, m: frames(signed(b.config, "alice", dict(ack_body(m), ack_digest=None))),
        None,
    ),
    "unsigned": (lambda b, m: frames(cut(right(b, m), "signature", "certificate")), None),
    "without its signature": (lambda b, m: frames(cut(right(b, m), "signature")), None),
    "said to be signed by gpg": (lambda b, m: frames(tampered(b, m, crypto="gpg")), None),
    "changed after signing": (lambda b, m: frames(tampered(b, m, i=99)), "signature is invalid"),
    "with another's signature": (
        lambda b, m: frames(tampered(b, m, signature=right(b, m, "bob")["signature"])),
        "signature is invalid",
    ),
    "under her certificate, but another's hand": (
        lambda b, m: frames(tampered(b, m, signature=right(b, m, "mallory")["signature"])),
        "signature is invalid",
    ),
    "under another's certificate, but her hand": (
        lambda b, m: frames(tampered(b, m, certificate=right(b, m, "mallory")["certificate"])),
        None,
    ),
    "with a signature that is rubbish": (lambda b, m: frames(tampered(b, m, signature="%%")), None),
    "with a certificate that is rubbish": (
        lambda b, m: frames(tampered(b, m, certificate="AAAA")),
        None,
    ),
    "under another CA": (
        lambda b, m: frames(signed(b.config, "alice", ack_body(m), ssldir=b.other)),
        "not issued by our CA",
    ),
    "with an expired certificate": (lambda b, m: frames(right(b, m, "expired")), "has expired"),
    "with a certificate not yet valid": (
        lambda b, m: frames(right(b, m, "future")),
        "not valid yet",
    ),
    "with a revoked certificate": (lambda b, m: frames(right(b, m, "revoked")), "revoked"),
    "with two common names": (lambda b, m: frames(right(b, m, "twofold")), None),
    "without a common name": (lambda b, m: frames(right(b, m, "nameless")), None),
    "by somebody who is not named": (
        lambda b, m: frames(right(b, m, "mallory")),
        "signed by mallory instead",
    ),
    "too large": (lambda b, m: frames(right(b, m, padding="x" * 300000)), None),
    "not JSON": (lambda b, m: [ACK.encode(), b'{"ack_msg_id": "%s"' % m["msg_id"].encode()], None),
    "of three parts": (lambda b, m: frames(right(b, m)) + [b"x"], None),
}


def send(bus, recipients=("alice", "bob"), **options):
    return publish(recipients, **own_config(bus, **{"ack_timeout": 15, **options}))


def unproven(bus, **config):
    """The Timeout of a message that bob has confirmed; on a slow machine that may take longer."""
    for ack_timeout in (0.4, 3, 15):
        with pytest.raises(gilmsg.Timeout) as raised:
            send(bus, ack_timeout=ack_timeout, **config)
        if raised.value.acks:
            break
    assert list(raised.value.acks) == ["bob"]
    assert list(raised.value.missing) == ["alice"]
    return raised.value


def test_right_acks_from_both_count(quiet_bus):
    """The forger that breaks no rule is believed: the harness itself works."""
    with Forger(
        quiet_bus.config, "alice", lambda m: [frames(right(quiet_bus, m, cn)) for cn in ("alice", "bob")],
        ["bob"],
    ):
        assert sorted(send(quiet_bus).acks) == ["alice", "bob"]


def test_an_ack_of_gilmsg_0_1_counts(quiet_bus):
    """A well-signed ACK without any digest counts: gilmsg 0.1.x knows none."""
    with Forger(quiet_bus.config, "alice", lambda m: [frames(right(quiet_bus, m, ack_digest=None))], ["bob"]):
        assert list(send(quiet_bus, ["alice"]).acks) == ["alice"]


@pytest.fixture
def anchor(quiet_bus, tmp_path):
    """CA and CRL in files that this process has never read: nothing is remembered under them."""
    copies = {key: str(tmp_path / key) for key in ("ca_cert_location", "crl_location")}
    for key, copy in copies.items():
        shutil.copy(quiet_bus.config[key], copy)
    return copies


@pytest.mark.parametrize("caches", ["hot", pytest.param("cold", marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_broken_ack_never_counts(quiet_bus, how, caches, anchor, monkeypatch):
    """An ACK that breaks a single rule is heard, refused, and publish raises because of it."""
    broken, reason = BROKEN[how]
    everybody = ("alice", "bob", "mallory")
    forging = caches == "cold"

    def answer(message):
        if not forging:
            return [frames(right(quiet_bus, message, name)) for name in everybody]
        return [broken(quiet_bus, message), frames(right(quiet_bus, message, "bob"))]

    with Forger(quiet_bus.config, "alice", answer, ["bob", "mallory"]):
        if caches == "hot":
            checks = chain_checks(monkeypatch)
            send(quiet_bus, everybody, **anchor)
            assert len(checks) == 3
            send(quiet_bus, everybody, **anchor)
            assert len(checks) == 3
        forging = True
        timeout = unproven(quiet_bus, **anchor)
    if reason is not None:
        assert reason in timeout.missing["alice"]


def test_a_replayed_ack_never_counts(quiet_bus):
    """The ACK of an earlier message does not confirm a later one."""
    kept = []

    def answer(message):
        kept.append(frames(right(quiet_bus, message)))
        return [kept[0], frames(right(quiet_bus, message, "bob"))]

    with Forger(quiet_bus.config, "alice", answer, ["bob"]):
        send(quiet_bus)
        unproven(quiet_bus)


def test_a_member_that_is_not_the_one_named_does_not_serve(quiet_bus):
    """One recipient's two ACKs do not stand for two recipients."""
    with Forger(quiet_bus.config, "alice", lambda m: [frames(right(quiet_bus, m, "bob"))] * 2, ["bob"]):
        unproven(quiet_bus)
