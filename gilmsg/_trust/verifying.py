"""The CA, the CRL, and the signers that they vouch for. Whatever bytes a stranger sends, only Refused leaves here."""

from __future__ import annotations

import binascii
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import crypto as openssl

from ..errors import ConfigurationError, Refused
from . import signing
from .signing import HASH, PADDING, Reminder, Span, Stamp, common_names, dates, stamp

#: Seconds for which the CA and the CRL read before go on to count while the files cannot be read together.
_BRIDGE = 10.0

#: Certificates remembered; a bus has hundreds, an attacker any number.
_REMEMBERED = 4096

#: Characters, in base64. A certificate has 1,500 to 15,000; an attacker's may have any number.
_LONGEST = 64 * 1024

#: The same of a certificate that is remembered, by this very text: all of them take 64 MiB at most.
_LONGEST_REMEMBERED = 16 * 1024

#: OpenSSL's verification errors (X509_V_ERR_*) that are worth a sentence of their own.
_EARLY, _LATE = 9, 10
_SENTENCES = {
    _EARLY: "its certificate is not valid yet",
    _LATE: "its certificate has expired",
    12: "our CRL has expired",
    23: "its certificate is revoked",
}
#: The same of those that mean: no path from it to our CA (7: the path's signature is another's).
_FOREIGN, _UNTRUSTED = "its certificate was not issued by our CA", (7, 18, 19, 20, 21)


class Part(NamedTuple):
    """The CA's certificate, or its CRL, as read from a file."""

    parsed: Any
    span: Span


class _Known(NamedTuple):
    """A certificate whose chain was checked."""

    common_name: str
    key: rsa.RSAPublicKey
    begin: float
    end: float


class _Anchor(NamedTuple):
    """The CA and the CRL as read at one moment, and the certificates that were checked under them."""

    #: Of both files before they were read; None once they could not be read again, which is tried at each use.
    stamps: tuple[Stamp | None, Stamp | None] | None
    read_at: float
    #: The CA, and the CRL if there is one.
    parsed: list[Any]
    spans: list[Span]
    store: openssl.X509Store
    known: dict[str, _Known]
    broken_since: float | None = None


def read_ca(path: str) -> Part:
    ca = _loaded(path, "ca_cert_location", x509.load_pem_x509_certificate, "CA certificate")
    return Part(ca, Span(f"the CA certificate {path} (ca_cert_location)", *dates(ca), "replace it", "ca"))


def read_crl(path: str) -> Part:
    crl = _loaded(path, "crl_location", x509.load_pem_x509_crl, "CRL")
    end = crl.next_update_utc.timestamp() if crl.next_update_utc else math.inf
    begin = crl.last_update_utc.timestamp()
    return Part(crl, Span(f"the CRL {path} (crl_location)", begin, end, "replace it", "crl"))


def require_issued(crl: Part, ca: Part) -> None:
    try:
        valid = crl.parsed.is_signature_valid(ca.parsed.public_key())
    except Exception as error:  # TypeError, UnsupportedAlgorithm: a key that signs nothing, or is of an unknown kind
        raise ConfigurationError(f"{ca.span.what} has a key that cannot be used: {error}") from error
    if not valid:
        raise ConfigurationError(f"{crl.span.what} is not signed by {ca.span.what}")


