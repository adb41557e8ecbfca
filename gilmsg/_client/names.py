"""Names as fedmsg has them: of a publisher, its certificate, this host, its user, and the module that calls.

Relied on: the rules by which fedmsg chooses a name and a certificate, repeated in `named_after` and `certname`.
"""

from __future__ import annotations

import functools
import getpass
import socket
import sys
import types
from collections.abc import Mapping
from typing import Any

from .. import _settings
from ..errors import ConfigurationError


def certname(config: Mapping[str, Any]) -> str:
    """Return the certificate file name (without suffix) under which *config* signs."""
    index = str(config.get("name"))
    if "cert_prefix" in config:
        index = f"{config['cert_prefix']}.{hostname()}"
    elif index == _settings.RELAY_INBOUND:
        index = f"shell.{hostname()}"
    try:
        return str((config.get("certnames") or {})[index])
    except KeyError:
        raise ConfigurationError(
            f"sign_messages is on, but certnames has no entry for {index!r}; add one with the name of its "
            "key and certificate files in ssldir"
        ) from None


def named_after(config: Mapping[str, Any], module: str) -> dict[str, Any]:
    """Return a copy of *config* with the name that fedmsg would guess for *module*."""
    named = {**config, "endpoints": dict(config.get("endpoints") or {})}
    if not named.get("name"):
        guessed = None if module.startswith("fedmsg") else f"{module}.{hostname()}"
        named["name"] = _settings.RELAY_INBOUND if named.get("active", False) else guessed
    return named


def hostname() -> str:
    """Return the short host name that fedmsg puts into names."""
    return socket.gethostname().partition(".")[0]


@functools.cache  # it may take a look into the password database
def username(uid: int) -> str:
    """Return the name of the user that we run as, *uid*, which fedmsg puts into messages."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run us as a user that no database knows
        return str(uid)


def calling_module() -> str:
    """Return the top-level module of the first frame that is neither fedmsg's nor ours.

    ``fedmsg.utils.guess_calling_module`` finds a wrapper of fedmsg, and reads the source lines of the whole stack.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in ("fedmsg", "gilmsg"):
            return name
        frame = frame.f_back
    return "fedmsg"
