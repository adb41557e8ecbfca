"""Our own key and certificate: kept while their files stay as they are, and used to sign."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ..errors import ConfigurationError

#: What fedmsg signs with.
PADDING, HASH = padding.PKCS1v15(), hashes.SHA1()

#: Days before its end from which a certificate is warned of; seconds in one, and between two looks.
_WARN_DAYS, _DAY, _LOOK_AGAIN = 14.0, 86400, 60.0

#: Seconds for which files that were looked at pass for unchanged: four stat() at each use cost a message 1 %.
LOOK_EVERY = 0.1

#: Bits; a smaller RSA key can be broken.
_LEAST_BITS = 2048

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
    #: ``certificate``, ``ca`` or ``crl``. A CRL is replaced often: it is warned of in the last tenth of its time.
    kind: str

    def require_current(self) -> None:
        """Raise ConfigurationError unless it counts now."""
        now = time.time()
        if now > self.end:
            raise ConfigurationError(f"{self.what} expired on {_date(self.end)}; {self.remedy}")
        if now < self.begin:
            raise ConfigurationError(f"{self.what} becomes valid only on {_date(self.begin)}")

    def ending(self, days: float | None = None) -> list[str]:
        """Return a warning if it ends within *days* (14 if None), or is a CRL in the last tenth of its time."""
        margin = (self.end - self.begin) / 10 if self.kind == "crl" else (_WARN_DAYS if days is None else days) * _DAY
        return [f"{self.what} expires on {_date(self.end)}; {self.remedy}"] if self.end - time.time() < margin else []

    def until(self) -> str:
        """Return its end, for people."""
        return "replaced (no end)" if self.end == math.inf else _date(self.end)


class Reminder:
    """WARNINGs of what ends soon, each once a day; *warn* is called as a logger's ``warning``. For any thread."""

    def __init__(self, warn: Callable[..., None]) -> None:
        self._warn, self._look_at = warn, -math.inf
        #: Warning -> when it is due again.
        self._told: dict[str, float] = {}

    def look(self, spans: Sequence[Span]) -> None:
        """Warn of *spans*, which are in use; called at each use, it looks once a minute."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_AGAIN
        for warning in (one for span in spans for one in span.ending()):
            if now >= self._told.get(warning, now):
                self._warn("%s", warning)
                self._told[warning] = now + _DAY


class Seal(NamedTuple):
    """The fields that sign a message; *members*: the same two as they stand in a JSON object, without its braces."""

    signature: str
    certificate: str
    members: bytes

    def on(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return *message* with these fields."""
        return {**message, "signature": self.signature, "certificate": self.certificate}


class _Pair(NamedTuple):
    stamps: tuple[Stamp | None, Stamp | None]
    key: rsa.RSAPrivateKey
    certificate: str
    #: The certificate as JSON, up to the text of the signature: to encode it for each message costs 2 %.
    members: bytes
    common_name: str
    span: Span


