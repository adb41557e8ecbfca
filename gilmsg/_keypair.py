"""Our own key and certificate: loaded once, again when the files change, and used to sign."""

import base64
import logging
import threading
from typing import Any, Dict, NamedTuple, Optional, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from . import _acks, _dates, _files, _message
from .errors import ConfigurationError, PayloadError

log = logging.getLogger(__name__)

_Stamps = Tuple[_files.Stamp, _files.Stamp]


class _Loaded(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: str
    common_name: str
    span: _dates.Span


class Sealed(NamedTuple):
    """A signed message."""

    message: Dict[str, Any]
    #: What its signature covers.
    canonical: bytes
    #: Its bytes as they go over the wire.
    wire: bytes


class KeyPair:
    """The key and certificate ``<ssldir>/<certname>.key`` and ``.crt``.

    A renewed pair is picked up without a restart. Deployments replace the two files one
    after the other: while they do not belong together, or cannot be read, the pair that
    was loaded before goes on signing.
    """

    def __init__(self, ssldir: str, certname: str) -> None:
        self.key_file = "%s/%s.key" % (ssldir, certname)
        self.certificate_file = "%s/%s.crt" % (ssldir, certname)
        self._lock = threading.RLock()  # a signal handler may sign while we do
        self._loaded: Optional[_Loaded] = None
        self._stamps: Optional[_Stamps] = None

    @property
    def common_name(self) -> str:
        """The one common name on the certificate."""
        return self._current().common_name

    def check(self) -> None:
        """Raise ConfigurationError unless the pair can sign now."""
        self._usable()

    def sign(self, message: Dict[str, Any]) -> Dict[str, Any]:
        """Return *message* with ``crypto``, ``signature`` and ``certificate`` added, as :meth:`seal`."""
        return self.seal(message).message

    def seal(self, message: Dict[str, Any]) -> Sealed:
        """Sign *message*.

        Raises:
            ConfigurationError: the pair cannot be loaded, does not match, or is out of date.
            PayloadError: it is nested too deeply: what it carries may fit, but not one level further down.
        """
        loaded = self._usable()
        message = dict(message, crypto="x509")
        try:
            canonical = _acks.canonical(message)
        except _acks.BadFrame as error:
            raise PayloadError("msg cannot be signed: %s" % error) from error
        credentials = {
            "certificate": loaded.certificate,
            "signature": _base64(loaded.key.sign(canonical, padding.PKCS1v15(), hashes.SHA1())),
        }
        # Both are JSON objects, and neither is empty: so the message is not encoded once more.
        wire = _message.encode(credentials)[:-1] + b"," + canonical[1:]
        return Sealed(dict(message, **credentials), canonical, wire)

    def _usable(self) -> _Loaded:
        loaded = self._current()
        loaded.span.require_current()
        return loaded

    def _current(self) -> _Loaded:
        with self._lock:
            stamps = (_files.stamp(self.key_file), _files.stamp(self.certificate_file))
            if self._loaded is None or stamps != self._stamps:
                self._loaded = self._reload()
                self._stamps = stamps
            return self._loaded

    def _reload(self) -> _Loaded:
        try:
            return _load(self.key_file, self.certificate_file)
        except ConfigurationError as error:
            if self._loaded is None:
                raise
            log.warning("still signing with the pair loaded before: %s", error)
            return self._loaded


def _load(key_file: str, certificate_file: str) -> _Loaded:
    """Read both files and see that they belong together."""
    key = load_key(key_file)
    certificate = load_certificate(certificate_file)
    require_match(key, key_file, certificate, certificate_file)
    pem = _base64(certificate.public_bytes(serialization.Encoding.PEM))
    return _Loaded(key, pem, owner(certificate, certificate_file), span(certificate, certificate_file))


def load_key(path: str) -> rsa.RSAPrivateKey:
    """Return the private key in *path*, or raise ConfigurationError."""
    try:
        key = serialization.load_pem_private_key(_files.read(path), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            "the private key %s (ssldir, certnames) cannot be loaded: %s" % (path, error)
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("%s (ssldir, certnames) is not an RSA key" % path)
    return key


def load_certificate(path: str) -> x509.Certificate:
    """Return the certificate in *path*, or raise ConfigurationError."""
    try:
        return x509.load_pem_x509_certificate(_files.read(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError("%s cannot be loaded: %s" % (_what(path), error)) from error


def require_match(
    key: rsa.RSAPrivateKey, key_file: str, certificate: x509.Certificate, certificate_file: str
) -> None:
    """Raise ConfigurationError unless *certificate* is that of *key*."""
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(
            "the key %s does not belong to the certificate %s (ssldir, certnames)"
            % (key_file, certificate_file)
        )


def owner(certificate: x509.Certificate, path: str) -> str:
    """Return the one common name on our *certificate*, or raise ConfigurationError."""
    names = common_names(certificate)
    if len(names) != 1:
        raise ConfigurationError("%s must have exactly one common name; it has %r" % (_what(path), names))
    return names[0]


def span(certificate: x509.Certificate, path: str) -> _dates.Span:
    """Return when our *certificate* counts."""
    return _dates.of_certificate(_what(path), certificate, "renew it")


def _what(path: str) -> str:
    return "the certificate %s (ssldir, certnames)" % path


def common_names(certificate: x509.Certificate) -> Tuple[str, ...]:
    """Return the common names in the subject of *certificate*."""
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return tuple(str(attribute.value) for attribute in attributes)


def _base64(data: bytes) -> str:
    """Encode as fedmsg does: a line break after 76 characters and at the end."""
    return base64.encodebytes(data).decode("ascii")
