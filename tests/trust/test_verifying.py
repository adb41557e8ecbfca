"""Who signed: under the CA and CRL of this moment, remembered while they count, refused with the reason."""

import base64
import binascii
import os
import pathlib
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import crypto

from gilmsg import _trust
from gilmsg._trust import verifying
from gilmsg.errors import ConfigurationError, Refused

from .conftest import certificate, covered, pki, settings_of, signed, signer_of


@pytest.fixture
def checks(monkeypatch):
    """A list that grows by one with each chain that is checked. A spy, at the border to the library."""
    checks, real = [], crypto.X509StoreContext.verify_certificate
    monkeypatch.setattr(crypto.X509StoreContext, "verify_certificate", lambda self: checks.append(self) or real(self))
    return checks


def refused(verifier, message):
    with pytest.raises(Refused) as raised:
        signer_of(verifier, message)
    return raised.value


def test_a_chain_is_checked_once(settings, verifier, checks):
    """Further messages cost the signature alone."""
    for _ in range(3):
        assert signer_of(verifier, signed(settings)) == "alice"
    assert len(checks) == 1


def test_a_revoked_certificate_stops_counting(authority, settings, verifier):
    """A CRL file that is replaced counts in the running process, caches hot."""
    ack = signed(settings)
    assert signer_of(verifier, ack) == signer_of(verifier, ack) == "alice"
    authority.revoke("alice")
    refusal = refused(verifier, ack)
    assert (refusal.reason, refusal.claimed) == ("its certificate is revoked", "alice")


def test_without_a_crl_revoked_certificates_count(authority, settings):
    """As documented, and warned of."""
    authority.revoke("alice")
    assert signer_of(_trust.verifier(dict(settings, crl_location=None)), signed(settings)) == "alice"


def test_files_that_change_in_name_only_leave_what_is_remembered(authority, settings, verifier, checks):
    """A CRL copied anew, with the same content, costs no chain check."""
    assert signer_of(verifier, signed(settings)) == "alice"
    content = pathlib.Path(authority.crl_file).read_bytes()
    os.remove(authority.crl_file)
    pathlib.Path(authority.crl_file).write_bytes(content)
    assert signer_of(verifier, signed(settings)) == "alice" and len(checks) == 1
    authority.write_crl(days=20)
    assert signer_of(verifier, signed(settings)) == "alice" and len(checks) == 2


@pytest.mark.parametrize("write, setting", [("write_ca", "ca_cert_location"), ("write_crl", "crl_location")])
def test_an_expired_ca_or_crl_is_named(authority, settings, verifier, write, setting):
    """An expired CA or CRL is a ConfigurationError that names the setting and the file."""
    ack = signed(settings)
    assert signer_of(verifier, ack) == "alice"
    getattr(authority, write)(days=-1)
    with pytest.raises(ConfigurationError, match="expired on .* replace it") as raised:
        _trust.verifier(settings)
    assert setting in str(raised.value) and settings[setting] in str(raised.value)
    refusal = refused(verifier, ack)
    assert refusal.reason == f"it cannot be checked: {raised.value}" and refusal.claimed == "alice"


def test_a_ca_that_is_not_valid_yet_is_named(settings, clock):
    """A CA certificate, or CRL, of the future is a ConfigurationError that names setting and file."""
    clock(days=-2)
    with pytest.raises(ConfigurationError, match="becomes valid only on") as raised:
        _trust.verifier(settings)
    assert settings["ca_cert_location"] in str(raised.value)


def test_a_crl_of_another_ca_is_named(settings, other):
    """A CRL that our CA did not sign is a ConfigurationError that names both settings."""
    with pytest.raises(ConfigurationError, match="is not signed by the CA") as raised:
        _trust.verifier(dict(settings, crl_location=other.crl_file))
    assert "crl_location" in str(raised.value) and "ca_cert_location" in str(raised.value)


