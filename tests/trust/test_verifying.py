"""Who signed: under the CA and CRL of this moment, remembered while they count, refused with the reason."""

import base64
import datetime
import os
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor

import fedmsg.crypto.x509
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gilmsg import _trust
from gilmsg._trust import signing, verifying
from gilmsg.errors import ConfigurationError, Refused

from ..helpers import chain_checks
from ..inside import pki
from .conftest import certificate, covered, settings_of, signed, signer_of

FOREIGN = "its certificate was not issued by our CA"


@pytest.fixture
def checks(monkeypatch):
    return chain_checks(monkeypatch)


def refused(verifier, message):
    with pytest.raises(Refused) as raised:
        signer_of(verifier, message)
    return raised.value


def test_a_chain_is_checked_once_for_the_same_files(authority, settings, verifier, checks):
    """Further messages cost the signature alone, even if a CRL is copied anew with the same content."""
    ack, content = signed(settings), pathlib.Path(authority.crl_file).read_bytes()
    assert signer_of(verifier, ack) == signer_of(verifier, ack) == "alice"
    os.remove(authority.crl_file)
    pathlib.Path(authority.crl_file).write_bytes(content)
    assert signer_of(verifier, ack) == "alice" and len(checks) == 1
    authority.write_crl(days=20)
    assert signer_of(verifier, ack) == "alice" and len(checks) == 2


def test_a_revoked_certificate_stops_counting(authority, settings, verifier):
    """A CRL file that is replaced counts in the running process, caches hot; as documented, not without crl_location."""
    ack = signed(settings)
    assert signer_of(verifier, ack) == signer_of(verifier, ack) == "alice"
    authority.revoke("alice")
    refusal = refused(verifier, ack)
    assert (refusal.reason, refusal.claimed) == ("its certificate is revoked", "alice")
    assert signer_of(_trust.verifier(dict(settings, crl_location=None)), ack) == "alice"


def test_files_are_looked_at_every_tenth_of_a_second(authority, settings, clock, monkeypatch):
    """What is written counts 0.1 s after the last look at the latest, for those who verify and those who sign."""
    monkeypatch.setattr(signing, "LOOK_EVERY", 0.1)
    verifier, pair, ack = _trust.verifier(settings), _trust.signer(settings, "alice"), signed(settings)
    authority.revoke("alice")
    authority.issue("alice")
    old = pair.seal(b"{}").certificate
    clock(seconds=0.09)
    assert signer_of(verifier, ack) == "alice" and pair.seal(b"{}").certificate == old
    clock(seconds=0.11)
    assert refused(verifier, ack).reason == "its certificate is revoked" and pair.seal(b"{}").certificate != old


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


@pytest.mark.parametrize(
    "named, spoil, text",
    [
        (["ca_cert_location"], lambda settings, other, clock: clock(days=-2), "becomes valid only on"),
        (
            ["crl_location", "ca_cert_location"],
            lambda settings, other, clock: settings.update(crl_location=other.crl_file), "is not signed by the CA",
        ),
        (
            ["ca_cert_location"],
            lambda settings, other, clock: pathlib.Path(settings["ca_cert_location"]).write_text("rubbish"),
            "is not a PEM CA certificate",
        ),
    ],
    ids=["of the future", "of another CA", "never whole"],
)  # fmt: skip
def test_a_ca_or_crl_that_cannot_be_used_is_named(settings, other, clock, named, spoil, text):
    """It is a ConfigurationError that names setting and file; where nothing was read before, nothing is bridged."""
    spoil(settings, other, clock)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=text) as raised:
            _trust.verifier(settings)
        assert all(one in str(raised.value) and settings[one] in str(raised.value) for one in named)


@pytest.mark.parametrize("setting", ["ca_cert_location", "crl_location"])
@pytest.mark.parametrize(
    "spoil, problem",
    [(os.remove, "cannot be read"), (lambda path: pathlib.Path(path).write_text("half of a"), "is not a PEM C")],
    ids=["missing", "half written"],
)
def test_a_file_that_cannot_be_read_is_bridged_for_10_s(
    settings, verifier, clock, said, caplog, setting, spoil, problem
):
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
    said.pop()()
    [record] = caplog.records
    assert (record.name, record.levelname) == ("gilmsg.trust", "WARNING")
    assert record.getMessage().startswith(f"what was read before counts for 10 s more: {setting}: ")


