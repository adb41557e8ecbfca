"""How a fedmsg message is put together: topic, envelope fields, bytes. Pure, but for clock and user."""

import datetime
import getpass
import time
import uuid
from typing import Any, Dict, Mapping

import fedmsg.encoding  # type: ignore[import-untyped]
import six


def full_topic(topic: Any, modname: str, config: Mapping[str, Any]) -> str:
    """Return the full topic as fedmsg forms it; one that begins with the prefix is left as it is."""
    name = "%s.%s" % (modname, six.ensure_text(topic or "unspecified"))
    if name.startswith(config["topic_prefix"]):
        return name
    return "%s.%s.%s" % (config["topic_prefix"], config["environment"], name)


def compose(topic: str, body: Any, number: int) -> Dict[str, Any]:
    """Return an unsigned message; *number* is the sender's count, fedmsg's ``i``."""
    return {
        "topic": topic,
        "msg": body,
        "timestamp": int(time.time()),
        "msg_id": "%d-%s" % (datetime.datetime.now().year, uuid.uuid4()),
        "i": number,
        "username": getpass.getuser(),
    }


def encode(message: Mapping[str, Any]) -> bytes:
    """Return the bytes of *message* as they go over the wire."""
    encoded: str = fedmsg.encoding.dumps(message)
    return encoded.encode("utf-8")
