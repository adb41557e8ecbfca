"""Finished messages: put together, signed, as the bytes that leave."""

from __future__ import annotations

import datetime
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _protocol, _trust
from ..errors import BadFrame, PayloadError
from . import context

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sealed(NamedTuple):
    """A signed message."""

    message: dict[str, Any]
    #: The bytes that its signature covers.
    covered: bytes
    #: Its bytes as they go over the wire.
    wire: bytes


def composed(topic: str, body: Any, number: int, origin: str | None = None) -> dict[str, Any]:
    """Return an unsigned message of this moment; *number* is the sender's count, fedmsg's ``i``."""
    return _protocol.compose(
        topic, body, number, unique=str(uuid.uuid4()), year=datetime.datetime.now().year,
        timestamp=int(time.time()), username=context.username(), origin=origin,
    )  # fmt: skip


def sealed(message: dict[str, Any], config: Mapping[str, Any], certname: str) -> Sealed:
    """Return *message*, signed with the key pair *certname* of *config*.

    Raises:
        ConfigurationError: the pair cannot be loaded, does not match, or is out of date.
        PayloadError: it is nested too deeply: what it carries may fit, but not one level further down.
    """
    message = dict(message, crypto="x509")
    try:
        covered = _protocol.canonical(message)
    except BadFrame as error:
        raise PayloadError(f"msg cannot be signed: {error}") from error
    credentials = _trust.key_pair(config, certname).seal(covered)
    # Both are JSON objects, and neither is empty: so the message is not encoded once more.
    wire = json.dumps(credentials)[:-1].encode("ascii") + b"," + covered[1:]
    return Sealed({**message, **credentials}, covered, wire)