def test_a_crl_without_an_end_counts(authority, settings):
    """A CRL need not tell when the next one is due."""
    text = pathlib.Path(authority.crl_file).read_bytes()
    assert verifying.read_crl(authority.crl_file).span.until().endswith("UTC")
    crl = x509.load_pem_x509_crl(text)
    bare = type("Crl", (), {"last_update_utc": crl.last_update_utc, "next_update_utc": None})
    with pytest.MonkeyPatch.context() as patch:  # cryptography builds none without
        patch.setattr(verifying.x509, "load_pem_x509_crl", lambda _: bare)
        span = verifying.read_crl(authority.crl_file).span
    span.require_current()
    assert span.until() == "replaced (no end)"


@pytest.mark.parametrize("setting", ["ca_cert_location", "crl_location"])
@pytest.mark.parametrize(
    "spoil, problem",
    [(os.remove, "cannot be read"), (lambda path: pathlib.Path(path).write_text("half of a"), "is not a PEM C")],
    ids=["missing", "half written"],
)
def test_a_file_that_cannot_be_read_is_bridged_for_10_s(settings, verifier, clock, said, setting, spoil, problem):
    """What was read before counts for that long, and one line tells; then the setting and the file are named."""
    ack, path = signed(settings), settings[setting]
    content = pathlib.Path(path).read_bytes()
    assert signer_of(verifier, ack) == "alice"
    spoil(path)
    for seconds in (0, 5, 9.5):
        clock(seconds=seconds)
        assert signer_of(verifier, ack) == "alice"
    clock(seconds=10.5)
    refusal = refused(verifier, ack)
    assert f"it cannot be checked: {setting}: {path} {problem}" in refusal.reason and refusal.claimed == "alice"
    with pytest.raises(ConfigurationError, match=setting):
        verifier.check()
    assert len(said) == 1
    pathlib.Path(path).write_bytes(content)
    assert signer_of(verifier, ack) == "alice"
    spoil(path)  # once it was whole, the 10 s begin anew
    assert signer_of(verifier, ack) == "alice" and len(said) == 2


def test_a_bridge_never_reaches_past_the_expiry_of_what_was_read(settings, clock):
    """A revoked certificate stops counting as soon as crl_cache_expiry promises."""
    verifier, ack = _trust.verifier(dict(settings, crl_cache_expiry=3)), signed(settings)
    os.remove(settings["crl_location"])
    clock(seconds=2)
    assert signer_of(verifier, ack) == "alice"
    clock(seconds=3.5)
    assert "crl_location" in refused(verifier, ack).reason


def test_the_warning_of_a_bridge(settings, verifier, said, caplog):
    """It is a job for another thread."""
    os.remove(settings["crl_location"])
    verifier.check()
    said.pop()()
    [record] = caplog.records
    assert (record.name, record.levelname) == ("gilmsg.trust", "WARNING")
    assert record.getMessage().startswith("what was read before counts for 10 s more: crl_location: ")


def test_what_was_never_whole_is_not_bridged(settings):
    """Where nothing was read before, the error stands."""
    pathlib.Path(settings["ca_cert_location"]).write_text("rubbish")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="ca_cert_location: .* is not a PEM CA certificate"):
            _trust.verifier(settings)


def test_both_files_are_read_again_after_their_expiry(settings, clock, monkeypatch):
    """Even if they look the same; and what is remembered stays, for they are."""
    verifier, ack = _trust.verifier(dict(settings, crl_cache_expiry=60)), signed(settings)
    assert signer_of(verifier, ack) == "alice"
    reads, real = [], pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: reads.append(path) or real(path))
    for seconds, count in ((59, 0), (61, 2), (100, 2), (122, 4)):
        clock(seconds=seconds)
        assert signer_of(verifier, ack) == "alice" and len(reads) == count


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"crypto": "gpg"}, "it is not signed with an x509 certificate"),
        ({"signature": None}, "it is unsigned"),
        ({"certificate": 7}, "it is unsigned"),
        ({"certificate": "A" * 1000000}, "its signature or certificate is too large"),
        ({"signature": "A" * 1000000}, "its signature or certificate is too large"),
        ({"signature": "no base64: \xe4"}, "its signature is not base64"),
        ({"signature": "AAA"}, "its signature is not base64"),
        ({"signature": ""}, "its signature is invalid"),
        ({"signature": "AAAA"}, "its signature is invalid"),
        ({"topic": "another"}, "its signature is invalid"),
        ({"certificate": "\xe4"}, "its certificate cannot be read"),
        ({"certificate": "\ud800"}, "its certificate cannot be read"),
        ({"certificate": ""}, "its certificate cannot be read"),
        ({"certificate": "AAAA"}, "its certificate cannot be read"),
    ],
)
def test_what_proves_nothing_is_refused(settings, verifier, changes, reason):
    """Credentials of a wrong kind, missing, too large, garbled or of something else are refused, with the reason."""
    ack = signed(settings)
    assert refused(verifier, dict(ack, **changes)).reason == reason
    assert signer_of(verifier, ack) == "alice"
    assert refused(verifier, dict(ack, **changes)).reason == reason


