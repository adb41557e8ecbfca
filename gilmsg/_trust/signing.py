"""Our own key and certificate: kept while their files stay as they are, and used to sign."""

from __future__ import annotations

import base64
import logging
import math
import os
import time
from pathlib import Path
from typing import Callable, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ..errors import ConfigurationError

log = logging.getLogger("gilmsg.trust")

#: What fedmsg signs with.
PADDING, HASH = padding.PKCS1v15(), hashes.SHA1()

Stamp = tuple[int, int, int, int]


class Span(NamedTuple):
    """The time for which a certificate or a CRL counts, in seconds since the epoch."""

    #: For people, with its file and settings.
    what: str
    begin: float
    #: ``math.inf`` where there is no end.
    end: float
    #: What to do once it has ended.
    remedy: str

    def require_current(self) -> None:
        """Raise ConfigurationError unless it counts now."""
        now = time.time()
        if now > self.end:
            raise ConfigurationError(f"{self.what} expired on {_date(self.end)}; {self.remedy}")
        if now < self.begin:
            raise ConfigurationError(f"{self.what} becomes valid only on {_date(self.begin)}")

    def until(self) -> str:
        """Return its end, for people."""
        return "replaced (no end)" if self.end == math.inf else _date(self.end)


class Credentials(NamedTuple):
    """The two fields that prove who signed a message; both in base64 with line breaks, as fedmsg writes them."""

    signature: str
    certificate: str


class _Pair(NamedTuple):
    stamps: tuple[Stamp | None, Stamp | None]
    key: rsa.RSAPrivateKey
    certificate: str
    common_name: str
    span: Span


class Signer:
    """The key and certificate ``<ssldir>/<certname>.key`` and ``.crt``; for any thread.

    A renewed pair is picked up without a restart. While the two files do not belong together, or cannot be read, the
    pair that was loaded before goes on signing; *warn*, called as a logger's ``warning``, is told.
    """

    def __init__(self, ssldir: str, certname: str, warn: Callable[..., None] = log.warning) -> None:
        self.key_file = f"{ssldir}/{certname}.key"
        self.certificate_file = f"{ssldir}/{certname}.crt"
        self._warn = warn
        self._pair: _Pair | None = None

    @property
    def common_name(self) -> str:
        """The one common name on the certificate."""
        return self._current().common_name

    def check(self) -> None:
        """Raise ConfigurationError unless the pair can sign now."""
        self._current().span.require_current()

    def seal(self, covered: bytes) -> Credentials:
        """Sign *covered*, the bytes of a message whose ``crypto`` is ``"x509"``, or raise ConfigurationError."""
        pair = self._current()
        pair.span.require_current()
        return Credentials(_base64(pair.key.sign(covered, PADDING, HASH)), pair.certificate)

    def _current(self) -> _Pair:
        old, stamps = self._pair, (stamp(self.key_file), stamp(self.certificate_file))
        if old is not None and old.stamps == stamps:
            return old
        try:
            self._pair = pair = self._loaded(stamps)
        except ConfigurationError as error:
            if old is None:
                raise
            self._pair = pair = old._replace(stamps=stamps)  # read again once they change again
            self._warn("still signing with the pair loaded before: %s", error)
        return pair

    def _loaded(self, stamps: tuple[Stamp | None, Stamp | None]) -> _Pair:
        key, certificate = load_key(self.key_file), load_certificate(self.certificate_file)
        require_match(key, self.key_file, certificate, self.certificate_file)
        path, pem = self.certificate_file, certificate.public_bytes(serialization.Encoding.PEM)
        return _Pair(stamps, key, _base64(pem), owner(certificate, path), span(certificate, path))


def load_key(path: str) -> rsa.RSAPrivateKey:
    """Return the private key in *path*, or raise ConfigurationError."""
    try:
        key = serialization.load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(f"the private key {path} (ssldir, certnames) cannot be loaded: {error}") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(f"{path} (ssldir, certnames) is not an RSA key")
    return key


def load_certificate(path: str) -> x509.Certificate:
    """Return the certificate in *path*, or raise ConfigurationError."""
    try:
        return x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{_what(path)} cannot be loaded: {error}") from error


def require_match(key: rsa.RSAPrivateKey, key_file: str, certificate: x509.Certificate, certificate_file: str) -> None:
    """Raise ConfigurationError unless *certificate* is that of *key*."""
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(
            f"the key {key_file} does not belong to the certificate {certificate_file} (ssldir, certnames)"
        )


def owner(certificate: x509.Certificate, path: str) -> str:
    """Return the one common name on our *certificate*, or raise ConfigurationError."""
    names = common_names(certificate)
    if len(names) != 1:
        raise ConfigurationError(f"{_what(path)} must have exactly one common name; it has {names!r}")
    return names[0]


def span(certificate: x509.Certificate, path: str) -> Span:
    """Return when our *certificate* counts."""
    return Span(_what(path), *dates(certificate), "renew it")


def dates(certificate: x509.Certificate) -> tuple[float, float]:
    """Return when *certificate* begins and ends."""
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def common_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the common names in the subject of *certificate*."""
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return tuple(str(attribute.value) for attribute in attributes)


def stamp(path: str) -> Stamp | None:
    """Return numbers that change when *path* is rewritten or replaced; None if it cannot be seen."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    # The time of change too: a copy may keep the time of modification, size and inode number.
    return info.st_mtime_ns, info.st_ctime_ns, info.st_size, info.st_ino


def _what(path: str) -> str:
    return f"the certificate {path} (ssldir, certnames)"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _base64(data: bytes) -> str:
    return base64.encodebytes(data).decode("ascii")
