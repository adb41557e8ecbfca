"""From a configuration to signing and verifying: the only user of ``fedmsg.crypto``.

fedmsg reads and checks its private key on every signature, and builds its certificate
store on every validation; here :mod:`gilmsg._keypair` and :mod:`gilmsg._chain` remember
both, one of each per process and set of files.

Relied on, of fedmsg.crypto.x509_ng: RSA, PKCS#1 v1.5, SHA-1, over the canonical message
with ``crypto`` set to ``x509``; signature and PEM certificate in base64 with a line break
after 76 characters.
"""

import importlib
import logging
import os
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple

from . import _later
from ._acks import Canonical, Refused
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._chain import TrustStore
    from ._keypair import KeyPair

log = logging.getLogger(__name__)

_lock = threading.RLock()
_pairs: Dict[Tuple[str, str], "KeyPair"] = {}
_stores: Dict[Tuple[str, Optional[str], float], "TrustStore"] = {}

#: fedmsg's own defaults live in ``fedmsg.config.conf`` only; a plain dict may lack the keys.
_SSLDIR = "/etc/pki/fedmsg"
_CRL_CACHE_EXPIRY = 3600

#: All that fedmsg.crypto reads of a configuration; it deep-copies whatever it is given.
_CRYPTO_KEYS = (
    "ca_cert_location", "crl_location", "crypto_backend", "crypto_validate_backends",
    "gpg_home", "routing_nitpicky", "routing_policy", "ssldir",
)  # fmt: skip


def turn_on_fedmsg_crypto() -> None:
    """Make fedmsg's own x509 code work with today's pyOpenSSL, in whatever order imports came.

    pyOpenSSL 24.3 removed ``load_crl``; ``fedmsg.crypto.x509_ng`` imports it by name, takes
    the ImportError for "no crypto here", and from then on signs and validates nothing,
    silently. So it is lent a ``load_crl`` while it is imported (reloaded, where fedmsg came
    first), and only then. Where the crypto libraries are missing altogether this does
    nothing, and the first use of ours says so.
    """
    try:
        openssl = importlib.import_module("OpenSSL.crypto")
        pem = importlib.import_module("cryptography.x509")
    except ImportError:
        return
    if hasattr(openssl, "load_crl"):
        return

    def load_crl(_type: int, text: Any) -> Any:
        return pem.load_pem_x509_crl(text.encode("ascii") if isinstance(text, str) else text)

    setattr(openssl, "load_crl", load_crl)
    try:
        _import_fedmsg_crypto()
    finally:
        delattr(openssl, "load_crl")


def _import_fedmsg_crypto() -> None:
    fedmsg_x509 = importlib.import_module("fedmsg.crypto.x509")
    if not fedmsg_x509._cryptography:
        importlib.reload(sys.modules["fedmsg.crypto.x509_ng"])
        importlib.reload(fedmsg_x509)


def signing_key(config: Mapping[str, Any], certname: str) -> "KeyPair":
    """Return the kept key pair *certname* of *config*, checked to be usable now.

    Raises:
        ConfigurationError: it cannot be loaded, does not match, or is out of date; the
            backend is gpg; the crypto libraries do not load.
    """
    pair = key_pair(config, certname)
    pair.check()
    return pair


def key_pair(config: Mapping[str, Any], certname: str) -> "KeyPair":
    """Return the kept key pair *certname* of *config*; it checks itself when it signs.

    Raises:
        ConfigurationError: the backend is gpg; the crypto libraries do not load.
    """
    require_x509(config)
    where = (config.get("ssldir") or _SSLDIR, certname)
    with _lock:
        if where not in _pairs:
            _pairs[where] = _load("_keypair").KeyPair(*where)
        return _pairs[where]


def trust_store(config: Mapping[str, Any]) -> "TrustStore":
    """Return the kept trust store of *config*, checked to be usable now.

    Raises:
        ConfigurationError: the CA or the CRL is not named, not readable, or out of date;
            the crypto libraries do not load.
    """
    store = _kept_store(config)
    store.check()
    return store