def test_a_bridge_never_reaches_past_the_expiry_of_what_was_read(settings, clock):
    """A revoked certificate stops counting as soon as crl_cache_expiry promises."""
    verifier, ack = _trust.verifier(dict(settings, crl_cache_expiry=3)), signed(settings)
    os.remove(settings["crl_location"])
    clock(seconds=2)
    assert signer_of(verifier, ack) == "alice"
    clock(seconds=3.5)
    assert "crl_location" in refused(verifier, ack).reason


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
        ({"signature": "AAA"}, "its signature is not base64"), ({"signature": ""}, "its signature is invalid"),
        ({"signature": "AAAA"}, "its signature is invalid"), ({"topic": "another"}, "its signature is invalid"),
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
    """A certificate of a version that there is not is an exception of cryptography's own; and any byte may be spoilt."""
    ack, reasons = signed(settings), set()
    odd = with_der(ack, lambda der: der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1))
    with pytest.raises(x509.InvalidVersion):
        x509.load_pem_x509_certificate(base64.b64decode(odd["certificate"]))
    assert refused(verifier, odd).reason == "its certificate cannot be read"
    assert verifier.claimed_name(odd) is None
    for at in range(0, 700, 3):
        odd = with_der(ack, lambda der, at=at: der[:at] + bytes([der[at] ^ 0x41]) + der[at + 1 :])
        reasons.add(refused(verifier, odd).reason)
        verifier.claimed_name(odd)
    assert "its certificate cannot be read" in reasons
    assert any(one.startswith(FOREIGN) for one in reasons)


def test_a_certificate_of_another_ca_is_refused(settings, other, verifier):
    """Though the name on it is right, and its key signed."""
    refusal = refused(verifier, signed(settings_of(other)))
    assert (refusal.reason, refusal.claimed) == (f"{FOREIGN} (unable to get local issuer certificate)", "alice")


def limited_crl(authority, other):
    """A CRL for a part of the certificates, as large authorities have."""
    name, key = authority._issuer.name, authority._issuer.key
    point = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier("http://crl.example/1")], relative_name=None, only_some_reasons=None,
        only_contains_user_certs=False, only_contains_ca_certs=False, indirect_crl=False, only_contains_attribute_certs=False,
    )  # fmt: skip
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateRevocationListBuilder(name, now, now + datetime.timedelta(days=1))
    crl = builder.add_extension(point, critical=True).sign(key, hashes.SHA256())
    pathlib.Path(authority.crl_file).write_bytes(crl.public_bytes(serialization.Encoding.PEM))


def intermediate(authority, other):
    """The other authority becomes one of ours, and issued alice's certificate; that comes along alone."""
    certificate = authority._issuer.certificate(other._issuer.name, other._issuer.key.public_key(), 30, 1, is_ca=True)
    pathlib.Path(other.ca_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pathlib.Path(authority.folder, "alice.crt").write_bytes(pathlib.Path(other.folder, "alice.crt").read_bytes())
    pathlib.Path(authority.folder, "alice.key").write_bytes(pathlib.Path(other.folder, "alice.key").read_bytes())


def second_ca(authority, other):
    """The other authority's certificate stands behind ours in the file."""
    intermediate(authority, other)
    with open(authority.ca_file, "ab") as ca, open(other.ca_file, "rb") as second:
        ca.write(second.read())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (limited_crl, "its certificate does not count under our CA and CRL (different CRL scope)"),
        (intermediate, f"{FOREIGN} (unable to get local issuer certificate)"),
        (second_ca, f"{FOREIGN} (unable to get local issuer certificate)"),
    ],
)
def test_openssl_says_why_it_refuses(authority, other, settings, change, reason):
    """What the files of CA and CRL may not hold is refused, as by fedmsg, with OpenSSL's own words."""
    change(authority, other)
    refusal = refused(_trust.verifier(settings), signed(settings))
    assert (refusal.reason, refusal.claimed) == (reason, "alice")
    assert not fedmsg.crypto.x509.validate(signed(settings), **settings)


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


