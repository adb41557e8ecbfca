"""Our own key and certificate: loaded once, again when the files change, and used to sign."""

import base64
import logging
import threading
import time
from typing import Any, Dict, NamedTuple, Optional, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from . import _acks, _files
from .errors import ConfigurationError

log = logging.getLogger(__name__)

_Stamps = Tuple[_files.Stamp, _files.Stamp]


class _Loaded(NamedTuple):
    key: rsa.RSAPrivateKey
    certificate: str
    common_name: str
    not_before: float
    not_after: float


class KeyPair:
    """The key and certificate ``<ssldir>/<certname>.key`` and ``.crt``.

    A renewed pair is picked up without a restart. Deployments replace the two files one
    after the other: while they do not belong together, or cannot be read, the pair that
    was loaded before goes on signing.
    """

    def __init__(self, ssldir: str, certname: str) -> None:
        self.key_file = "%s/%s.key" % (ssldir, certname)
        self.certificate_file = "%s/%s.crt" % (ssldir, certname)
        self._lock = threading.Lock()
        self._loaded: Optional[_Loaded] = None
        self._stamps: Optional[_Stamps] = None

    @property
    def common_name(self) -> str:
        """The one common name on the certificate."""
        return self._current().common_name

    def check(self) -> None:
        """Raise ConfigurationError unless the pair can sign now."""
        loaded, now = self._current(), time.time()
        if not loaded.not_before <= now <= loaded.not_after:
            when = loaded.not_after if now > loaded.not_after else loaded.not_before
            raise ConfigurationError(
                "the certificate %s (ssldir, certnames) %s on %s; renew it"
                % (
                    self.certificate_file,
                    "expired" if now > loaded.not_after else "becomes valid only",
                    time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when)),
                )
            )

    def sign(self, message: Dict[str, Any]) -> Dict[str, Any]:
        """Return *message* with ``crypto``, ``signature`` and ``certificate`` added."""
        loaded = self._current()
        message = dict(message, crypto="x509")
        signature = loaded.key.sign(_acks.canonical(message), padding.PKCS1v15(), hashes.SHA1())
        message["signature"] = _base64(signature)
        message["certificate"] = loaded.certificate
        return message

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
    key = _key(key_file)
    certificate = _certificate(certificate_file)
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(
            "the key %s does not belong to the certificate %s (ssldir, certnames)"
            % (key_file, certificate_file)
        )
    names = common_names(certificate)
    if len(names) != 1:
        raise ConfigurationError(
            "the certificate %s (ssldir, certnames) must have exactly one common name; it has %r"
            % (certificate_file, names)
        )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return _Loaded(
        key,
        _base64(pem),
        names[0],
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _key(path: str) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(_files.read(path), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            "the private key %s (ssldir, certnames) cannot be loaded: %s" % (path, error)
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("%s (ssldir, certnames) is not an RSA key" % path)
    return key


def _certificate(path: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_files.read(path))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "the certificate %s (ssldir, certnames) cannot be loaded: %s" % (path, error)
        ) from error


def common_names(certificate: x509.Certificate) -> Tuple[str, ...]:
    """Return the common names in the subject of *certificate*."""
    attributes = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return tuple(str(attribute.value) for attribute in attributes)


def _base64(data: bytes) -> str:
    """Encode as fedmsg does: a line break after 76 characters and at the end."""
    return base64.encodebytes(data).decode("ascii")