def _kept_store(config: Mapping[str, Any]) -> "TrustStore":
    """Return the kept trust store of *config*; it checks itself when it is asked who signed."""
    expiry = config.get("crl_cache_expiry")
    where = (
        location(config, "ca_cert_location"),
        location(config, "crl_location") if config.get("crl_location") else None,
        float(_CRL_CACHE_EXPIRY if expiry is None else expiry),
    )
    with _lock:
        if where not in _stores:
            _stores[where] = _load("_chain").TrustStore(*where)
            if where[1] is None:
                log.warning("crl_location is not set: revoked certificates are accepted")
        return _stores[where]


def claimed_name(message: Mapping[str, Any]) -> Optional[str]:
    """Return the common name on the certificate in *message*: a claim, not a proof."""
    name: Optional[str] = _load("_credentials").claimed_name(message)
    return name


def validate(
    message: Dict[str, Any], config: Mapping[str, Any], received: Optional[Canonical] = None
) -> Optional[str]:
    """Return None if *message* may be accepted, else why not: signature, chain, routing policy.

    *received* is its canonical form, where somebody else needs it too.

    The same answer as ``fedmsg.crypto.validate``, which is asked where gpg is allowed, at a
    fraction of its cost.
    """
    if "x509" not in validating_backends(config) or message.get("crypto", "x509") != "x509":
        return _ask_fedmsg(message, config)
    try:
        signer = _kept_store(config).signer_of(message, received)
    except (Refused, ConfigurationError) as refusal:
        return str(refusal)
    topic, policy = message.get("topic"), config.get("routing_policy") or {}
    if topic in policy and signer not in policy[topic]:
        return "routing_policy does not allow %s to publish on %s" % (signer, topic)
    if topic not in policy and config.get("routing_nitpicky", False):
        return "routing_nitpicky is on and routing_policy has no entry for %s" % topic
    return None


def validating_backends(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the backends that may vouch for a message under *config*, as fedmsg reads it."""
    return config.get("crypto_validate_backends") or [config.get("crypto_backend") or "x509"]


def _ask_fedmsg(message: Dict[str, Any], config: Mapping[str, Any]) -> Optional[str]:
    fedmsg_crypto = importlib.import_module("fedmsg.crypto")
    relevant = {key: config[key] for key in _CRYPTO_KEYS if key in config}
    try:
        accepted = fedmsg_crypto.validate(message, **relevant)
    except Exception as error:  # it does not expect rubbish: anything may come out
        return "fedmsg.crypto failed on it: %r" % error
    return None if accepted else "fedmsg.crypto refused it"


def location(config: Mapping[str, Any], setting: str) -> str:
    """Return the path in *setting*, or raise ConfigurationError: nothing is ever downloaded."""
    path = config.get(setting)
    if not isinstance(path, str) or not path or "://" in path:
        raise ConfigurationError(
            "%s must be the path of a PEM file, gilmsg downloads none; it is %r"
            % (setting, path)
        )
    return path


def require_x509(config: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if the configured backend cannot prove who signed."""
    backend = config.get("crypto_backend") or "x509"
    if backend != "x509":
        raise ConfigurationError(
            "crypto_backend is %r; a recipient can only be proven with 'x509'" % (backend,)
        )


def require_crypto() -> None:
    """Raise ConfigurationError if our crypto, or fedmsg's own, is off in this process."""
    _load("_chain")
    if not importlib.import_module("fedmsg.crypto.x509")._cryptography:
        raise ConfigurationError(
            "fedmsg's own crypto is off in this process: it signs and validates nothing; "
            "import gilmsg before any other code that imports fedmsg"
        )


def _load(module: str) -> types.ModuleType:
    """Import one of our modules that need the crypto libraries."""
    try:
        return _later.load(module)
    except ImportError as error:
        raise ConfigurationError(
            "sign_messages and ACKs need the crypto libraries, which do not load (%s); "
            "install fedmsg[crypto_ng]" % error
        ) from error


def _after_fork() -> None:
    """Another thread may have held a lock, for ever: the child loads its own keys and stores."""
    global _lock, _pairs, _stores
    _lock, _pairs, _stores = threading.RLock(), {}, {}


os.register_at_fork(after_in_child=_after_fork)

turn_on_fedmsg_crypto()
