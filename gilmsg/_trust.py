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
import sys
import threading
import types
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple

from ._acks import Refused
from .errors import ConfigurationError

if TYPE_CHECKING:
    from ._chain import TrustStore
    from ._keypair import KeyPair

log = logging.getLogger(__name__)

_lock = threading.Lock()
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
    require_x509(config)
    where = (config.get("ssldir") or _SSLDIR, certname)
    with _lock:
        if where not in _pairs:
            _pairs[where] = _load("_keypair").KeyPair(*where)
        pair = _pairs[where]
    pair.check()
    return pair


def trust_store(config: Mapping[str, Any]) -> "TrustStore":
    """Return the kept trust store of *config*, checked to be usable now.

    Raises:
        ConfigurationError: the CA or the CRL is not named, not readable, or out of date;
            the crypto libraries do not load.
    """
    where = (
        _location(config, "ca_cert_location"),
        _location(config, "crl_location") if config.get("crl_location") else None,
        float(config.get("crl_cache_expiry", _CRL_CACHE_EXPIRY)),
    )
    with _lock:
        if where not in _stores:
            _stores[where] = _load("_chain").TrustStore(*where)
            if where[1] is None:
                log.warning("crl_location is not set: revoked certificates are accepted")
        store = _stores[where]
    store.check()
    return store


def claimed_name(message: Mapping[str, Any]) -> Optional[str]:
    """Return the common name on the certificate in *message*: a claim, not a proof."""
    name: Optional[str] = _load("_chain").claimed_name(message)
    return name


def validate(message: Dict[str, Any], config: Mapping[str, Any]) -> Optional[str]:
    """Return None if *message* may be accepted, else why not: signature, chain, routing policy.

    The same answer as ``fedmsg.crypto.validate``, which is asked where gpg is allowed, at a
    fraction of its cost.
    """
    if "x509" not in validating_backends(config) or message.get("crypto", "x509") != "x509":
        return _ask_fedmsg(message, config)
    try:
        signer = trust_store(config).signer_of(message)
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


def _location(config: Mapping[str, Any], setting: str) -> str:
    """Return the path in *setting*; a missing one, or a URL, is never downloaded."""
    location = config.get(setting)
    if not isinstance(location, str) or not location or "://" in location:
        raise ConfigurationError(
            "%s must be the path of a PEM file, gilmsg downloads none; it is %r"
            % (setting, location)
        )
    return location


def require_x509(config: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if the configured backend cannot prove who signed."""
    backend = config.get("crypto_backend") or "x509"
    if backend != "x509":
        raise ConfigurationError(
            "crypto_backend is %r; a recipient can only be proven with 'x509'" % (backend,)
        )


def _load(module: str) -> types.ModuleType:
    """Import one of our modules that need the crypto libraries."""
    try:
        return importlib.import_module("." + module, __package__)
    except ImportError as error:
        raise ConfigurationError(
            "sign_messages and ACKs need the crypto libraries, which do not load (%s); "
            "install fedmsg[crypto_ng]" % error
        ) from error


turn_on_fedmsg_crypto()