def with_der(message, change):
    """*message* with its certificate as *change* makes it of the DER form."""
    certificate = x509.load_pem_x509_certificate(base64.b64decode(message["certificate"]))
    der = change(certificate.public_bytes(serialization.Encoding.DER))
    pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(der)
    return dict(message, certificate=base64.encodebytes(pem).decode())


def test_whatever_cryptography_raises_becomes_refused(settings, verifier):
    """A certificate of a version that there is not is an exception of cryptography's own, no ValueError."""
    odd = with_der(signed(settings), lambda der: der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1))
    with pytest.raises(x509.InvalidVersion):
        x509.load_pem_x509_certificate(base64.b64decode(odd["certificate"]))
    assert refused(verifier, odd).reason == "its certificate cannot be read"
    assert verifier.claimed_name(odd) is None


def test_any_byte_of_a_certificate_may_be_spoilt(settings, verifier):
    """Every answer but Refused would be wrong, whichever stage of reading it fails at."""
    ack, reasons = signed(settings), set()
    for at in range(0, 700, 3):
        odd = with_der(ack, lambda der, at=at: der[:at] + bytes([der[at] ^ 0x41]) + der[at + 1 :])
        reasons.add(refused(verifier, odd).reason)
        verifier.claimed_name(odd)
    assert {"its certificate cannot be read", "its certificate was not issued by our CA"} <= reasons


def test_a_certificate_of_another_ca_is_refused(settings, other, verifier):
    """Though the name on it is right, and its key signed."""
    refusal = refused(verifier, signed(settings_of(other)))
    assert (refusal.reason, refusal.claimed) == ("its certificate was not issued by our CA", "alice")


@pytest.mark.parametrize(
    "issued, reason",
    [({"days": -1}, "its certificate has expired"), ({"age": -1}, "its certificate is not valid yet")],
    ids=["expired", "not valid yet"],
)
def test_a_certificate_out_of_date_is_refused(authority, settings, verifier, clock, issued, reason):
    """Its owner signs all the same: our clock, not its, decides."""
    authority.issue("alice", **issued)
    clock(days=-1.5 if "days" in issued else 3)
    ack = signed(settings)
    clock()
    assert refused(verifier, ack).reason == reason


def test_a_remembered_certificate_counts_only_from_its_beginning_to_its_end(authority, settings, verifier, clock):
    """That its chain was checked once does not make it count any longer, or earlier, than its dates say."""
    authority.issue("alice", days=10, age=0.25)
    ack = signed(settings)
    assert signer_of(verifier, ack) == "alice"
    for days, reason in ((11, "its certificate has expired"), (-0.5, "its certificate is not valid yet")):
        clock(days=days)
        refusal = refused(verifier, ack)
        assert (refusal.reason, refusal.claimed) == (reason, "alice")
    clock()
    assert signer_of(verifier, ack) == "alice"


@pytest.mark.parametrize("names, count", [(["alice", "bob"], 2), ([], 0)])
def test_a_certificate_without_exactly_one_name_proves_nothing(authority, settings, verifier, names, count):
    """Whoever holds it could answer for two recipients."""
    key = pki.new_key()
    authority.issue("honest", key=key)
    authority.issue("odd", common_names=names, key=key)
    odd = dict(signed(settings, "honest"), certificate=certificate(authority.folder, "odd"))
    assert refused(verifier, odd).reason == f"its certificate has {count} common names instead of one"
    assert verifier.claimed_name(odd) is None


