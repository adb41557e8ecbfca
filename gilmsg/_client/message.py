"""Messages of this process: put together, signed, and read back where others have changed them."""

from __future__ import annotations

import datetime
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

from .. import _protocol, _trust
from ..errors import BadFrame, ConfigurationError, PayloadError
from . import names as _names


def composed(topic: str, body: Any, number: int, origin: str | None = None) -> dict[str, Any]:
    """Return an unsigned message of this moment; *number* is the sender's count, fedmsg's ``i``."""
    return _protocol.compose(
        topic, body, number, unique=str(uuid.uuid4()), year=datetime.datetime.now().year,
        timestamp=int(time.time()), username=_names.username(os.getuid()), origin=origin,
    )  # fmt: skip


def sealed(message: dict[str, Any], config: Mapping[str, Any], certname: str) -> tuple[dict[str, Any], bytes, bytes]:
    """Return *message*, signed with the key pair *certname*, the bytes that this covers, and those on the wire."""
    message = dict(message, crypto="x509")
    covered = covered_by_signature(message)
    seal, wire = signed(covered, config, certname)
    return seal.on(message), covered, wire


def signed(covered: bytes, config: Mapping[str, Any], certname: str) -> tuple[Any, bytes]:
    """Return the seal of the key pair *certname* on the *covered* bytes, and the bytes on the wire."""
    seal = _trust.key_pair(config, certname).seal(covered)
    # Neither object is empty: so the message is not encoded once more.
    return seal, b"{" + seal.members + b"," + covered[1:]


def covered_by_signature(message: Mapping[str, Any]) -> bytes:
    """Return the covered bytes of *message*, put together here, or raise PayloadError."""
    try:
        return _protocol.canonical(message)
    except BadFrame as error:  # it fits, but not one level further down
        raise PayloadError(f"msg cannot be signed: {error}") from error


def read_back(topic: str, message: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return covered bytes and wire bytes of *message*: the former from the latter, for ACKs must state what leaves."""
    try:
        wire = _protocol.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"the message, as pre_fire_hook or persistent_store may have left it, cannot be encoded: {error}"
        ) from error
    if not isinstance(message.get("msg_id"), str):
        raise ConfigurationError(
            f"pre_fire_hook or persistent_store left a message whose msg_id is {message.get('msg_id')!r}"
        )
    try:
        return _protocol.Received.of([topic.encode("utf-8"), wire]).covered, wire
    except BadFrame as error:
        raise PayloadError(f"the message cannot be read back: {error}") from error
