"""The folder of a sandbox, the keys and the configuration that are written into it, and the ports that it names.

In a folder that the user names, only our own files are written: ``fedmsg.d/zz-gilmsg-sandbox.py``
and what is in ``pki``. Both bear a mark, and where the mark is missing we refuse: that ``pki`` may
hold somebody's real CA. The file's name makes fedmsg read it after the others in ``fedmsg.d``.

fedmsg merges what it finds in /etc, the home directory, the working directory and
$VIRTUAL_ENV/etc. A key can be overridden there, not removed: what other files say of endpoints
and of cert_prefix is answered in ours, so that a program started here stays on this bus.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pprint
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from .. import _pki, _settings
from .._client import names
from ..errors import ConfigurationError

log = logging.getLogger("gilmsg.sandbox")

_FILE = os.path.join("fedmsg.d", "zz-gilmsg-sandbox.py")
_MARK = "# Written by gilmsg.sandbox at each start. Put settings of your own into another file.\n"
_NOTE = "Throw-away keys of gilmsg.sandbox, all written anew at each start. They protect nothing.\n"

TOPIC_PREFIX = "org.example"

#: The name, and the common name, of the publishers on the sandbox's bus.
PUBLISHER = "publisher"

#: Days for which keys, CA and CRL count. Enough for any sandbox, too little to be mistaken for the real thing.
_LIFETIME = 30

#: Processes that can publish under that name at a time.
_PUBLISHERS = 8

#: Below the range from which Linux takes the source ports of outgoing connections (32768 on).
#: Above it, a client that tries again and again to reach a dead port would in the end connect
#: to itself, and hold the port.
_LOWEST, _HIGHEST = 10000, 32000

Config = dict[str, Any]


def claim(directory: str | None, undo: ExitStack) -> str:
    """Make *directory* ours until *undo*, and return its path; for None make a temporary one, which is removed then."""
    path = os.path.abspath(tempfile.mkdtemp(prefix="gilmsg-") if directory is None else directory)
    if directory is None:
        undo.callback(shutil.rmtree, path, ignore_errors=True)
    os.makedirs(path, exist_ok=True)
    hold = os.open(path, os.O_RDONLY)
    undo.callback(os.close, hold)
    try:
        fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel forgets it when we end, however that may be
    except BlockingIOError:
        words = f"another sandbox is running in {path}; end it, or choose another folder"
        raise ConfigurationError(words) from None
    keys, file = os.path.join(path, "pki"), os.path.join(path, _FILE)
    note = os.path.join(keys, "README")
    if os.path.isdir(keys) and os.listdir(keys):
        _require_mark(note, _NOTE, keys)
    if os.path.exists(file):
        _require_mark(file, _MARK, file)
    os.makedirs(keys, exist_ok=True)
    _pki.write(note, _NOTE.encode("ascii"))
    return path


def _require_mark(path: str, mark: str, what: str) -> None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            found = stream.readline()
    except OSError:
        found = ""
    if found != mark:
        words = f"{what} exists and was not written by a sandbox; move it away, or choose another folder"
        raise ConfigurationError(words)


def write_configuration(directory: str, config: Config) -> None:
    """Write *config* as what fedmsg finds in *directory*; warn of what other files say that it finds, too."""
    file = os.path.join(directory, _FILE)
    others = _settings.read_files([path for path in _settings.found_in(directory) if path != file])
    for problem in [*others.problems, *others.passed_over]:
        log.warning("a file that programs started here read cannot be used: %s", problem)
    written = _answered(config, others.config)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    _pki.write(file, f"{_MARK}config = {pprint.pformat(written, width=100)}\n".encode())
    merged = _settings.read_files(_settings.found_in(directory)).config
    for key, value in written.items():
        found = merged.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            found = {name: found.get(name) for name in value}
        if found != value:
            log.warning(
                "programs started here will not use this bus's %r: another file sets it too, and fedmsg "
                "reads $VIRTUAL_ENV/etc/fedmsg.d and fedmsg-config.py last",
                key,
            )


def _answered(config: Config, others: Config) -> Config:
    """Return *config* with an answer to what *others* say and a merge would keep."""
    foreign: dict[str, list[str]] = {name: [] for name in others.get("endpoints") or {}}
    answered = {**config, "endpoints": {**foreign, **config["endpoints"]}}
    if others.get("srv_endpoints"):
        answered["srv_endpoints"] = []
    if "cert_prefix" in others:
        prefixed = f"{others['cert_prefix']}.{names.hostname()}"
        answered["certnames"] = {prefixed: config["name"], **config["certnames"]}
    return answered


def file_name(common_name: str) -> str:
    """Return *common_name* if a key and a certificate can be stored under it."""
    if common_name in (PUBLISHER, "shell", "relay_outbound", "relay_inbound") or _pki.unfit(common_name):
        raise ConfigurationError(f"{common_name!r} cannot be the name of a stand-in; choose another")
    return common_name


def bus_configuration(
    recipients: Sequence[str], ports: Ports, authority: Authority, topic_prefix: str, relay: bool
) -> Config:
    """Return the configuration of PUBLISHER."""
    endpoints = {name: [ports.endpoint()] for name in recipients}
    endpoints[PUBLISHER] = [ports.endpoint() for _ in range(_PUBLISHERS)]
    if relay:
        endpoints["relay_outbound"] = [ports.endpoint()]
    certnames = {name: name for name in [PUBLISHER, *recipients]}
    certnames["shell." + names.hostname()] = "shell"
    changes = {"name": PUBLISHER, "relay_inbound": ports.endpoint()}
    return signed_bus(authority, endpoints, certnames, topic_prefix, **changes)


def signed_bus(
    authority: Authority,
    endpoints: Mapping[str, list[str]],
    certnames: Mapping[str, str],
    topic_prefix: str = TOPIC_PREFIX,
    **changes: Any,
) -> Config:
    """Return the configuration of a bus that signs and validates with the keys of *authority*.

    Everything that a host might set is set. The socket settings are those that fedmsg ships; *changes* win.
    """
    return {
        "topic_prefix": topic_prefix,
        "topic_prefix_re": topic_prefix.replace(".", r"\.") + r"\.[^\W\d_]+",
        "environment": "dev",
        "endpoints": dict(endpoints),
        "certnames": dict(certnames),
        "sign_messages": True,
        "validate_signatures": True,
        "crypto_backend": "x509",
        "crypto_validate_backends": ["x509"],
        "ssldir": authority.folder,
        "ca_cert_location": authority.ca_file,
        "crl_location": authority.crl_file,
        "routing_policy": {},
        "routing_nitpicky": False,
        "zmq_enabled": True,
        "active": False,
        "mute": False,
        "io_threads": 1,
        "post_init_sleep": 0.5,
        "high_water_mark": 0,
        "zmq_linger": 1000,
        "zmq_reconnect_ivl": 100,
        "zmq_reconnect_ivl_max": 1000,
        **changes,
    }


class Authority:
    """A throw-away CA with its CRL, and the key pairs that it issued, as files in *folder*.

    Attributes:
        ca_file, crl_file: the values for ``ca_cert_location`` and ``crl_location``.
        folder: the value for ``ssldir``; issued pairs are ``<name>.key`` and ``<name>.crt``.
    """

    def __init__(self, folder: str, name: str = "gilmsg throw-away CA") -> None:
        os.makedirs(folder, exist_ok=True)
        self.folder = folder
        self.ca_file = os.path.join(folder, "ca.crt")
        self.crl_file = os.path.join(folder, "crl.pem")
        self._issuer = _pki.Issuer(_pki.subject([name]), _pki.new_key())
        self._revoked: list[x509.RevokedCertificate] = []
        self.write_ca()
        self.write_crl()

    def write_ca(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CA certificate, valid from *age* days ago for *days* days from now."""
        _pki.write_certificate(self.ca_file, self._issuer.ca(days, age))

    def write_crl(self, days: float = _LIFETIME, age: float = 1) -> None:
        """Write the CRL, next due in *days* days (negative: it has ended)."""
        _pki.write_certificate(self.crl_file, self._issuer.crl(self._revoked, days, age))

    def issue(
        self,
        name: str,
        common_names: Sequence[str] | None = None,
        days: float = _LIFETIME,
        age: float = 1,
        key: rsa.RSAPrivateKey | None = None,
        folder: str | None = None,
    ) -> x509.Certificate:
        """Write a key pair called *name* and return its certificate.

        Args:
            common_names: for its subject; *name* itself by default.
            days: until it ends, from now; negative: it has ended.
            age: days since it became valid; negative: it is not valid yet.
            key: the key to certify, instead of a fresh one.
            folder: where to write, instead of this authority's folder.
        """
        key = key or _pki.new_key()
        subject = _pki.subject([name] if common_names is None else common_names)
        certificate = self._issuer.certificate(subject, key.public_key(), days, age)
        _pki.write_pair(os.path.join(folder or self.folder, name), key, certificate)
        return certificate

    def revoke(self, certificate: x509.Certificate | str) -> None:
        """Put *certificate* (or the issued one of that name) on the CRL and write it."""
        if isinstance(certificate, str):
            with open(os.path.join(self.folder, certificate + ".crt"), "rb") as stream:
                certificate = x509.load_pem_x509_certificate(stream.read())
        self._revoked.append(_pki.revoked(certificate))
        self.write_crl()


class Ports:
    """Hands out ports; none of them is handed out again, by any process, until ``close``.

    They are for whoever binds with SO_REUSEADDR, as ZeroMQ and most servers do.
    """

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def take(self) -> int:
        """Return a port that nobody has bound and nobody else was given."""
        while True:
            port = random.SystemRandom().randint(_LOWEST, _HIGHEST)
            claim = socket.socket()
            try:
                claim.bind(("", port))
            except OSError:
                claim.close()
                continue
            # Linux refuses the port to all others like us from here on, and not to one who listens and sets this, too.
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._claims.append(claim)
            if sys.platform != "linux":
                self.close()
            return port

    def endpoint(self) -> str:
        """Return a loopback endpoint with a port of its own."""
        return f"tcp://127.0.0.1:{self.take()}"

    def close(self) -> None:
        """Give all ports back."""
        while self._claims:
            self._claims.pop().close()