def test_a_certificate_without_an_rsa_key_proves_nothing(authority, settings, verifier):
    """fedmsg's signatures are RSA's: a certificate with another key, though our CA issued it, is refused."""
    authority.issue("curved", common_names=["alice"], key=ec.generate_private_key(ec.SECP256R1()))
    odd = dict(signed(settings), certificate=certificate(authority.folder, "curved"))
    assert refused(verifier, odd).reason == "its certificate does not hold an RSA key"


def test_the_certificate_of_another_proves_nothing(authority, settings, verifier):
    """A signature of alice's under bob's certificate is invalid, and claims to be bob's."""
    authority.issue("bob")
    odd = dict(signed(settings), certificate=certificate(authority.folder, "bob"))
    refusal = refused(verifier, odd)
    assert (refusal.reason, refusal.claimed) == ("its signature is invalid", "bob")


def test_certificates_remembered_are_bounded(authority, settings, verifier, monkeypatch):
    """However many recipients there are, a bounded number of certificates is remembered; all of them count."""
    monkeypatch.setattr(verifying, "_REMEMBERED", 2)
    authority.issue("bob")
    authority.issue("carol")
    for name in ("alice", "bob", "carol", "alice"):
        assert signer_of(verifier, signed(settings, name)) == name
        assert len(verifier._anchor.known) <= 2


def padded(message, count):
    """*message* with the same certificate, its text longer: what is no base64 is skipped."""
    return dict(message, certificate=message["certificate"] + "\n" * count)


def test_only_a_good_signature_is_remembered(settings, verifier, checks):
    """Copies of a certificate, each padded in another way, neither fill the memory nor drive out what is known."""
    ack = signed(settings)
    assert signer_of(verifier, ack) == "alice"
    for count in range(1, 5):
        assert refused(verifier, dict(padded(ack, count), topic="forged")).reason == "its signature is invalid"
    assert list(verifier._anchor.known) == [ack["certificate"]]
    assert signer_of(verifier, padded(ack, 7)) == "alice" and len(verifier._anchor.known) == 2


def test_a_very_long_certificate_counts_and_is_not_remembered(settings, verifier, checks):
    """Its owner cannot fill the memory with copies."""
    ack = padded(signed(settings), 40000)
    assert signer_of(verifier, ack) == signer_of(verifier, ack) == "alice"
    assert len(checks) == 2 and not verifier._anchor.known


@pytest.mark.parametrize("change", ["write_crl", "write_ca"])
def test_threads_verify_while_files_change(authority, settings, verifier, change):
    """No lock, and no message lost: each thread sees one whole state of the files or another."""
    ack, over, seen = signed(settings), threading.Event(), []

    def verify():
        while not over.is_set():
            try:
                seen.append(signer_of(verifier, ack))
            except Exception as error:  # noqa: BLE001  whatever it is, it is told
                seen.append(error)

    threads = [threading.Thread(target=verify) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        getattr(authority, change)()
    over.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {"alice"}


def test_a_lone_signature_of_the_right_length_is_invalid(settings, verifier):
    """Random bytes of the key's own length."""
    ack = signed(settings)
    random = binascii.b2a_base64(os.urandom(256)).decode()
    assert refused(verifier, dict(ack, signature=random)).reason == "its signature is invalid"


def test_a_signature_by_another_hash_is_invalid(authority, settings, verifier):
    """fedmsg signs by SHA-1; a message signed otherwise is not what fedmsg would accept."""
    key = pki.new_key()
    authority.issue("alice", key=key)
    ack = signed(settings)
    signature = key.sign(covered(ack), verifying.PADDING, hashes.SHA256())
    odd = dict(ack, signature=base64.encodebytes(signature).decode())
    assert refused(verifier, odd).reason == "its signature is invalid"
