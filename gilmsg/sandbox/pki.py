"""A throw-away certificate authority, for the sandbox and for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from .. import _pki

#: Days. Enough for any sandbox, too little to be mistaken for the real thing.
_LIFETIME = 30


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
        self._name, self._key = _pki.subject([name]), _pki.new_key()
        self._revoked: list[x509.RevokedCertificate] = []
        self.write_ca()
        self.write_crl()

    @property
    def _issuer(self) -> _pki.Issuer:
        return _pki.Issuer(self._name, self._key)

    def write_ca(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CA certificate, valid from *age* days ago for *days* days from now."""
        _pki.write_certificate(self.ca_file, self._issuer.ca(days, age))

    def write_crl(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CRL, next due in *days* days (negative: it has ended)."""
        _pki.write_certificate(self.crl_file, self._issuer.crl(self._revoked, days, age))

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
        key = key or _pki.new_key()
        subject = _pki.subject([name] if common_names is None else common_names)
        certificate = self._issuer.certificate(subject, key.public_key(), days, age)
        _pki.write_pair(os.path.join(folder or self.folder, name), key, certificate)
        return certificate

    def revoke(self, certificate: x509.Certificate | str) -> None:
        """Put *certificate* (or the issued one of that name) on the CRL and write it."""
        if isinstance(certificate, str):
            with open(os.path.join(self.folder, certificate + ".crt"), "rb") as stream:
                certificate = x509.load_pem_x509_certificate(stream.read())
        self._revoked.append(_pki.revoked(certificate))
        self.write_crl()
