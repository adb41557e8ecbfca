"""A throw-away certificate authority, for the sandbox and for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

#: Days. Enough for any sandbox, too little to be mistaken for the real thing.
_LIFETIME = 30

_PEM = serialization.Encoding.PEM


def new_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return a fresh RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


class Authority:
    """A CA with its CRL, and the key pairs that it issued, as files in *folder*.

    Attributes:
        ca_file, crl_file: the values for ``ca_cert_location`` and ``crl_location``.
        folder: the value for ``ssldir``; issued pairs are ``<name>.key`` and ``<name>.crt``.
    """

    def __init__(self, folder: str, name: str = "gilmsg throw-away CA") -> None:
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.ca_file = os.path.join(folder, "ca.crt")
        self.crl_file = os.path.join(folder, "crl.pem")
        self._name = _subject([name])
        self._key = new_key()
        self._revoked: list[int] = []
        self.write_ca()
        self.write_crl()

    def write_ca(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CA certificate, valid from *age* days ago for *days* days from now."""
        certificate = self._certify(self._name, self._key.public_key(), days, age, is_ca=True)
        write(self.ca_file, certificate.public_bytes(_PEM))

    def write_crl(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CRL, next due in *days* days (negative: it has ended)."""
        begin, end = _span(days, age)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(begin).next_update(end)
        for serial in self._revoked:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(revoked.revocation_date(_now()).build())
        write(self.crl_file, builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(
        self,
        name: str,
        common_names: Sequence[str] | None = None,
        days: float = _LIFETIME,
        age: float = 1,
        key: rsa.RSAPrivateKey | None = None,
        folder: str | None = None,
    ) -> x509.Certificate:
        """Write a key pair called *name* and return its certificate.

        Args:
            common_names: for its subject; *name* itself by default.
            days: until it ends, from now; negative: it has ended.
            age: days since it became valid; negative: it is not valid yet.
            key: the key to certify, instead of a fresh one.
            folder: where to write, instead of this authority's folder.
        """
        key = key or new_key()
        subject = _subject([name] if common_names is None else common_names)
        certificate = self._certify(subject, key.public_key(), days, age, is_ca=False)
        base = os.path.join(folder or self.folder, name)
        write(base + ".key", private_pem(key), mode=0o600)
        write(base + ".crt", certificate.public_bytes(_PEM))
        return certificate

    def revoke(self, certificate: x509.Certificate | str) -> None:
        """Put *certificate* (or the issued one of that name) on the CRL and write it."""
        if isinstance(certificate, str):
            with open(os.path.join(self.folder, certificate + ".crt"), "rb") as stream:
                certificate = x509.load_pem_x509_certificate(stream.read())
        self._revoked.append(certificate.serial_number)
        self.write_crl()

    def _certify(
        self, subject: x509.Name, key: rsa.RSAPublicKey, days: float, age: float, *, is_ca: bool
    ) -> x509.Certificate:
        begin, end = _span(days, age)
        usage = {name: False for name in ("content_commitment", "key_encipherment", "data_encipherment",
                                          "key_agreement", "encipher_only", "decipher_only")}
        usage.update(digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca)
        return (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number(), begin, end)
            .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return *key* as unencrypted PEM."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Replace *path* by *content* at once: a reader sees the old file or the new one."""
    temporary = path + ".new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(content)
    os.replace(temporary, path)


def _subject(common_names: Sequence[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in common_names])


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _span(days: float, age: float) -> tuple[datetime, datetime]:
    """Return when it begins, *age* days ago (what has ended: a day before its end at the latest), and when it ends."""
    if days < 0:
        age = max(age, 1 - days)
    return _now() - timedelta(days=age), _now() + timedelta(days=days)
