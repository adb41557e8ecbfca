"""Certificates and CRLs, signed by a CA, and the files that hold them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_PEM = serialization.Encoding.PEM

#: Days for which what is new has been valid already: nobody's clock is as far behind.
AGE = 1.0

#: Of the CA itself, as the names of files.
_RESERVED = ("ca", "crl")

#: Bytes of a common name, in UTF-8.
_LONGEST = 64

_USES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Issuer:
    """A CA: its name and its key. What it signs is returned, and not written."""

    def __init__(self, name: x509.Name, key: rsa.RSAPrivateKey) -> None:
        self.name, self.key = name, key

    def certificate(
        self, subject: x509.Name, key: rsa.RSAPublicKey, days: float, age: float = AGE, is_ca: bool = False
    ) -> x509.Certificate:
        """Return a certificate for *key*, valid from *age* days ago for *days* days from now."""
        builder = x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number(), *_span(days, age))
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        usage = _usage("key_cert_sign", "crl_sign") if is_ca else _usage("digital_signature")
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        return builder.add_extension(self._identifier(), critical=False).sign(self.key, hashes.SHA256())

    def ca(self, days: float, age: float = AGE) -> x509.Certificate:
        """Return the certificate of this CA itself."""
        return self.certificate(self.name, self.key.public_key(), days, age, is_ca=True)

    def crl(
        self, revoked: Iterable[x509.RevokedCertificate], days: float, age: float = AGE
    ) -> x509.CertificateRevocationList:
        """Return a CRL of *revoked*, next due in *days* days (negative: it has ended)."""
        builder = x509.CertificateRevocationListBuilder(self.name, *_span(days, age), revoked_certificates=list(revoked))
        # A number that grows, without anything to be kept.
        builder = builder.add_extension(x509.CRLNumber(int(time.time() * 1000)), critical=False)
        return builder.add_extension(self._identifier(), critical=False).sign(self.key, hashes.SHA256())

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        # By the key alone: a CA that is renewed with its key vouches for what it issued before.
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def revoked(certificate: x509.Certificate) -> x509.RevokedCertificate:
    """Return the entry of a CRL for *certificate*, which is revoked now."""
    return x509.RevokedCertificateBuilder(certificate.serial_number, datetime.now(timezone.utc)).build()


def unfit(common_name: str) -> str | None:
    """Return why no key and certificate can be issued to *common_name*, None if they can: it names a recipient, and files."""
    if not common_name:
        return "it is empty"
    if "," in common_name:
        return "a comma joins the members of a group of recipients"
    if "/" in common_name or "\\" in common_name or common_name.startswith((".", "-")):
        return "it names files, so it has no slash or backslash, and begins with neither a dot nor a dash"
    if not common_name.isprintable() or common_name != common_name.strip():
        return "it has only printable characters, and no space at either end"
    if len(common_name.encode()) > _LONGEST:
        return f"a common name has {_LONGEST} bytes at most, in UTF-8"
    return f"{common_name}.crt and the like are the CA's own" if common_name.lower() in _RESERVED else None


def subject(common_names: Sequence[str]) -> x509.Name:
    """Return the subject of a certificate with these common names."""
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in common_names])


def common_name(certificate: x509.Certificate) -> str:
    """Return the first common name of *certificate*."""
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


def new_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a fresh RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return *key* as PEM without a password, in the form that every fedmsg can read."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def write_pair(base: str, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
    """Write *base*``.key``, for its owner alone, and *base*``.crt``."""
    write(base + ".key", private_pem(key), mode=0o600)
    write_certificate(base + ".crt", certificate)


def write_certificate(path: str, certificate: x509.Certificate | x509.CertificateRevocationList) -> None:
    """Write *certificate*, or a CRL, as PEM."""
    write(path, certificate.public_bytes(_PEM))


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Replace *path* by *content* at once: a reader sees the old file or the new one."""
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of one who was killed: its mode would stay
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # or after a power cut it may be the new file, and empty
    os.replace(temporary, path)


def _usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _USES})


def _span(days: float, age: float) -> tuple[datetime, datetime]:
    """Return when it begins, *age* days ago (what has ended: a day before its end at the latest), and when it ends."""
    now = datetime.now(timezone.utc)
    return now - timedelta(days=max(age, 1 - days) if days < 0 else age), now + timedelta(days=days)
