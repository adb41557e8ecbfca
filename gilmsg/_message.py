"""How a fedmsg message is put together: topic, envelope fields, bytes. Pure, but for clock and user.

A message that waits for ACKs tells in its id which listener awaits them: the last 12 digits
of the UUID are that listener's *origin*. To everybody else it is a UUID like any other (74
of its bits are random, and 32 of the origin's). So a consumer knows for whose subscription
to wait before its ACK leaves, and no field is added to the message.
"""

import datetime
import functools
import getpass
import os
import time
import uuid
import zlib
from typing import Any, Dict, Mapping, Optional

import fedmsg.encoding  # type: ignore[import-untyped]
import six

from .errors import ConfigurationError


def full_topic(topic: Any, modname: Any, config: Mapping[str, Any]) -> str:
    """Return the full topic as fedmsg forms it; one that begins with the prefix is left as it is.

    Raises:
        ConfigurationError: it is no text, or holds bytes of a command line that are none.
    """
    name = "%s.%s" % (_text(modname, "modname"), _text(topic or "unspecified", "the topic"))
    if not name.startswith(config["topic_prefix"]):
        name = "%s.%s.%s" % (config["topic_prefix"], config["environment"], name)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError("the topic %r is not valid text" % name) from None
    return name


def _text(value: Any, what: str) -> str:
    try:
        return str(six.ensure_text(value))
    except (TypeError, UnicodeDecodeError):
        raise ConfigurationError("%s must be text; it is %r" % (what, value)) from None


def new_origin() -> str:
    """Return a new origin: 8 random hexadecimal digits, and 4 that check them."""
    return _checked(os.urandom(4).hex())


def origin_of(msg_id: str) -> Optional[str]:
    """Return the origin in *msg_id*; None if there is none, as in an id that is not of ours."""
    last = msg_id.rpartition("-")[2]
    return last if len(last) == 12 and last == _checked(last[:8]) else None


def _checked(digits: str) -> str:
    return "%s%04x" % (digits, zlib.crc32(digits.encode("utf-8", "replace")) & 0xFFFF)


@functools.lru_cache(maxsize=None)
def _login(uid: int) -> str:
    """Return the user's name; it may take a look into the password database."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run us as a user that no database knows
        return str(uid)


def compose(topic: str, body: Any, number: int, origin: Optional[str] = None) -> Dict[str, Any]:
    """Return an unsigned message; *number* is the sender's count, fedmsg's ``i``."""
    unique = str(uuid.uuid4())
    if origin is not None:
        unique = unique[: -len(origin)] + origin
    return {
        "topic": topic,
        "msg": body,
        "timestamp": int(time.time()),
        "msg_id": "%d-%s" % (datetime.datetime.now().year, unique),
        "i": number,
        "username": _login(os.getuid()),
    }


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of *message* as they go over the wire."""
    encoded: str = fedmsg.encoding.dumps(message)
    return encoded.encode("utf-8")
