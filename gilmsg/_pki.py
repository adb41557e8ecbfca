"""A throw-away certificate authority, for the sandbox and for tests."""

import datetime
import os
from typing import List, Optional, Sequence, Union

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

#: Days. Enough for any sandbox, too little to be mistaken for the real thing.
_LIFETIME = 30


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
        self._revoked: List[int] = []
        self.write_ca()
        self.write_crl()

    def write_ca(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CA certificate, valid from *age* days ago for *days* days from now."""
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), days, age)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        write(self.ca_file, certificate.public_bytes(serialization.Encoding.PEM))

    def write_crl(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CRL, next due in *days* days (negative: it has ended)."""
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(now - datetime.timedelta(days=max(age, 1 - days)))
            .next_update(now + datetime.timedelta(days=days))
        )
        for serial in self._revoked:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial)
            builder = builder.add_revoked_certificate(revoked.revocation_date(now).build())
        crl = builder.sign(self._key, hashes.SHA256())
        write(self.crl_file, crl.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        common_names: Optional[Sequence[str]] = None,
        days: float = _LIFETIME,
        age: float = 1,
        key: Optional[rsa.RSAPrivateKey] = None,
        folder: Optional[str] = None,
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
        certificate = (
            _builder(subject, self._name, key.public_key(), days, age)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        base = os.path.join(folder or self.folder, name)
        write(base + ".key", private_pem(key), mode=0o600)
        write(base + ".crt", certificate.public_bytes(serialization.Encoding.PEM))
        return certificate

    def revoke(self, certificate: Union[x509.Certificate, str]) -> None:
        """Put *certificate* (or the issued one of that name) on the CRL and write it."""
        if isinstance(certificate, str):
            with open(os.path.join(self.folder, certificate + ".crt"), "rb") as stream:
                certificate = x509.load_pem_x509_certificate(stream.read())
        self._revoked.append(certificate.serial_number)
        self.write_crl()


def private_pem(key: rsa.RSAPrivateKey) -> bytes:
    """Return *key* as unencrypted PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Replace *path* by *content* at once: a reader sees the old file or the new one."""
    temporary = path + ".new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
        stream.write(content)
    os.replace(temporary, path)


def _subject(common_names: Sequence[str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in common_names])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, days: float, age: float
) -> x509.CertificateBuilder:
    now = _now()
    begin = now - datetime.timedelta(days=max(age, 1 - days) if days < 0 else age)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
