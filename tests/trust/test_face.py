"""From a configuration to kept keys, kept trust stores, and what may be accepted."""

import os

import fedmsg.crypto
import fedmsg.crypto.x509
import pytest
from OpenSSL import crypto

from gilmsg import _trust
from gilmsg.errors import ConfigurationError

from .conftest import covered, signed, signer_of


def validate(message, settings):
    refusal = _trust.validate(message, settings, lambda: covered(message))
    return refusal and refusal.reason


def test_fedmsg_validates_what_we_sign_and_we_what_fedmsg_signs(settings, verifier):
    """Both sides speak the same signature format."""
    ours = signed(settings)
    assert fedmsg.crypto.x509.validate(dict(ours), **settings)
    theirs = fedmsg.crypto.x509.sign({"topic": "a", "msg": {}}, certname="alice", **settings)
    assert signer_of(verifier, theirs) == "alice"


def test_keys_and_trust_stores_are_kept(settings):
    """One for each set of files."""
    assert _trust.signer(settings, "alice") is _trust.key_pair(dict(settings), "alice")
    assert _trust.verifier(settings) is _trust.verifier(dict(settings, crl_cache_expiry=3600))
    assert _trust.verifier(settings) is not _trust.verifier(dict(settings, crl_cache_expiry=60))


def test_a_forked_child_loads_its_own(settings):
    """Objects of the crypto libraries must not be used in a child."""
    kept = _trust.signer(settings, "alice"), _trust.verifier(settings)
    child = os.fork()
    if not child:
        renewed = _trust.signer(settings, "alice"), _trust.verifier(settings)
        good = not set(kept) & set(renewed) and signer_of(renewed[1], signed(settings)) == "alice"
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert kept == (_trust.signer(settings, "alice"), _trust.verifier(settings))


def test_the_routing_policy_holds(settings):
    """validate honours routing_policy and routing_nitpicky as fedmsg does."""
    ack = signed(settings)
    assert validate(ack, settings) is None
    assert validate(ack, dict(settings, routing_policy={ack["topic"]: ["bob"]})) == (
        "routing_policy does not allow alice to publish on org.example.dev.t"
    )
    assert validate(ack, dict(settings, routing_policy={ack["topic"]: ["alice"]})) is None
    assert validate(ack, dict(settings, routing_nitpicky=True)) == (
        "routing_nitpicky is on and routing_policy has no entry for org.example.dev.t"
    )


def test_what_may_not_be_accepted_is_told(authority, settings):
    """The refusal, or what is wrong with our own settings."""
    ack = signed(settings)
    assert validate(dict(ack, signature=None), settings) == "it is unsigned"
    assert "ca_cert_location must be the path of a PEM file" in validate(ack, dict(settings, ca_cert_location=None))
    authority.write_crl(days=-1)
    assert "it cannot be checked: the CRL" in validate(ack, settings)


@pytest.mark.parametrize(
    ("changes", "message", "code"),
    [
        ({}, {"i": 9}, "signature"), ({}, {"signature": None}, "signature"), ({"crypto": "x"}, {"crypto": "x"}, "signature"),
        ({"routing_nitpicky": True}, {}, "policy"), ({"routing_policy": {"org.example.dev.t": ["bob"]}}, {}, "policy"),
        ({"ca_cert_location": None}, {}, "trust"), ({"crl_location": "/nowhere"}, {}, "trust"),
    ],
)
@pytest.mark.filterwarnings("ignore:The 'warn' method")  # fedmsg's own
def test_a_refusal_has_a_code(settings, changes, message, code):
    """What a NACK says of it: whether it is the message, the policy, or our own trust files."""
    ack = dict(signed(settings), **message)
    assert _trust.validate(ack, dict(settings, **changes), lambda: covered(ack)).code == code


def test_without_a_crl_there_is_one_warning(settings, caplog, monkeypatch):
    """No crl_location: no revocation check, one warning."""
    monkeypatch.setattr(_trust, "later", _trust._at_once)
    for _ in range(3):
        _trust.verifier(dict(settings, crl_location=None))
    assert [record.getMessage() for record in caplog.records if record.name == "gilmsg.trust"] == [
        "crl_location is not set: revoked certificates are accepted"
    ]


@pytest.mark.filterwarnings("ignore:The 'warn' method")  # fedmsg's own
def test_gpg_is_asked_of_fedmsg(settings, monkeypatch):
    """Where gpg is to vouch for messages, fedmsg decides; what it refuses, or fails on, is refused."""
    monkeypatch.setattr(fedmsg.crypto, "_validate_implementations", None)
    backends = dict(settings, crypto_backend="gpg", crypto_validate_backends=["gpg"])
    assert validate({"topic": "t", "msg": {}}, backends) == "fedmsg.crypto refused it"
    monkeypatch.setattr(fedmsg.crypto, "validate", lambda *_, **__: 1 / 0)
    assert "fedmsg.crypto failed on it: ZeroDivisionError" in validate({"topic": "t", "msg": {}}, backends)


@pytest.mark.parametrize("value", [None, "", 7, "https://example.com/ca.crt"])
@pytest.mark.parametrize("setting", ["ca_cert_location", "crl_location"])
def test_nothing_is_downloaded(settings, setting, value):
    """Only a path is a place; without a CRL, revocation is not checked."""
    if setting == "crl_location" and not value:
        _trust.verifier(dict(settings, crl_location=value)).check()
        return
    with pytest.raises(ConfigurationError, match=f"{setting} must be the path of a PEM file, gilmsg downloads none"):
        _trust.verifier(dict(settings, **{setting: value}))


def test_crypto_that_is_off_is_told_and_turned_on(monkeypatch):
    """Where fedmsg came first, it took the missing load_crl for "no crypto here"."""
    _trust.require_crypto()
    monkeypatch.setattr(fedmsg.crypto.x509, "_cryptography", False)
    with pytest.raises(ConfigurationError, match="fedmsg's own crypto is off in this process"):
        _trust.require_crypto()
    _trust.turn_on_fedmsg_crypto()
    _trust.require_crypto()
    assert not hasattr(crypto, "load_crl")


def test_missing_crypto_libraries_are_named(settings, monkeypatch):
    """At the first use; an import of gilmsg does not fail for them. (They are taken away: they are here.)"""
    monkeypatch.setattr(_trust, "_missing", ImportError("no OpenSSL"))
    monkeypatch.setattr(_trust, "_kept", _trust._Kept(0, {}, {}))
    _trust.turn_on_fedmsg_crypto()
    uses = (lambda: _trust.signer(settings, "alice"), lambda: _trust.verifier(settings), lambda: _trust.claimed_name({}))
    for use in uses:
        with pytest.raises(ConfigurationError, match=r"do not load \(no OpenSSL\); install fedmsg\[crypto_ng\]"):
            use()
