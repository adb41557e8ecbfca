"""Our own keys, and the proof of who signed: bytes go in, common names come out.

fedmsg reads and checks its private key on every signature (40 ms), and builds its certificate store on every
validation. Here a process keeps one Signer for each key pair and one Verifier for each CA and CRL. What either has
read is one immutable snapshot: each use looks whether the files have changed (``stat``), reads changed ones, and swaps
the snapshot by one assignment. Two threads that do so at once read twice and agree; there is no lock.

Deployments replace files one after the other. A pair that does not belong together does not count, the one before
signs on; CA and CRL that cannot be read together leave what was read before in force for 10 s, and no longer.

Of a certificate, the check of its chain is remembered, once a signature has proven its owner, for as long as this CA
and this CRL count. Signature and dates, the CA's and the CRL's too, are checked each time.

A signature is that of fedmsg.crypto.x509_ng: RSA, PKCS#1 v1.5, SHA-1, over the *covered bytes* (fedmsg's encoding of
the message with ``crypto`` set to ``x509``, without ``signature`` and ``certificate``); signature and PEM certificate
are in base64 with a line break after 76 characters.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ..errors import ConfigurationError, Refused

_missing: ImportError | None = None
try:
    from . import signing, verifying
    from .verifying import read_ca, read_crl, require_issued
except ImportError as error:  # told at the first use
    _missing = error

__all__ = [
    "claimed_name", "ends", "key_pair", "later", "location", "read_ca", "read_crl", "require_crypto", "require_issued",
    "require_x509", "signer", "turn_on_fedmsg_crypto", "validate", "validating_backends", "verifier",
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
    signers: dict[tuple[str, str], signing.Signer]
    verifiers: dict[tuple[str, str | None, float], verifying.Verifier]


_kept = _Kept(0, {}, {})


def _at_once(job: Callable[[], None]) -> None:
    job()


#: Has a log line written: the callback thread's ``run``, once there is an engine, whose thread must wait for no log.
later: Callable[[Callable[[], None]], None] = _at_once


def _warn(line: str, *values: object) -> None:
    later(functools.partial(log.warning, line, *values))


def turn_on_fedmsg_crypto() -> None:
    """Make fedmsg's own x509 code work with today's pyOpenSSL, in whatever order imports came.

    pyOpenSSL 24.3 removed ``load_crl``; ``fedmsg.crypto.x509_ng`` imports it by name, takes the ImportError for "no
    crypto here", and from then on signs and validates nothing, silently. So it is lent a ``load_crl`` while it is
    imported (reloaded, where fedmsg came first), and only then.
    """
    openssl: Any = sys.modules.get("OpenSSL.crypto")
    if _missing or hasattr(openssl, "load_crl"):
        return
    pem = importlib.import_module("cryptography.x509")

    def load_crl(_type: int, text: Any) -> Any:
        return pem.load_pem_x509_crl(text.encode("ascii") if isinstance(text, str) else text)

    openssl.load_crl = load_crl
    try:
        fedmsg_x509 = importlib.import_module("fedmsg.crypto.x509")
        if not fedmsg_x509._cryptography:
            importlib.reload(sys.modules["fedmsg.crypto.x509_ng"])
            importlib.reload(fedmsg_x509)
    finally:
        del openssl.load_crl


def signer(config: Mapping[str, Any], certname: str) -> signing.Signer:
    """Return the kept key pair *certname* of *config*, checked to be usable now, or raise ConfigurationError."""
    pair = key_pair(config, certname)
    pair.check()
    return pair


def key_pair(config: Mapping[str, Any], certname: str) -> signing.Signer:
    """Return the same unchecked: a signer checks itself when it signs."""
    require_x509(config)
    where, signers = (config.get("ssldir") or _SSLDIR, certname), _here().signers
    if where not in signers:
        signers[where] = signing.Signer(*where, _warn)
    return signers[where]


def verifier(config: Mapping[str, Any]) -> verifying.Verifier:
    """Return the kept CA and CRL of *config*, checked to be usable now, or raise ConfigurationError."""
    kept = _kept_verifier(config)
    kept.check()
    return kept


def _kept_verifier(config: Mapping[str, Any]) -> verifying.Verifier:
    expiry, verifiers = config.get("crl_cache_expiry"), _here().verifiers
    crl = location(config, "crl_location") if config.get("crl_location") else None
    where = location(config, "ca_cert_location"), crl, float(_CRL_CACHE_EXPIRY if expiry is None else expiry)
    if where not in verifiers:
        verifiers[where] = verifying.Verifier(*where, _warn)
        if crl is None:
            _warn("crl_location is not set: revoked certificates are accepted")
    return verifiers[where]


def ends() -> dict[str, float]:
    """Return when what this process uses ends, the first of each kind (``certificate``, ``ca``, ``crl``), since the epoch.

    As it was read last; no file is looked at. What has no end, or was not used yet, is left out.
    """
    found: dict[str, float] = {}
    if _kept.pid == os.getpid():
        used: list[signing.Signer | verifying.Verifier] = [*_kept.signers.values(), *_kept.verifiers.values()]
        for span in (span for one in used for span in one.spans()):
            found[span.kind] = min(span.end, found.get(span.kind, math.inf))
    return {kind: end for kind, end in found.items() if end != math.inf}


def _here() -> _Kept:
    global _kept
    if _kept.pid != os.getpid():
        _require_libraries()
        _kept = _Kept(os.getpid(), {}, {})
    return _kept


def claimed_name(message: Mapping[str, Any]) -> str | None:
    """Return the common name on the certificate in *message*; unverified, a mere claim."""
    _require_libraries()
    return verifying.claimed_name(message)


def validate(message: dict[str, Any], config: Mapping[str, Any], covered: Callable[[], bytes]) -> Refused | None:
    """Return None if *message* may be accepted, else why not: signature, chain, routing policy.

    *covered* returns its covered bytes; what that raises is passed on. The same answer as ``fedmsg.crypto.validate``,
    which is asked where gpg is allowed, at a fraction of its cost.
    """
    if "x509" not in validating_backends(config) or message.get("crypto", "x509") != "x509":
        return _ask_fedmsg(message, config)
    try:
        name = _kept_verifier(config).signer_of(message, covered())
    except Refused as refusal:
        return refusal.with_traceback(None)
    except ConfigurationError as error:
        return Refused(str(error), code="trust")
    topic, policy = message.get("topic"), config.get("routing_policy") or {}
    if topic in policy and name not in policy[topic]:
        return Refused(f"routing_policy does not allow {name} to publish on {topic}", name, "policy")
    if topic not in policy and config.get("routing_nitpicky", False):
        return Refused(f"routing_nitpicky is on and routing_policy has no entry for {topic}", name, "policy")
    return None


def _ask_fedmsg(message: dict[str, Any], config: Mapping[str, Any]) -> Refused | None:
    fedmsg_crypto = importlib.import_module("fedmsg.crypto")
    relevant = {key: config[key] for key in _CRYPTO_KEYS if key in config}
    try:
        accepted = fedmsg_crypto.validate(message, **relevant)
    except Exception as error:  # noqa: BLE001  it does not expect rubbish: anything may come out
        return Refused(f"fedmsg.crypto failed on it: {error!r}")
    return None if accepted else Refused("fedmsg.crypto refused it")


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
    _require_libraries()
    if not importlib.import_module("fedmsg.crypto.x509")._cryptography:
        raise ConfigurationError(
            "fedmsg's own crypto is off in this process: it signs and validates nothing; "
            "import gilmsg before any other code that imports fedmsg"
        )


def _require_libraries() -> None:
    if _missing:
        raise ConfigurationError(
            f"sign_messages and ACKs need the crypto libraries, which do not load ({_missing}); "
            "install fedmsg[crypto_ng]"
        ) from _missing
