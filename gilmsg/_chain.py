"""Who signed a message, under our CA and CRL: the chain check is remembered, the signature not.

What is remembered of a certificate ends when the certificate, the CA certificate or the CRL
ends, and when the file of the CA or the CRL changes: the files are looked at on each use
(two ``stat`` calls), and read again after ``crl_cache_expiry`` seconds in any case.
"""

import hashlib
import logging
import threading
import time
from typing import Any, Mapping, Optional

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from . import _acks, _anchor, _callbacks, _credentials, _reentry
from ._acks import Refused
from ._anchor import Anchor
from .errors import ConfigurationError

log = logging.getLogger(__name__)

#: Seconds for which the CA and the CRL read before go on to count while the files cannot be read
#: together: a deployment writes them one after the other, and perhaps not at once.
_BRIDGE = 10.0


def _warn_of(error: ConfigurationError) -> None:
    log.warning("what was read before counts for %g s more: %s", _BRIDGE, error)


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
        self._lock = threading.RLock()
        self._anchor: Optional[Anchor] = None
        self._broken_since: Optional[float] = None

    def check(self) -> None:
        """Raise ConfigurationError, naming setting and file, if nothing could be verified now."""
        self._current().check_dates()

    def signer_of(self, message: Mapping[str, Any], received: Optional[_acks.Canonical] = None) -> str:
        """Return the common name of the certificate that signed *message*.

        *received* is its canonical form, where somebody else needs it too.

        Raises:
            Refused: it is unsigned, the signature is wrong, or the certificate does not
                count under our CA and CRL, or does not have exactly one common name.
        """
        signature, encoded = _credentials.credentials(message)
        try:
            anchor = self._current()
            anchor.check_dates()
        except ConfigurationError as error:
            claimed = _credentials.claimed_name(message)
            raise Refused("it cannot be checked: %s" % error, claimed) from error
        seen = hashlib.sha256(encoded.encode("utf-8", "surrogatepass")).digest()
        signer = anchor.signers.get(seen) or anchor.signer(_credentials.certificate(encoded))
        signer.check_dates()
        covered = (received or _acks.Canonical(message))()
        try:
            signer.key.verify(signature, covered, padding.PKCS1v15(), hashes.SHA1())
        except InvalidSignature:
            raise Refused("its signature is invalid", signer.common_name) from None
        # Only now: copies of a recipient's certificate, each padded in another way, must neither
        # fill the memory nor drive out what is remembered.
        anchor.remember(seen, signer)
        return signer.common_name

    def _current(self) -> Anchor:
        """Return what holds now; a changed file makes a new anchor, with nothing remembered."""
        _reentry.refuse(self._lock)
        with self._lock:
            anchor = self._anchor
            if anchor is not None:
                fresh = time.monotonic() - anchor.read_at < self._reread
                if fresh and anchor.stamps == _anchor.stamps(self._ca_file, self._crl_file):
                    return anchor
            return self._renewed(anchor)

    def _renewed(self, old: Optional[Anchor]) -> Anchor:
        """Return what the files say now; the lock is held."""
        try:
            new = Anchor(self._ca_file, self._crl_file)
        except ConfigurationError as error:
            bridged = self._bridged(old, error)
            if bridged is None:
                raise
            return bridged
        if old is not None and old.content == new.content:
            new.signers = old.signers
        self._anchor, self._broken_since = new, None
        return new

    def _bridged(self, old: Optional[Anchor], error: ConfigurationError) -> Optional[Anchor]:
        """Return what was read before, for _BRIDGE seconds, but never past ``crl_cache_expiry``.

        So a half-written file costs no message, and a revoked certificate stops counting as
        soon as promised. After that, and where nothing was read before, None: the error stands.
        """
        now = time.monotonic()
        first = self._broken_since is None
        if self._broken_since is None:
            self._broken_since = now
        if old is None or now >= min(self._broken_since + _BRIDGE, old.read_at + self._reread):
            return None
        if first:
            # Not here: this may be the listener's thread, and logging may block.
            _callbacks.callbacks.run(lambda: _warn_of(error))
        return old