ODD = {
    "two names": ({"common_names": ["alice", "bob"]}, "its certificate has 2 common names instead of one", None),
    "no name": ({"common_names": []}, "its certificate has 0 common names instead of one", None),
    "no RSA key": (
        {"common_names": ["alice"], "key": ec.generate_private_key(ec.SECP256R1())},
        "its certificate does not hold an RSA key", "alice",
    ),
    "another's": ({"common_names": ["bob"], "key": pki.new_key()}, "its signature is invalid", "bob"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_certificate_that_our_ca_issued_may_prove_nothing(authority, settings, verifier, odd):
    """Whoever holds two names could answer for two recipients; and fedmsg's signatures are RSA's."""
    issued, reason, claimed = ODD[odd]
    key = pki.new_key()
    authority.issue("alice", key=key)
    authority.issue("odd", **{"key": key, **issued})
    ack = dict(signed(settings), certificate=certificate(authority.folder, "odd"))
    refusal = refused(verifier, ack)
    assert (refusal.reason, refusal.claimed, verifier.claimed_name(ack)) == (reason, claimed, claimed)


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
    before, long = len(checks), padded(ack, 40000)  # counts, and is not remembered
    assert signer_of(verifier, long) == signer_of(verifier, long) == "alice"
    assert len(checks) == before + 2 and len(verifier._anchor.known) == 2


@pytest.mark.parametrize("change", ["write_crl", "write_ca"])
def test_threads_verify_while_files_change(authority, settings, verifier, change):
    """No lock, and no message lost: each thread sees one whole state of the files or another."""
    ack, begun, over = signed(settings), threading.Barrier(4), threading.Event()

    def verify():
        seen = {signer_of(verifier, ack)}
        begun.wait(30)
        while not over.is_set():
            seen.add(signer_of(verifier, ack))
        return seen

    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(verify) for _ in range(3)]
        begun.wait(30)
        for _ in range(15):
            getattr(authority, change)()
        over.set()
        assert [thread.result() for thread in threads] == [{"alice"}] * 3


def test_a_signature_by_another_hash_or_of_nothing_is_invalid(authority, settings, verifier):
    """fedmsg signs by SHA-1; a message signed otherwise is not what fedmsg would accept."""
    key = pki.new_key()
    authority.issue("alice", key=key)
    ack = signed(settings)
    signature = key.sign(covered(ack), verifying.PADDING, hashes.SHA256())
    for odd in (signature, os.urandom(256)):
        ack["signature"] = base64.encodebytes(odd).decode()
        assert refused(verifier, ack).reason == "its signature is invalid"


def test_a_ca_whose_key_signs_nothing_is_named(authority, settings):
    """A CA file with a key of a kind that nobody knows is a ConfigurationError too, whatever cryptography raises."""
    ca = pathlib.Path(authority.ca_file)
    der = x509.load_pem_x509_certificate(ca.read_bytes()).public_bytes(serialization.Encoding.DER)
    rsa, unknown = bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d010163")
    text = base64.encodebytes(der.replace(rsa, unknown)).decode()
    ca.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="ca_cert_location.*key"):
        _trust.verifier(settings)


@pytest.mark.parametrize(
    ("days", "crl_days", "expected"),
    [
        (30, 30, []),
        (13, 30, ["the certificate", "the CA certificate"]),
        (30, 0.05, ["the CRL"]),
        (30, 3, []),  # of 4
        (1, 0.05, ["the certificate", "the CA certificate", "the CRL"]),
    ],
)
def test_what_ends_soon_is_warned_of_each_day(authority, settings, clock, said, caplog, days, crl_days, expected):
    """A certificate with less than 14 days left, a CRL in its last tenth: one WARNING a day while in use."""
    authority.issue("alice", days=days)
    authority.write_ca(days=days)
    authority.write_crl(days=crl_days)
    for later in (0, 30, 3600, 86300, 86401) if days > 1 and crl_days > 1 else (0, 30, 3600):
        clock(seconds=later)
        for _ in range(3):
            _trust.signer(settings, "alice")
            _trust.verifier(settings)
        if later == 3600:
            assert len(said) == len(expected)
    for job in said:
        job()
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == len(expected) * (2 if days > 1 and crl_days > 1 else 1)
    assert all(line.startswith(text) and " expires on " in line for text, line in zip(expected, told))
