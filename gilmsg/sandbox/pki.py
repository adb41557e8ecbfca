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
        self._name, self._key = _subject([name]), new_key()
        self._revoked: list[int] = []
        self.write_ca()
        self.write_crl()

    def write_ca(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CA certificate, valid from *age* days ago for *days* days from now."""
        write(self.ca_file, self._certify(self._name, self._key, days, age, is_ca=True).public_bytes(_PEM))

    def write_crl(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CRL, next due in *days* days (negative: it has ended)."""
        begin, end = _span(days, age)
        builder = x509.CertificateRevocationListBuilder(self._name, begin, end)
        for serial in self._revoked:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, begin).build())
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
        certificate = self._certify(_subject([name] if common_names is None else common_names), key, days, age)
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
        self, subject: x509.Name, key: rsa.RSAPrivateKey, days: float, age: float, is_ca: bool = False
    ) -> x509.Certificate:
        serial, span = x509.random_serial_number(), _span(days, age)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), serial, *span)
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        return builder.sign(self._key, hashes.SHA256())


def new_key() -> rsa.RSAPrivateKey:
    """Return a fresh RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


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


def _span(days: float, age: float) -> tuple[datetime, datetime]:
    """Return when it begins, *age* days ago (what has ended: a day before its end at the latest), and when it ends."""
    now = datetime.now(timezone.utc)
    return now - timedelta(days=max(age, 1 - days) if days < 0 else age), now + timedelta(days=days)
