"""Who signed a message, under our CA and CRL: the chain check is remembered, the signature not.

What is remembered of a certificate ends when the certificate, the CA certificate or the CRL
ends, and when the file of the CA or the CRL changes: the files are looked at on each use
(two ``stat`` calls), and read again after ``crl_cache_expiry`` seconds in any case.
"""

import base64
import binascii
import threading
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from OpenSSL import crypto as openssl

from . import _acks, _files
from ._acks import Refused
from ._keypair import common_names
from .errors import ConfigurationError

#: Certificates remembered per trust store; a bus has hundreds, an attacker any number.
_REMEMBERED = 4096

#: OpenSSL's verification errors (X509_V_ERR_*) that are worth a sentence of their own.
_SENTENCES = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    12: "our CRL has expired",
    23: "its certificate is revoked",
}
_FOREIGN = "its certificate was not issued by our CA"


class _Signer(NamedTuple):
    """A certificate whose chain was checked."""

    common_name: str
    key: rsa.RSAPublicKey
    not_before: float
    not_after: float


class _Anchor:
    """The CA and the CRL as read at one moment, and what was checked under them."""

    def __init__(self, ca_file: str, crl_file: Optional[str]) -> None:
        self.stamps = _stamps(ca_file, crl_file)
        self.read_at = time.monotonic()
        self.content = (
            _read(ca_file, "ca_cert_location"),
            _read(crl_file, "crl_location") if crl_file else b"",
        )
        self.signers: Dict[str, _Signer] = {}
        self._ca = _parse(x509.load_pem_x509_certificate, self.content[0], ca_file, "CA certificate")
        self._crl = (
            _parse(x509.load_pem_x509_crl, self.content[1], crl_file, "CRL") if crl_file else None
        )
        if self._crl is not None and not self._crl.is_signature_valid(self._ca.public_key()):
            raise ConfigurationError(
                "the CRL %s (crl_location) is not signed by the CA %s (ca_cert_location)"
                % (crl_file, ca_file)
            )
        self._store = self._openssl_store()
        self._spans = list(self._validity(ca_file, crl_file))

    def _validity(self, ca_file: str, crl_file: Optional[str]) -> Any:
        """Yield (what, begin, end) of what may expire; end is None where there is no end."""
        yield (
            "the CA certificate %s (ca_cert_location)" % ca_file,
            self._ca.not_valid_before_utc.timestamp(),
            self._ca.not_valid_after_utc.timestamp(),
        )
        if self._crl is not None:  # an empty one is false
            end = self._crl.next_update_utc
            yield (
                "the CRL %s (crl_location)" % crl_file,
                self._crl.last_update_utc.timestamp(),
                end.timestamp() if end else None,
            )

    def check_dates(self) -> None:
        """Raise ConfigurationError if the CA or the CRL is not current."""
        now = time.time()
        for what, begin, end in self._spans:
            if end is not None and now > end:
                raise ConfigurationError("%s expired on %s; replace it" % (what, _date(end)))
            if now < begin:
                raise ConfigurationError("%s becomes valid only on %s" % (what, _date(begin)))

    def check_chain(self, certificate: x509.Certificate, claimed: Optional[str]) -> None:
        """Raise Refused unless *certificate* is issued by our CA, current and not revoked."""
        context = openssl.X509StoreContext(
            self._store, openssl.X509.from_cryptography(certificate)
        )
        try:
            context.verify_certificate()
        except openssl.X509StoreContextError as error:
            code = error.errors[0] if error.errors else None
            raise Refused(_SENTENCES.get(code or 0, _FOREIGN), claimed) from error

    def _openssl_store(self) -> openssl.X509Store:
        store = openssl.X509Store()
        store.add_cert(openssl.X509.from_cryptography(self._ca))
        if self._crl is not None:  # an empty one is false
            store.add_crl(self._crl)
            flags = openssl.X509StoreFlags
            store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)
        return store


