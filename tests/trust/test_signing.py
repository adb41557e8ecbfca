"""Our own key pair: kept while its files stay the same, renewed with them, refused with its reason."""

import os
import pathlib

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gilmsg import _trust
from gilmsg._trust import signing
from gilmsg.errors import ConfigurationError

from ..inside import pki
from .conftest import certificate, sign, signed, signer_of


@pytest.fixture
def loads(monkeypatch):
    """A list that grows by one with each key file that is read. A spy, not a mock: it counts what really happens."""
    loads, real = [], signing.Signer.load_key
    monkeypatch.setattr(signing.Signer, "load_key", lambda self: loads.append(self) or real(self))
    return loads


def test_the_key_is_loaded_once_and_again_when_its_file_changes(authority, settings, loads):
    """Signing reads the key file only when it has changed."""
    for _ in range(5):
        _trust.signer(settings, "alice").seal(b"{}")
    assert len(loads) == 1
    authority.issue("alice")
    _trust.signer(settings, "alice").seal(b"{}")
    assert len(loads) == 2


def test_a_pair_replaced_one_file_after_the_other_goes_on_signing(
    authority, settings, verifier, tmp_path, said, loads, caplog
):
    """While key and certificate do not belong together, the pair loaded before signs; one line says so."""
    pair = _trust.signer(settings, "alice")
    old = pair.seal(b"{}").certificate
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    authority.issue("alice", folder=str(fresh))
    os.replace(fresh / "alice.key", authority.folder + "/alice.key")
    between = sign(pair), sign(pair)
    assert [one["certificate"] for one in between] == [old, old]
    assert signer_of(verifier, between[0]) == "alice"
    assert len(said) == 1 and len(loads) == 2
    os.replace(fresh / "alice.crt", authority.folder + "/alice.crt")
    after = sign(pair)
    assert after["certificate"] != old and signer_of(verifier, after) == "alice"
    assert after["certificate"] == certificate(authority.folder, "alice")
    said.pop()()
    [record] = caplog.records
    assert (record.name, record.levelname) == ("gilmsg.trust", "WARNING")
    assert "still signing with the pair loaded before" in record.getMessage() and pair.key_file in record.getMessage()


def test_a_pair_that_was_never_whole_is_refused(authority, settings):
    """Two files that do not belong together are both named."""
    pki.write(authority.folder + "/alice.key", pki.private_pem(pki.new_key()))
    with pytest.raises(ConfigurationError, match="does not belong to the certificate") as raised:
        _trust.signer(settings, "alice")
    assert "alice.key" in str(raised.value) and "alice.crt" in str(raised.value)


def test_a_damaged_key_is_refused(authority, settings):
    """A key that belongs to the certificate, but makes no signatures that count, is named."""
    path = pathlib.Path(authority.folder + "/alice.key")
    good = serialization.load_pem_private_key(path.read_bytes(), None).private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        good.p, good.q, good.d + 2, good.dmp1 + 2, good.dmq1, good.iqmp, good.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    pki.write(str(path), pki.private_pem(damaged))
    with pytest.raises(ConfigurationError, match="alice.key .* is damaged: what it signs cannot be verified"):
        _trust.signer(settings, "alice")


@pytest.mark.parametrize("suffix, problem", [(".key", "the private key"), (".crt", "the certificate")])
@pytest.mark.parametrize("spoil", [os.remove, lambda path: pathlib.Path(path).write_text("rubbish")])
def test_what_cannot_be_loaded_is_named(authority, settings, suffix, problem, spoil):
    """A file that is missing, or is none of the kind, is named with its settings."""
    spoil(authority.folder + "/alice" + suffix)
    with pytest.raises(ConfigurationError, match=r"\(ssldir, certnames\) cannot be loaded") as raised:
        _trust.signer(settings, "alice")
    assert problem in str(raised.value) and "alice" + suffix in str(raised.value)


@pytest.mark.parametrize(
    "issued, reason",
    [({"days": -1}, "expired on .* renew it"), ({"age": -1}, "becomes valid only on")],
    ids=["expired", "not valid yet"],
)
def test_a_certificate_of_our_own_that_is_out_of_date_is_refused_before_sending(
    authority, settings, clock, issued, reason
):
    """Who would sign with such a certificate is told so, by signer() and by seal()."""
    authority.issue("odd", **issued)
    with pytest.raises(ConfigurationError, match=reason):
        _trust.signer(settings, "odd")
    with pytest.raises(ConfigurationError, match=reason):
        _trust.key_pair(settings, "odd").seal(b"{}")
    pair = _trust.signer(settings, "alice")
    clock(days=31 if "days" in issued else -2)
    with pytest.raises(ConfigurationError, match=reason):
        pair.seal(b"{}")


@pytest.mark.parametrize("names", [["alice", "bob"], []])
def test_a_certificate_of_our_own_has_exactly_one_name(authority, settings, names):
    """Two would prove none. The file may be called otherwise. And it is one of an RSA key: fedmsg signs by RSA."""
    authority.issue("alice", common_names=names)
    with pytest.raises(ConfigurationError, match="exactly one common name"):
        signed(settings)
    authority.issue("file", common_names=["bob.example.com"])
    assert _trust.signer(settings, "file").common_name == "bob.example.com"
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pki.write(authority.folder + "/alice.key", ed25519.Ed25519PrivateKey.generate().private_bytes(*kinds))
    with pytest.raises(ConfigurationError, match="is not an RSA key"):
        signed(settings)


@pytest.mark.parametrize(
    ("mode", "bits", "expected"),
    [(0o600, 2048, []), (0o640, 2048, []), (0o644, 2048, ["can be read by everybody"]), (0o600, 1024, ["has 1024 bits"]),
     (0o604, 1024, ["can be read by everybody", "has 1024 bits"])],
)  # fmt: skip
def test_a_key_that_is_no_secret_is_warned_of_once(authority, settings, said, caplog, mode, bits, expected):
    """It signs nevertheless; one WARNING when it is loaded."""
    authority.issue("alice", key=rsa.generate_private_key(public_exponent=65537, key_size=bits))
    pair = _trust.key_pair(settings, "alice")
    os.chmod(pair.key_file, mode)
    for _ in range(3):
        sign(pair)
    for job in said:
        job()
    told = [record.getMessage() for record in caplog.records if record.name == "gilmsg.trust"]
    assert len(told) == len(expected) and all(text in line and pair.key_file in line for text, line in zip(expected, told))
