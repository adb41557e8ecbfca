"""Our own keys, and the proof of who signed: bytes go in, common names come out.

fedmsg reads and checks its private key on every signature (40 ms), and builds its certificate store on every
validation. Here a process keeps one :class:`~.signing.Signer` for each key pair and one
:class:`~.verifying.Verifier` for each CA and CRL. What either has read from its files is one immutable snapshot: each
use looks whether the files have changed (``stat``), reads changed ones, and swaps the snapshot by one assignment. Two
threads that do so at once read twice and agree; there is no lock, and nothing for a signal handler or a fork to meet.

Deployments replace files one after the other. A pair that does not belong together does not count, the one before
signs on; CA and CRL that cannot be read together leave what was read before in force for 10 s, and no longer.

Of a certificate, the check of its chain is remembered, once a signature has proven its owner, for as long as this CA
and this CRL count. Signature and dates, the CA's and the CRL's too, are checked each time.

A signature is that of fedmsg.crypto.x509_ng: RSA, PKCS#1 v1.5, SHA-1, over the *covered bytes* (fedmsg's encoding of
the message with ``crypto`` set to ``x509``, without ``signature`` and ``certificate``); signature and PEM certificate
are in base64 with a line break after 76 characters.

What needs the crypto libraries is loaded on first use: where they are missing, that is a ConfigurationError.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..errors import ConfigurationError, Refused

if TYPE_CHECKING:
    from .signing import Credentials, Signer, load_certificate, load_key, owner, require_match, span
    from .verifying import Verifier, claimed_name, read_ca, read_crl, require_issued

__all__ = [
    "Credentials", "Signer", "Verifier", "claimed_name", "key_pair", "later", "load_certificate", "load_key",
    "location", "owner", "read_ca", "read_crl", "require_crypto", "require_issued", "require_match", "require_x509",
    "signer", "span", "turn_on_fedmsg_crypto", "validate", "validating_backends", "verifier",
]  # fmt: skip

log = logging.getLogger("gilmsg.trust")

#: fedmsg's own defaults live in ``fedmsg.config.conf`` only; a plain dict may lack the keys.
_SSLDIR = "/etc/pki/fedmsg"
_CRL_CACHE_EXPIRY = 3600

#: All that fedmsg.crypto reads of a configuration; it deep-copies whatever it is given.
_CRYPTO_KEYS = (
    "ca_cert_location", "crl_location", "crypto_backend", "crypto_validate_backends",
    "gpg_home", "routing_nitpicky", "routing_policy", "ssldir",
)  # fmt: skip


class _Kept(NamedTuple):
    #: Objects of the crypto libraries must not be used in a forked child: it begins anew.
    pid: int
    signers: dict[tuple[str, str], Signer]
    verifiers: dict[tuple[str, str | None, float], Verifier]


_kept = _Kept(0, {}, {})


def _at_once(job: Callable[[], None]) -> None:
    job()


#: Has a log line written. An engine's thread must not wait for a log: once there is one, this is set to its
#: callback thread's ``run``.
later: Callable[[Callable[[], None]], None] = _at_once


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

    openssl.load_crl = load_crl  # type: ignore[attr-defined]
    try:
        fedmsg_x509 = importlib.import_module("fedmsg.crypto.x509")
        if not fedmsg_x509._cryptography:
            importlib.reload(sys.modules["fedmsg.crypto.x509_ng"])
            importlib.reload(fedmsg_x509)
    finally:
        del openssl.load_crl


def signer(config: Mapping[str, Any], certname: str) -> Signer:
    """Return the kept key pair *certname* of *config*, checked to be usable now, or raise ConfigurationError."""
    pair = key_pair(config, certname)
    pair.check()
    return pair


def key_pair(config: Mapping[str, Any], certname: str) -> Signer:
    """Return the same unchecked: a signer checks itself when it signs."""
    require_x509(config)
    where, signers = (config.get("ssldir") or _SSLDIR, certname), _here().signers
    if where not in signers:
        signers[where] = _load("signing").Signer(*where, _warn)
    return signers[where]


def verifier(config: Mapping[str, Any]) -> Verifier:
    """Return the kept CA and CRL of *config*, checked to be usable now, or raise ConfigurationError."""
    kept = _kept_verifier(config)
    kept.check()
    return kept


def _kept_verifier(config: Mapping[str, Any]) -> Verifier:
    expiry = config.get("crl_cache_expiry")
    where = (
        location(config, "ca_cert_location"),
        location(config, "crl_location") if config.get("crl_location") else None,
        float(_CRL_CACHE_EXPIRY if expiry is None else expiry),
    )
    verifiers = _here().verifiers
    if where not in verifiers:
        verifiers[where] = _load("verifying").Verifier(*where, _warn)
        if where[1] is None:
            _warn("crl_location is not set: revoked certificates are accepted")
    return verifiers[where]


def validate(message: dict[str, Any], config: Mapping[str, Any], covered: Callable[[], bytes]) -> str | None:
    """Return None if *message* may be accepted, else why not: signature, chain, routing policy.

    *covered* returns its covered bytes; what that raises is passed on. The same answer as ``fedmsg.crypto.validate``,
    which is asked where gpg is allowed, at a fraction of its cost.
    """
    if "x509" not in validating_backends(config) or message.get("crypto", "x509") != "x509":
        return _ask_fedmsg(message, config)
    try:
        name = _kept_verifier(config).signer_of(message, covered())
    except (Refused, ConfigurationError) as refusal:
        return str(refusal)
    topic, policy = message.get("topic"), config.get("routing_policy") or {}
    if topic in policy and name not in policy[topic]:
        return f"routing_policy does not allow {name} to publish on {topic}"
    if topic not in policy and config.get("routing_nitpicky", False):
        return f"routing_nitpicky is on and routing_policy has no entry for {topic}"
    return None


def _ask_fedmsg(message: dict[str, Any], config: Mapping[str, Any]) -> str | None:
    fedmsg_crypto = importlib.import_module("fedmsg.crypto")
    relevant = {key: config[key] for key in _CRYPTO_KEYS if key in config}
    try:
        accepted = fedmsg_crypto.validate(message, **relevant)
    except Exception as error:  # noqa: BLE001  it does not expect rubbish: anything may come out
        return f"fedmsg.crypto failed on it: {error!r}"
    return None if accepted else "fedmsg.crypto refused it"


def validating_backends(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the backends that may vouch for a message under *config*, as fedmsg reads it."""
    return config.get("crypto_validate_backends") or [config.get("crypto_backend") or "x509"]