class TrustStore:
    """Our CA and CRL; answers by which recipient a message is signed. Thread-safe.

    Args:
        ca_file: path of the PEM CA certificate.
        crl_file: path of the PEM CRL; None means that revocation is not checked.
        reread: seconds after which both files are read again even if they look the same.
    """

    def __init__(self, ca_file: str, crl_file: Optional[str], reread: float) -> None:
        self._ca_file = ca_file
        self._crl_file = crl_file
        self._reread = reread
        self._lock = threading.Lock()
        self._anchor: Optional[_Anchor] = None

    def check(self) -> None:
        """Raise ConfigurationError, naming setting and file, if nothing could be verified now."""
        self._current().check_dates()

    def signer_of(self, message: Mapping[str, Any]) -> str:
        """Return the common name of the certificate that signed *message*.

        Raises:
            Refused: it is unsigned, the signature is wrong, or the certificate does not
                count under our CA and CRL, or does not have exactly one common name.
        """
        signature, encoded = _credentials(message)
        try:
            anchor = self._current()
            anchor.check_dates()
        except ConfigurationError as error:
            raise Refused("it cannot be checked: %s" % error) from error
        signer = _signer(anchor, encoded)
        try:
            signer.key.verify(
                signature, _acks.canonical(message), padding.PKCS1v15(), hashes.SHA1()
            )
        except InvalidSignature:
            raise Refused("its signature is invalid", signer.common_name) from None
        return signer.common_name

    def _current(self) -> _Anchor:
        """Return what holds now; a changed file makes a new anchor, with nothing remembered."""
        with self._lock:
            anchor = self._anchor
            if anchor is not None:
                fresh = time.monotonic() - anchor.read_at < self._reread
                if fresh and anchor.stamps == _stamps(self._ca_file, self._crl_file):
                    return anchor
            new = _Anchor(self._ca_file, self._crl_file)
            if anchor is not None and anchor.content == new.content:
                new.signers = anchor.signers
            self._anchor = new
            return new


def claimed_name(message: Mapping[str, Any]) -> Optional[str]:
    """Return the common name on the certificate in *message*; unverified, a mere claim."""
    try:
        names = _names(_certificate(_credentials(message)[1]))
    except Refused:
        return None
    return names[0] if len(names) == 1 else None


def _signer(anchor: _Anchor, encoded: str) -> _Signer:
    """Return the owner of a certificate that passed the chain check, now or before."""
    signer = anchor.signers.get(encoded)
    if signer is None:
        signer = _checked(anchor, _certificate(encoded))
        if len(anchor.signers) >= _REMEMBERED:
            anchor.signers.clear()
        anchor.signers[encoded] = signer
    now = time.time()
    if now > signer.not_after:
        raise Refused(_SENTENCES[10], signer.common_name)
    if now < signer.not_before:
        raise Refused(_SENTENCES[9], signer.common_name)
    return signer


def _checked(anchor: _Anchor, certificate: x509.Certificate) -> _Signer:
    """Check a certificate that was not seen before under this anchor."""
    names = _names(certificate)
    anchor.check_chain(certificate, names[0] if len(names) == 1 else None)
    if len(names) != 1:
        raise Refused("its certificate has %d common names instead of one" % len(names))
    key = _public_key(certificate)
    if not isinstance(key, rsa.RSAPublicKey):
        raise Refused("its certificate does not hold an RSA key", names[0])
    return _Signer(
        names[0],
        key,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _credentials(message: Mapping[str, Any]) -> Tuple[bytes, str]:
    """Return (signature, certificate still in base64) of *message*."""
    signature, certificate = message.get("signature"), message.get("certificate")
    if not isinstance(signature, str) or not isinstance(certificate, str):
        raise Refused("it is unsigned")
    if message.get("crypto", "x509") != "x509":
        raise Refused("it is not signed with an x509 certificate")
    try:
        return base64.b64decode(signature), certificate
    except ValueError:
        raise Refused("its signature is not base64") from None


def _certificate(encoded: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(base64.b64decode(encoded))
    except (ValueError, binascii.Error) as error:
        raise Refused("its certificate cannot be read") from error


def _names(certificate: x509.Certificate) -> Tuple[str, ...]:
    try:
        return common_names(certificate)
    except ValueError as error:  # parsed only now
        raise Refused("the name on its certificate cannot be read") from error


def _public_key(certificate: x509.Certificate) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refused("the key in its certificate cannot be read") from error


def _stamps(ca_file: str, crl_file: Optional[str]) -> Tuple[_files.Stamp, _files.Stamp]:
    return _files.stamp(ca_file), _files.stamp(crl_file) if crl_file else None


def _read(path: str, setting: str) -> bytes:
    try:
        return _files.read(path)
    except OSError as error:
        raise ConfigurationError("%s: %s cannot be read: %s" % (setting, path, error)) from error


def _parse(load: Any, pem: bytes, path: str, what: str) -> Any:
    setting = "ca_cert_location" if what.startswith("CA") else "crl_location"
    try:
        return load(pem)
    except ValueError as error:
        raise ConfigurationError(
            "%s: %s is not a PEM %s: %s" % (setting, path, what, error)
        ) from error


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
