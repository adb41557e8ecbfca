"""The folder of a sandbox, all that is written into it, and the ports that it names.

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
from typing import Any

from .. import _settings
from .._client.context import hostname
from ..errors import ConfigurationError
from .pki import Authority, write

log = logging.getLogger("gilmsg.sandbox")

FILE = "zz-gilmsg-sandbox.py"
_MARK = "# Written by gilmsg.sandbox at each start. Put settings of your own into another file.\n"
_NOTE = "Throw-away keys of gilmsg.sandbox, all written anew at each start. They protect nothing.\n"

TOPIC_PREFIX = "org.example"

#: The name, and the common name, of the publishers on the sandbox's bus.
PUBLISHER = "publisher"

#: Processes that can publish under that name at a time.
_PUBLISHERS = 8

#: Below the range from which Linux takes the source ports of outgoing connections (32768 on).
#: Above it, a client that tries again and again to reach a dead port would in the end connect
#: to itself, and hold the port.
_LOWEST, _HIGHEST = 10000, 32000

Config = dict[str, Any]


class Folder:
    """A folder held by one sandbox at a time; a temporary one is removed by ``release``.

    Raises:
        ConfigurationError: another sandbox runs there, or holds files where ours would go.
        OSError: it cannot be made, or written to.
    """

    def __init__(self, path: str | None) -> None:
        self._temporary = path is None
        self.path = os.path.abspath(tempfile.mkdtemp(prefix="gilmsg-") if path is None else path)
        self.keys = os.path.join(self.path, "pki")
        self.file = os.path.join(self.path, "fedmsg.d", FILE)
        os.makedirs(self.path, exist_ok=True)
        # Forgotten by the kernel when we end, however that may be.
        self._hold: int | None = os.open(self.path, os.O_RDONLY)
        try:
            self._claim(self._hold)
        except BaseException:
            self.release()
            raise

    def write(self, config: Mapping[str, Any]) -> None:
        """Write *config* as what fedmsg finds in this folder."""
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        # The files that fedmsg reads for a program started here, in its order.
        found = [path for path in _settings.found_in(self.path) if path != self.file]
        others = _settings.read_files(found)
        for problem in [*others.problems, *others.passed_over]:
            log.warning("a file that programs started here read cannot be used: %s", problem)
        written = _answered(config, others.config)
        text = f"{_MARK}config = {pprint.pformat(written, width=100)}\n"
        write(self.file, text.encode("utf-8"))
        _warn_of_overrides(written, _settings.read_files(_settings.found_in(self.path)).config)

    def release(self) -> None:
        """Remove a temporary folder, leave any other as it is; idempotent."""
        if self._hold is None:
            return
        os.close(self._hold)
        self._hold = None
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def _claim(self, hold: int) -> None:
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another sandbox is running in {self.path}; end it, or choose another folder"
            ) from None
        note = os.path.join(self.keys, "README")
        if os.path.isdir(self.keys) and os.listdir(self.keys):
            _require_mark(note, _NOTE, self.keys)
        if os.path.exists(self.file):
            _require_mark(self.file, _MARK, self.file)
        os.makedirs(self.keys, exist_ok=True)
        write(note, _NOTE.encode("ascii"))


class Ports:
    """Hands out ports; none of them is handed out again, by any process, until ``close``."""

    def __init__(self) -> None:
        self._claims: list[socket.socket] = []

    def take(self) -> int:
        """Return a port that nobody has bound and nobody else was given."""
        while True:
            port = random.SystemRandom().randint(_LOWEST, _HIGHEST)
            # Claimed first: a port that another process was given is not even tried. For as long
            # as we try it, a bind without SO_REUSEADDR would be refused to its owner.
            if self._claim(port) and _is_free(port):
                return port

    def endpoint(self) -> str:
        """Return a loopback endpoint with a port of its own."""
        return f"tcp://127.0.0.1:{self.take()}"

    def close(self) -> None:
        """Give all ports back."""
        while self._claims:
            self._claims.pop().close()

    def _claim(self, port: int) -> bool:
        """Claim *port* among processes by a name that the kernel forgets when we end.

        Only Linux has such names (abstract sockets); elsewhere nothing is claimed.
        """
        if not sys.platform.startswith("linux"):
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0gilmsg-port-{port}")
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As libzmq does; without it, a port with a connection in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def file_name(common_name: str) -> str:
    """Return *common_name* if a key and a certificate can be stored under it."""
    taken = common_name in (PUBLISHER, "shell", "ca", "crl", "relay_outbound", "relay_inbound")
    if taken or "/" in common_name or "," in common_name or common_name.startswith("."):
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
    certnames["shell." + hostname()] = "shell"
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


def _require_mark(path: str, mark: str, what: str) -> None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            found = stream.readline()
    except OSError:
        found = ""
    if found != mark:
        raise ConfigurationError(
            f"{what} exists and was not written by a sandbox; move it away, or choose another folder"
        )


def _answered(config: Mapping[str, Any], others: Config) -> Config:
    """Return *config* with an answer to what *others* say and a merge would keep."""
    foreign: dict[str, list[str]] = {name: [] for name in others.get("endpoints") or {}}
    answered = {**config, "endpoints": {**foreign, **config["endpoints"]}}
    if others.get("srv_endpoints"):
        answered["srv_endpoints"] = []
    if "cert_prefix" in others:
        answered["certnames"] = {f"{others['cert_prefix']}.{hostname()}": config["name"], **config["certnames"]}
    return answered


def _warn_of_overrides(written: Config, merged: Config) -> None:
    """Warn of each key that a file which is read after ours sets otherwise."""
    for key, value in written.items() if merged else ():
        found = merged.get(key)
        if isinstance(value, dict) and isinstance(found, dict):
            found = {name: found.get(name) for name in value}
        if found != value:
            log.warning(
                "programs started here will not use this bus's %r: another file sets it too, and fedmsg "
                "reads $VIRTUAL_ENV/etc/fedmsg.d and fedmsg-config.py last",
                key,
            )