def _loaded(path: str, setting: str, load: Callable[[bytes], Any], what: str) -> Any:
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{setting}: {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{setting}: {path} is not a PEM {what}: {error}") from error


def claimed_name(message: Mapping[str, Any]) -> str | None:
    """Return the common name on the certificate in *message*; unverified, a mere claim."""
    try:
        _, names = _parsed(_credentials(message)[1])
    except Refused:
        return None
    return names[0] if len(names) == 1 else None


class Verifier:
    """Our CA and CRL (None: revocation is not checked); tells by which recipient a message is signed. For any thread.

    Both files are read again after *reread* seconds even if they look the same; *warn*, called as a logger's
    ``warning``, is told where they cannot be.
    """

    claimed_name = staticmethod(claimed_name)

    def __init__(self, ca: str, crl: str | None, reread: float, warn: Callable[..., None]) -> None:
        self._ca_file, self._crl_file, self._reread, self._warn = ca, crl, reread, warn
        self._reminder = Reminder(warn)
        self._anchor: _Anchor | None = None
        self._looked = -math.inf

    def check(self) -> _Anchor:
        """Return what holds now; ConfigurationError, naming setting and file, if nothing could be verified."""
        anchor = self._current()
        for span in anchor.spans:
            span.require_current()
        self._reminder.look(anchor.spans)
        return anchor

    def spans(self) -> list[Span]:
        """Return the times for which CA and CRL count that were read last, if they were."""
        anchor = self._anchor
        return [] if anchor is None else anchor.spans

    def signer_of(self, message: Mapping[str, Any], covered: bytes) -> str:
        """Return the common name of the certificate that signed *message*, whose covered bytes are *covered*."""
        signature, text = _credentials(message)
        try:
            anchor = self.check()
        except ConfigurationError as error:
            raise Refused(f"it cannot be checked: {error}", claimed_name(message), "trust") from error
        known = anchor.known.get(text)
        signer = known or _checked(text, anchor.store)
        now = time.time()
        if not signer.begin <= now <= signer.end:
            raise Refused(_SENTENCES[_LATE if now > signer.end else _EARLY], signer.common_name)
        try:
            signer.key.verify(signature, covered, PADDING, HASH)
        except InvalidSignature:
            raise Refused("its signature is invalid", signer.common_name) from None
        # Only now: copies of a recipient's certificate, each padded in another way, must neither
        # fill the memory nor drive out what is remembered.
        if known is None and len(text) <= _LONGEST_REMEMBERED:
            if len(anchor.known) >= _REMEMBERED:
                anchor.known.clear()
            anchor.known[text] = signer
        return signer.common_name

    def _current(self) -> _Anchor:
        old, now = self._anchor, time.monotonic()
        kept = old is not None and old.stamps is not None and now - old.read_at < self._reread
        if old is not None and kept and now - self._looked < signing.LOOK_EVERY:
            return old
        stamps, self._looked = (stamp(self._ca_file), stamp(self._crl_file) if self._crl_file else None), now
        if old is not None and kept and old.stamps == stamps:
            return old
        try:
            new = self._read(stamps, now)
        except ConfigurationError as error:
            if old is None:
                raise
            return self._bridged(old, error, now)
        if old is not None and old.parsed == new.parsed:
            new = new._replace(known=old.known)
        self._anchor = new
        return new

    def _read(self, stamps: tuple[Stamp | None, Stamp | None], now: float) -> _Anchor:
        ca, crl = read_ca(self._ca_file), read_crl(self._crl_file) if self._crl_file else None
        store, found = openssl.X509Store(), [ca]
        store.add_cert(openssl.X509.from_cryptography(ca.parsed))
        if crl is not None:
            require_issued(crl, ca)
            store.add_crl(crl.parsed)
            store.set_flags(openssl.X509StoreFlags.CRL_CHECK | openssl.X509StoreFlags.CRL_CHECK_ALL)
            found.append(crl)
        return _Anchor(stamps, now, [one.parsed for one in found], [one.span for one in found], store, {})

    def _bridged(self, old: _Anchor, error: ConfigurationError, now: float) -> _Anchor:
        """Return *old* for _BRIDGE seconds, never past ``crl_cache_expiry``; then raise *error*.

        So a half-written file costs no message, and a revoked certificate stops counting as soon as promised.
        """
        since = now if old.broken_since is None else old.broken_since
        self._anchor = old._replace(stamps=None, broken_since=since)
        if now >= min(since + _BRIDGE, old.read_at + self._reread):
            raise error
        if old.broken_since is None:
            self._warn("what was read before counts for %g s more: %s", _BRIDGE, error)
        return old


def _credentials(message: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return (signature, certificate still in base64) of *message*."""
    signature, text = message.get("signature"), message.get("certificate")
    if not isinstance(signature, str) or not isinstance(text, str):
        raise Refused("it is unsigned")
    if message.get("crypto", "x509") != "x509":
        raise Refused("it is not signed with an x509 certificate")
    if len(text) > _LONGEST or len(signature) > _LONGEST:
        raise Refused("its signature or certificate is too large")
    try:
        return binascii.a2b_base64(signature), text
    except ValueError:
        raise Refused("its signature is not base64") from None


def _checked(text: str, store: openssl.X509Store) -> _Known:
    """Return the owner of the certificate *text*; Refused unless it is issued by our CA, current and not revoked."""
    certificate, names = _parsed(text)
    claimed = names[0] if len(names) == 1 else None
    try:
        openssl.X509StoreContext(store, openssl.X509.from_cryptography(certificate)).verify_certificate()
    except openssl.X509StoreContextError as error:
        raise Refused(_sentence(*error.errors[:3:2]), claimed) from error
    except openssl.Error as error:  # OpenSSL parses it again, and knows better
        raise Refused("its certificate cannot be checked by OpenSSL", claimed) from error
    if claimed is None:
        raise Refused(f"its certificate has {len(names)} common names instead of one")
    try:
        key = certificate.public_key()
    except Exception as error:  # parsed only now
        raise Refused("the key in its certificate cannot be read") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise Refused("its certificate does not hold an RSA key", claimed)
    return _Known(claimed, key, *dates(certificate))


def _sentence(code: int, words: str) -> str:
    """Return what OpenSSL's verification error *code* means, with its own *words* where there may be several reasons."""
    what = _FOREIGN if code in _UNTRUSTED else "its certificate does not count under our CA and CRL"
    return _SENTENCES.get(code) or f"{what} ({words})"


def _parsed(text: str) -> tuple[x509.Certificate, tuple[str, ...]]:
    """Return a stranger's certificate, and the names on it; cryptography raises more than ValueError."""
    what = "its certificate"
    try:
        certificate = x509.load_pem_x509_certificate(binascii.a2b_base64(text))
        what = "the name on its certificate"
        return certificate, common_names(certificate)
    except Exception as error:
        raise Refused(f"{what} cannot be read") from error
