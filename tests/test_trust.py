"""Keys, certificates, CA and CRL: remembered while nothing changes, and no longer."""

import base64
import os
import sys
import time
import types

import pytest

import gilmsg
from gilmsg import _acks, _anchor, _dates, _keypair, _meta, _trust
from gilmsg._acks import Refused
from gilmsg.sandbox import pki as _pki

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


def test_a_key_that_is_not_rsa_is_refused(authority, settings):
    """fedmsg signs by RSA; a key of another kind is named."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _pki.write(os.path.join(authority.folder, "alice.key"), pem)
    with pytest.raises(gilmsg.ConfigurationError, match="is not an RSA key"):
        message(settings)


def test_a_certificate_of_our_own_with_two_names_is_refused(authority, settings):
    """It would prove two names, so none."""
    authority.issue("alice", common_names=["alice", "bob"])
    with pytest.raises(gilmsg.ConfigurationError, match="exactly one common name"):
        message(settings)


@pytest.mark.parametrize(
    "changes, reason",
    [
        (dict(crypto="gpg"), "not signed with an x509 certificate"),
        (dict(signature=None), "it is unsigned"),
        (dict(certificate="A" * 1000000), "too large"),
        (dict(signature="A" * 1000000), "too large"),
        (dict(signature="no base64: \xe4"), "its signature is not base64"),
    ],
)
def test_what_proves_nothing_is_refused(settings, changes, reason):
    """Credentials of a wrong kind, missing, too large or garbled are refused, with the reason."""
    with pytest.raises(Refused, match=reason):
        _trust.trust_store(settings).signer_of(dict(message(settings), **changes))


@pytest.fixture
def clock(monkeypatch):
    """Sets how many days later than now it is, as far as certificates are concerned.

    (The clock is patched: a certificate ends with a whole second, and nobody waits for days.)
    """

    def later(days):
        moved = types.SimpleNamespace(**{name: getattr(time, name) for name in ("monotonic", "strftime", "gmtime")})
        moved.time = lambda: time.time() + days * 86400
        for module in (_anchor, _dates):
            monkeypatch.setattr(module, "time", moved)

    return later


def test_a_remembered_certificate_counts_only_from_its_beginning_to_its_end(authority, settings, clock):
    """That its chain was checked once does not make it count any longer, or earlier, than its dates say."""
    authority.issue("alice", days=10, age=0.25)
    store = _trust.trust_store(settings)
    ack = message(settings)
    assert store.signer_of(ack) == "alice"
    for days, reason in ((11, "its certificate has expired"), (-0.5, "its certificate is not valid yet")):
        clock(days)
        with pytest.raises(Refused, match=reason) as refused:
            store.signer_of(ack)
        assert refused.value.claimed == "alice"
    clock(0)
    assert store.signer_of(ack) == "alice"


def test_a_ca_that_is_not_valid_yet_is_named(authority, settings, clock):
    """A CA certificate, or CRL, of the future is a ConfigurationError that names setting and file."""
    clock(-2)
    with pytest.raises(gilmsg.ConfigurationError, match="becomes valid only on") as raised:
        _trust.trust_store(settings)
    assert settings["ca_cert_location"] in str(raised.value)


def test_a_crl_of_another_ca_is_named(authority, settings, tmp_path):
    """A CRL that our CA did not sign is a ConfigurationError that names both settings."""
    other = _pki.Authority(str(tmp_path / "other"))
    with pytest.raises(gilmsg.ConfigurationError, match="is not signed by the CA") as raised:
        _trust.trust_store(dict(settings, crl_location=other.crl_file))
    assert "crl_location" in str(raised.value) and "ca_cert_location" in str(raised.value)


def test_a_certificate_without_an_rsa_key_proves_nothing(authority, settings):
    """fedmsg's signatures are RSA's: a certificate with another key, though our CA issued it, is refused."""
    from cryptography.hazmat.primitives.asymmetric import ec

    authority.issue("curved", common_names=["alice"], key=ec.generate_private_key(ec.SECP256R1()))
    with open(os.path.join(authority.folder, "curved.crt"), "rb") as stream:
        certificate = base64.encodebytes(stream.read()).decode()
    with pytest.raises(Refused, match="does not hold an RSA key"):
        _trust.trust_store(settings).signer_of(dict(message(settings), certificate=certificate))


def test_certificates_remembered_are_bounded(authority, settings, monkeypatch):
    """However many recipients there are, a bounded number of certificates is remembered; all of them count."""
    monkeypatch.setattr(_anchor, "_REMEMBERED", 2)
    authority.issue("bob")
    authority.issue("carol")
    store = _trust.trust_store(settings)
    for name in ("alice", "bob", "carol", "alice"):
        assert store.signer_of(message(settings, name)) == name
        assert len(store._anchor.signers) <= 2


def test_what_is_nested_too_deeply_has_no_canonical_form():
    """What can be decoded cannot always be encoded again: that is a BadFrame, no RecursionError."""
    deep = {}
    for _ in range(100000):
        deep = {"a": deep}
    with pytest.raises(_acks.BadFrame, match="nested too deeply"):
        _acks.canonical({"msg": deep})


def test_gpg_is_asked_of_fedmsg(settings):
    """Where gpg is to vouch for messages, fedmsg decides; what it refuses is refused."""
    backends = dict(settings, crypto_backend="gpg", crypto_validate_backends=["gpg"])
    assert _trust.validate({"topic": "t", "msg": {}}, backends) == "fedmsg.crypto refused it"


def test_crypto_that_works_is_left_alone(monkeypatch):
    """Where fedmsg's crypto is on, or pyOpenSSL still has load_crl, turning it on changes nothing."""
    import fedmsg.crypto.x509
    from OpenSSL import crypto

    before = fedmsg.crypto.x509._cryptography, sys.modules["fedmsg.crypto.x509_ng"].sign
    _trust.turn_on_fedmsg_crypto()
    assert not hasattr(crypto, "load_crl")
    monkeypatch.setattr(crypto, "load_crl", len, raising=False)
    _trust.turn_on_fedmsg_crypto()
    assert crypto.load_crl is len
    assert (fedmsg.crypto.x509._cryptography, sys.modules["fedmsg.crypto.x509_ng"].sign) == before


def test_without_crypto_libraries_an_archive_can_be_read(settings, monkeypatch):
    """Where our modules do not load, an ACK is told under its user's name. (They are taken away: they are here.)"""
    ack = dict(message(settings), username="joe")
    assert _meta.who(ack) == "alice"
    monkeypatch.setitem(sys.modules, "gilmsg._credentials", None)
    assert _meta.who(ack) == "joe"
