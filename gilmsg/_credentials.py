"""What came along with a message to prove who sent it: untrusted until :mod:`gilmsg._chain` says so.

Whatever bytes a stranger sends, only Refused leaves here.
"""

import base64
from typing import Any, Callable, Mapping, Optional, Tuple, TypeVar

from cryptography import x509

from ._acks import Refused
from ._keypair import common_names

_T = TypeVar("_T")

#: Characters, in base64. A certificate has 2,000 to 5,000; an attacker's may have any number.
_LONGEST = 64 * 1024


def claimed_name(message: Mapping[str, Any]) -> Optional[str]:
    """Return the common name on the certificate in *message*; unverified, a mere claim."""
    try:
        found = names(certificate(credentials(message)[1]))
    except Refused:
        return None
    return found[0] if len(found) == 1 else None


def credentials(message: Mapping[str, Any]) -> Tuple[bytes, str]:
    """Return (signature, certificate still in base64) of *message*."""
    signature, encoded = message.get("signature"), message.get("certificate")
    if not isinstance(signature, str) or not isinstance(encoded, str):
        raise Refused("it is unsigned")
    if message.get("crypto", "x509") != "x509":
        raise Refused("it is not signed with an x509 certificate")
    if len(encoded) > _LONGEST or len(signature) > _LONGEST:
        raise Refused("its signature or certificate is too large")
    try:
        return base64.b64decode(signature), encoded
    except ValueError:
        raise Refused("its signature is not base64") from None


def certificate(encoded: str) -> x509.Certificate:
    """Return the certificate in *encoded*."""
    return _parsed(lambda: x509.load_pem_x509_certificate(base64.b64decode(encoded)), "its certificate")


def names(certificate: x509.Certificate) -> Tuple[str, ...]:
    """Return the common names on *certificate*."""
    return _parsed(lambda: common_names(certificate), "the name on its certificate")


def public_key(certificate: x509.Certificate) -> Any:
    """Return the key in *certificate*."""
    return _parsed(certificate.public_key, "the key in its certificate")


def _parsed(parse: Callable[[], _T], what: str) -> _T:
    """Return what *parse* makes of a stranger's certificate; each part is parsed when asked for.

    Besides ValueError, cryptography raises exceptions of its own, InvalidVersion for one:
    none may reach the thread that listens.
    """
    try:
        return parse()
    except Exception as error:
        raise Refused("%s cannot be read" % what) from error
