"""The CA and the CRL as read at one moment, and which certificates they vouch for.

A certificate's chain is checked once, and the answer remembered for as long as this CA and
this CRL count; its dates are looked at each time.
"""

import time
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import crypto as openssl

from . import _credentials, _dates, _files
from ._acks import Refused
from .errors import ConfigurationError

#: Certificates remembered; a bus has hundreds, an attacker any number.
_REMEMBERED = 4096

#: OpenSSL's verification errors (X509_V_ERR_*) that are worth a sentence of their own.
_SENTENCES = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    12: "our CRL has expired",
    23: "its certificate is revoked",
}
_FOREIGN = "its certificate was not issued by our CA"


class Signer(NamedTuple):
    """A certificate whose chain was checked."""

    common_name: str
    key: rsa.RSAPublicKey
    not_before: float
    not_after: float

    def check_dates(self) -> None:
        """Raise Refused unless the certificate is valid now."""
        now = time.time()
        if now > self.not_after:
            raise Refused(_SENTENCES[10], self.common_name)
        if now < self.not_before:
            raise Refused(_SENTENCES[9], self.common_name)


class Part(NamedTuple):
    """The CA's certificate, or its CRL, as read from a file."""

    pem: bytes
    parsed: Any
    span: _dates.Span


def read_ca(path: str) -> Part:
    """Return the CA's certificate in *path*, or raise ConfigurationError."""
    pem, ca = _loaded(path, "ca_cert_location", x509.load_pem_x509_certificate, "CA certificate")
    what = "the CA certificate %s (ca_cert_location)" % path
    return Part(pem, ca, _dates.of_certificate(what, ca, "replace it"))


def read_crl(path: str) -> Part:
    """Return the CRL in *path*, or raise ConfigurationError."""
    pem, crl = _loaded(path, "crl_location", x509.load_pem_x509_crl, "CRL")
    begin, end = crl.last_update_utc.timestamp(), crl.next_update_utc
    what = "the CRL %s (crl_location)" % path
    return Part(pem, crl, _dates.Span(what, begin, end.timestamp() if end else None, "replace it"))


def _loaded(path: str, setting: str, load: Callable[[bytes], Any], what: str) -> Tuple[bytes, Any]:
    try:
        pem = _files.read(path)
    except OSError as error:
        raise ConfigurationError("%s: %s cannot be read: %s" % (setting, path, error)) from error
    try:
        return pem, load(pem)
    except ValueError as error:
        raise ConfigurationError("%s: %s is not a PEM %s: %s" % (setting, path, what, error)) from error


def require_issued(crl: Part, ca: Part) -> None:
    """Raise ConfigurationError unless *crl* is signed by *ca*."""
    if not crl.parsed.is_signature_valid(ca.parsed.public_key()):
        raise ConfigurationError("%s is not signed by %s" % (crl.span.what, ca.span.what))


class Anchor:
    """The CA and the CRL as read at one moment, and what was checked under them."""

    def __init__(self, ca_file: str, crl_file: Optional[str]) -> None:
        self.stamps = stamps(ca_file, crl_file)
        self.read_at = time.monotonic()
        ca, crl = read_ca(ca_file), read_crl(crl_file) if crl_file else None
        if crl is not None:
            require_issued(crl, ca)
        self.content = (ca.pem, crl.pem if crl else b"")
        self.spans = [part.span for part in (ca, crl) if part]
        self.signers: Dict[bytes, Signer] = {}
        self._store = _openssl_store(ca, crl)

    def check_dates(self) -> None:
        """Raise ConfigurationError if the CA or the CRL is not current."""
        for span in self.spans:
            span.require_current()

    def signer(self, certificate: x509.Certificate) -> Signer:
        """Return whose *certificate* is, its chain checked; raise Refused unless it counts."""
        names = _credentials.names(certificate)
        self._check_chain(certificate, names[0] if len(names) == 1 else None)
        if len(names) != 1:
            raise Refused("its certificate has %d common names instead of one" % len(names))
        key = _credentials.public_key(certificate)
        if not isinstance(key, rsa.RSAPublicKey):
            raise Refused("its certificate does not hold an RSA key", names[0])
        return Signer(
            names[0],
            key,
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )

    def _check_chain(self, certificate: x509.Certificate, claimed: Optional[str]) -> None:
        """Raise Refused unless *certificate* is issued by our CA, current and not revoked."""
        try:
            context = openssl.X509StoreContext(
                self._store, openssl.X509.from_cryptography(certificate)
            )
            context.verify_certificate()
        except openssl.X509StoreContextError as error:
            code = error.errors[0] if error.errors else None
            raise Refused(_SENTENCES.get(code or 0, _FOREIGN), claimed) from error
        except openssl.Error as error:  # OpenSSL parses it again, and knows better
            raise Refused("its certificate cannot be checked by OpenSSL", claimed) from error

    def remember(self, key: bytes, signer: Signer) -> None:
        """Keep a certificate whose owner has proven to hold its key."""
        if key not in self.signers:
            if len(self.signers) >= _REMEMBERED:
                self.signers.clear()
            self.signers[key] = signer


def _openssl_store(ca: Part, crl: Optional[Part]) -> openssl.X509Store:
    store = openssl.X509Store()
    store.add_cert(openssl.X509.from_cryptography(ca.parsed))
    if crl is not None:
        store.add_crl(crl.parsed)
        flags = openssl.X509StoreFlags
        store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)
    return store


def stamps(ca_file: str, crl_file: Optional[str]) -> Tuple[_files.Stamp, _files.Stamp]:
    """Return what tells one state of both files from the next."""
    return _files.stamp(ca_file), _files.stamp(crl_file) if crl_file else None