class Signer:
    """The key and certificate ``<ssldir>/<certname>.key`` and ``.crt``; for any thread. What fails is a ConfigurationError.

    While the two files do not belong together, or cannot be read, the pair that was loaded before goes on signing;
    *warn*, called as a logger's ``warning``, is told.
    """

    def __init__(self, ssldir: str, certname: str, warn: Callable[..., None]) -> None:
        self.key_file, self.certificate_file = f"{ssldir}/{certname}.key", f"{ssldir}/{certname}.crt"
        self._warn, self._reminder = warn, Reminder(warn)
        self._pair: _Pair | None = None
        self._looked = -math.inf

    @property
    def common_name(self) -> str:
        return self._current().common_name

    def spans(self) -> list[Span]:
        """Return the time for which the certificate counts that was read last, if one was."""
        pair = self._pair
        return [] if pair is None else [pair.span]

    def check(self) -> _Pair:
        """Return what can sign now."""
        pair = self._current()
        pair.span.require_current()
        self._reminder.look([pair.span])
        return pair

    def seal(self, covered: bytes) -> Seal:
        """Return what signs *covered*, the bytes of a message whose ``crypto`` is ``"x509"``."""
        pair = self.check()
        signature = base64.encodebytes(pair.key.sign(covered, PADDING, HASH))
        members = pair.members + signature.replace(b"\n", b"\\n") + b'"'
        return Seal(signature.decode("ascii"), pair.certificate, members)

    def _current(self) -> _Pair:
        old, now = self._pair, time.monotonic()
        if old is not None and now - self._looked < LOOK_EVERY:
            return old
        stamps, self._looked = (stamp(self.key_file), stamp(self.certificate_file)), now
        if old is not None and old.stamps == stamps:
            return old
        try:
            key, (certificate, common_name, span) = self.load_key(), self.load_certificate()
            self.require_match(key, certificate)
            pem = base64.encodebytes(certificate.public_bytes(serialization.Encoding.PEM)).decode("ascii")
            members = f'"certificate":{json.dumps(pem)},"signature":"'.encode("ascii")
            self._pair = pair = _Pair(stamps, key, pem, members, common_name, span)
            for weakness in self.weaknesses(key):
                self._warn("%s", weakness)
        except ConfigurationError as error:
            if old is None:
                raise
            self._pair = pair = old._replace(stamps=stamps)  # read again once they change again
            self._warn("still signing with the pair loaded before: %s", error)
        return pair

    def load_key(self) -> rsa.RSAPrivateKey:
        path = self.key_file
        try:
            # Validated by signing, in `require_match`: validation here would keep Python's own lock, and so stop every thread,
            # for 50 ms with 2,048 bits, 0.3 s with 4,096. "Unsafe" it is for keys of strangers; this one is the operator's.
            key = serialization.load_pem_private_key(Path(path).read_bytes(), None, unsafe_skip_rsa_key_validation=True)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(f"the private key {path} (ssldir, certnames) cannot be loaded: {error}") from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ConfigurationError(f"{path} (ssldir, certnames) is not an RSA key")
        return key

    def weaknesses(self, key: rsa.RSAPrivateKey) -> list[str]:
        """Return why *key*, which was loaded, is no good secret."""
        what, found = f"the private key {self.key_file} (ssldir, certnames)", []
        with contextlib.suppress(OSError):
            if os.stat(self.key_file).st_mode & stat.S_IROTH:
                found.append(f"{what} can be read by everybody (its mode); chmod o-r it, and issue another if in doubt")
        if key.key_size < _LEAST_BITS:
            found.append(f"{what} has {key.key_size} bits and can be broken; issue one of {_LEAST_BITS} or more")
        return found

    def load_certificate(self) -> tuple[x509.Certificate, str, Span]:
        """Return the certificate, the one common name on it, and when it counts."""
        what = f"the certificate {self.certificate_file} (ssldir, certnames)"
        try:
            certificate = x509.load_pem_x509_certificate(Path(self.certificate_file).read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{what} cannot be loaded: {error}") from error
        names = common_names(certificate)
        if len(names) != 1:
            raise ConfigurationError(f"{what} must have exactly one common name; it has {names!r}")
        return certificate, names[0], Span(what, *dates(certificate), "renew it", "certificate")

    def require_match(self, key: rsa.RSAPrivateKey, certificate: x509.Certificate) -> None:
        if certificate.public_key() != key.public_key():
            files = f"the key {self.key_file} does not belong to the certificate {self.certificate_file}"
            raise ConfigurationError(files + " (ssldir, certnames)")
        try:
            key.public_key().verify(key.sign(b"", PADDING, HASH), b"", PADDING, HASH)
        except (InvalidSignature, InternalError, ValueError) as error:
            words = f"the private key {self.key_file} (ssldir, certnames) is damaged: what it signs cannot be verified"
            raise ConfigurationError(words) from error


def dates(certificate: x509.Certificate) -> tuple[float, float]:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def common_names(certificate: x509.Certificate) -> tuple[str, ...]:
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


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
