"""The folder of a sandbox: whose it is, and what is written into it.

In a folder that the user names, only our own files are written: ``fedmsg.d/zz-gilmsg-sandbox.py``
and what is in ``pki``. Both bear a mark, and where the mark is missing we refuse: that ``pki`` may
hold somebody's real CA. The file's name makes fedmsg read it after the others in ``fedmsg.d``.

fedmsg merges what it finds in /etc, the home directory, the working directory and
$VIRTUAL_ENV/etc. A key can be overridden there, not removed: what other files say of endpoints
and of cert_prefix is answered in ours, so that a program started here stays on this bus.
"""

import fcntl
import logging
import os
import pprint
import shutil
import tempfile
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _bus, _config_files
from ._pki import Authority, write
from ._ports import Ports
from ._sandbox_config import signed_bus
from .errors import ConfigurationError

log = logging.getLogger(__name__)

FILE = "zz-gilmsg-sandbox.py"
_MARK = "# Written by gilmsg.sandbox at each start. Put settings of your own into another file.\n"
_NOTE = "Throw-away keys of gilmsg.sandbox, all written anew at each start. They protect nothing.\n"

#: The name, and the common name, of whoever publishes on the sandbox's bus.
PUBLISHER = "publisher"

#: Processes that can publish under that name at a time.
_PUBLISHERS = 8

Config = Dict[str, Any]


class Folder:
    """A folder held by one sandbox at a time; a temporary one is removed by ``release``.

    Raises:
        ConfigurationError: another sandbox runs there, or holds files where ours would go.
        OSError: it cannot be made, or written to.
    """

    def __init__(self, path: Optional[str]) -> None:
        self._temporary = path is None
        self.path = os.path.abspath(tempfile.mkdtemp(prefix="gilmsg-") if path is None else path)
        os.makedirs(self.path, exist_ok=True)
        # Forgotten by the kernel when we end, however that may be.
        self._hold: Optional[int] = os.open(self.path, os.O_RDONLY)
        try:
            self._claim()
        except BaseException:
            self.release()
            raise

    @property
    def keys(self) -> str:
        """Where the keys and certificates are."""
        return os.path.join(self.path, "pki")

    @property
    def file(self) -> str:
        """Where the configuration is."""
        return os.path.join(self.path, "fedmsg.d", FILE)

    def write(self, config: Mapping[str, Any]) -> None:
        """Write *config* as what fedmsg finds in this folder."""
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        others = _config_files.read(self._others())
        for problem in others.problems + others.passed_over:
            log.warning("a file that programs started here read cannot be used: %s", problem)
        written = _answered(config, others.config)
        text = "%sconfig = %s\n" % (_MARK, pprint.pformat(written, width=100))
        write(self.file, text.encode("utf-8"))
        _warn_of_overrides(written, _config_files.read(self._others(self.file)).config)

    def release(self) -> None:
        """Remove a temporary folder, leave any other as it is; idempotent."""
        if self._hold is None:
            return
        os.close(self._hold)
        self._hold = None
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def _claim(self) -> None:
        assert self._hold is not None
        try:
            fcntl.flock(self._hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                "another sandbox is running in %s; end it, or choose another folder" % self.path
            ) from None
        note = os.path.join(self.keys, "README")
        if os.path.isdir(self.keys) and os.listdir(self.keys):
            _require_mark(note, _NOTE, self.keys)
        if os.path.exists(self.file):
            _require_mark(self.file, _MARK, self.file)
        os.makedirs(self.keys, exist_ok=True)
        write(note, _NOTE.encode("ascii"))

    def _others(self, *ours: str) -> List[str]:
        """Return the files that fedmsg reads for a program started here, in its order.

        Our own is among them only where it is given in *ours*.
        """
        found = _config_files.found_in(self.path)
        return [one for one in found if one != self.file or one in ours]


def file_name(common_name: str) -> str:
    """Return *common_name* if a key and a certificate can be stored under it."""
    taken = common_name in (PUBLISHER, "shell", "ca", "crl", "relay_outbound", "relay_inbound")
    if taken or "/" in common_name or "," in common_name or common_name.startswith("."):
        raise ConfigurationError("%r cannot be the name of a stand-in; choose another" % common_name)
    return common_name


def bus_configuration(
    recipients: Sequence[str],
    ports: Ports,
    authority: Authority,
    topic_prefix: str,
    relay: bool,
) -> Config:
    """Return the configuration of PUBLISHER; everything that a host might set is set."""
    endpoints = {name: [ports.endpoint()] for name in recipients}
    endpoints[PUBLISHER] = [ports.endpoint() for _ in range(_PUBLISHERS)]
    if relay:
        endpoints["relay_outbound"] = [ports.endpoint()]
    certnames = {name: name for name in [PUBLISHER, *recipients]}
    certnames["shell." + _bus.hostname()] = "shell"
    return signed_bus(
        authority, endpoints, certnames, topic_prefix, name=PUBLISHER, relay_inbound=ports.endpoint()
    )


def _require_mark(path: str, mark: str, what: str) -> None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            found = stream.readline()
    except OSError:
        found = ""
    if found != mark:
        raise ConfigurationError(
            "%s exists and was not written by a sandbox; move it away, or choose another folder" % what
        )


def _answered(config: Mapping[str, Any], others: Config) -> Config:
    """Return *config* with an answer to what *others* say and a merge would keep."""
    answered = dict(config)
    foreign: Dict[str, List[str]] = {name: [] for name in others.get("endpoints") or {}}
    answered["endpoints"] = {**foreign, **config["endpoints"]}
    if others.get("srv_endpoints"):
        answered["srv_endpoints"] = []
    if "cert_prefix" in others:
        index = "%s.%s" % (others["cert_prefix"], _bus.hostname())
        answered["certnames"] = {index: config["name"], **config["certnames"]}
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
                "reads $VIRTUAL_ENV/etc/fedmsg.d and fedmsg-config.py last", key
            )
