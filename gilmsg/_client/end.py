"""The end of a message, as its caller and the log are told of it."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import _engine, _protocol, _trust
from .._protocol import Receipt
from ..errors import Timeout

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

_log = logging.getLogger("gilmsg.publish")

#: Certificates, at most, that are read for one Timeout: it should not come late for that.
_READ = 8


def tell(error: BaseException | None, config: Mapping[str, Any]) -> None:
    """Have a Timeout say which of the missing are names in ``certnames``, not common names. It may read certificates."""
    if not isinstance(error, Timeout):
        return
    certnames = config.get("certnames") or {}
    names = {
        name: entry
        for entry, reason in error.missing.items()
        for name in _protocol.members(entry)
        if name in certnames and (config.get("active") or reason.members.get(name, reason).code == "never_connected")
    }
    for name, entry in itertools.islice(names.items(), _READ):
        common_name, how = certnames[name], " (by the name of its certificate file)"
        with contextlib.suppress(Exception):  # the file may hold anything, and the Timeout must come all the same
            common_name, how = _trust.key_pair(config, common_name).load_certificate()[1], ""
        if common_name != name:
            error._add(entry, name, f"{name!r} is a name in certnames, its common name is {common_name!r}{how}")


def log(end: object) -> None:
    """Write the one line of a message, if anybody wants it: a WARNING of a Timeout, DEBUG of a Receipt, nothing of others."""
    if not _is_told(end):
        return
    names, missing = sorted(end.acks), end.missing if isinstance(end, Timeout) else {}
    fields = {
        "topic": end.topic, "msg_id": end.msg_id, "acked": names, "missing": sorted(missing),
        "reasons": {name: reason.as_dict() for name, reason in missing.items()},
    }  # fmt: skip
    if isinstance(end, Timeout):
        _log.warning("%s", end, extra=fields)
    else:
        _log.debug("%s %s acknowledged by %s", end.topic, end.msg_id, ", ".join(names), extra=fields)


def log_later(end: object) -> None:
    """Have :func:`log` write it on the callback thread."""
    if _is_told(end):
        _engine.callbacks.run(lambda: log(end))


def _is_told(end: object) -> TypeGuard[Receipt | Timeout]:
    return isinstance(end, Timeout) or (isinstance(end, Receipt) and _log.isEnabledFor(logging.DEBUG))