def location(config: Mapping[str, Any], setting: str) -> str:
    """Return the path in *setting*, or raise ConfigurationError: nothing is ever downloaded."""
    path = config.get(setting)
    if not isinstance(path, str) or not path or "://" in path:
        raise ConfigurationError(f"{setting} must be the path of a PEM file, gilmsg downloads none; it is {path!r}")
    return path


def require_x509(config: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if the configured backend cannot prove who signed."""
    backend = config.get("crypto_backend") or "x509"
    if backend != "x509":
        raise ConfigurationError(f"crypto_backend is {backend!r}; a recipient can only be proven with 'x509'")


def require_crypto() -> None:
    """Raise ConfigurationError if our crypto, or fedmsg's own, is off in this process."""
    _load("verifying")
    if not importlib.import_module("fedmsg.crypto.x509")._cryptography:
        raise ConfigurationError(
            "fedmsg's own crypto is off in this process: it signs and validates nothing; "
            "import gilmsg before any other code that imports fedmsg"
        )


def _here() -> _Kept:
    global _kept
    if _kept.pid != os.getpid():
        _kept = _Kept(os.getpid(), {}, {})
    return _kept


def _warn(line: str, *values: object) -> None:
    later(functools.partial(log.warning, line, *values))


def _load(module: str) -> Any:
    try:
        return importlib.import_module("." + module, __name__)
    except ImportError as error:
        raise ConfigurationError(
            f"sign_messages and ACKs need the crypto libraries, which do not load ({error}); "
            "install fedmsg[crypto_ng]"
        ) from error


if not TYPE_CHECKING:  # or any misspelt name would pass for one

    def __getattr__(name: str) -> Any:
        """Find what needs the crypto libraries."""
        if name in __all__:
            return getattr(_load("signing" if hasattr(_load("signing"), name) else "verifying"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
