"""Keys, certificates, CA and CRL: remembered while nothing changes, and no longer."""

import os

import pytest

import gilmsg
from gilmsg import _keypair, _pki, _trust
from gilmsg._acks import Refused

from .helpers import ack_body, signed


@pytest.fixture
def authority(tmp_path):
    authority = _pki.Authority(str(tmp_path / "pki"))
    authority.issue("alice")
    return authority


@pytest.fixture
def settings(authority):
    return {
        "topic_prefix": "org.example",
        "environment": "dev",
        "ssldir": authority.folder,
        "ca_cert_location": authority.ca_file,
        "crl_location": authority.crl_file,
    }


def message(settings, certname="alice"):
    return signed(settings, certname, ack_body({"msg_id": "2026-x", "msg": {}}))


def test_the_key_is_loaded_once_and_again_when_its_file_changes(authority, settings, monkeypatch):
    """Signing reads the key file only when it has changed."""
    loads = []
    real = _keypair._load
    # A spy, not a mock: it counts what really happens.
    monkeypatch.setattr(_keypair, "_load", lambda *files: loads.append(files) or real(*files))
    for _ in range(5):
        _trust.signing_key(settings, "alice").sign({"a": 1})
    assert len(loads) == 1
    authority.issue("alice")
    _trust.signing_key(settings, "alice").sign({"a": 1})
    assert len(loads) == 2


def test_a_pair_replaced_one_file_after_the_other_goes_on_signing(authority, settings, tmp_path):
    """While key and certificate do not belong together, the pair loaded before signs."""
    store = _trust.trust_store(settings)
    pair = _trust.signing_key(settings, "alice")
    old = pair.sign({"a": 1})["certificate"]
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    authority.issue("alice", folder=str(fresh))
    os.replace(str(fresh / "alice.key"), authority.folder + "/alice.key")
    between = pair.sign({"a": 1})
    assert between["certificate"] == old and store.signer_of(between) == "alice"
    os.replace(str(fresh / "alice.crt"), authority.folder + "/alice.crt")
    after = pair.sign({"a": 1})
    assert after["certificate"] != old and store.signer_of(after) == "alice"


def test_a_revoked_certificate_stops_counting(authority, settings):
    """A CRL file that is replaced counts in the running process, caches hot."""
    store = _trust.trust_store(settings)
    ack = message(settings)
    assert store.signer_of(ack) == store.signer_of(ack) == "alice"
    authority.revoke("alice")
    with pytest.raises(Refused, match="revoked"):
        store.signer_of(ack)


@pytest.mark.parametrize("write, setting", [("write_ca", "ca_cert_location"), ("write_crl", "crl_location")])
def test_an_expired_ca_or_crl_is_named(authority, settings, write, setting):
    """An expired CA or CRL is a ConfigurationError that names the setting and the file."""
    store = _trust.trust_store(settings)
    ack = message(settings)
    assert store.signer_of(ack) == "alice"
    getattr(authority, write)(days=-1)
    with pytest.raises(gilmsg.ConfigurationError, match="expired") as raised:
        _trust.trust_store(settings)
    assert setting in str(raised.value) and settings[setting] in str(raised.value)
    with pytest.raises(Refused):
        store.signer_of(ack)


def test_an_expired_certificate_of_our_own_is_refused_before_sending(authority, settings):
    """Who would sign with an expired certificate is told so."""
    authority.issue("old", days=-1)
    with pytest.raises(gilmsg.ConfigurationError, match="expired"):
        _trust.signing_key(settings, "old")


def test_fedmsg_validates_what_we_sign_and_we_what_fedmsg_signs(settings):
    """Both sides speak the same signature format."""
    import fedmsg.crypto

    ours = message(settings)
    assert fedmsg.crypto.x509.validate(dict(ours), **settings)
    theirs = fedmsg.crypto.x509.sign({"topic": "a", "msg": {}}, certname="alice", **settings)
    assert _trust.trust_store(settings).signer_of(theirs) == "alice"


def test_the_routing_policy_holds(settings):
    """validate honours routing_policy and routing_nitpicky as fedmsg does."""
    ack = message(settings)
    assert _trust.validate(ack, settings) is None
    assert "routing_policy" in _trust.validate(ack, dict(settings, routing_policy={ack["topic"]: ["bob"]}))
    assert _trust.validate(ack, dict(settings, routing_policy={ack["topic"]: ["alice"]})) is None
    assert "nitpicky" in _trust.validate(ack, dict(settings, routing_nitpicky=True))


def test_without_a_crl_there_is_one_warning(settings, caplog):
    """No crl_location: no revocation check, one warning."""
    for _ in range(3):
        _trust.trust_store(dict(settings, crl_location=None))
    assert sum("crl_location" in record.getMessage() for record in caplog.records) == 1
