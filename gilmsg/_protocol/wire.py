"""The bytes and fields of messages: topics, ids, the marker, ACKs and digests. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fedmsg.encoding
import six

from .._version import __version__
from ..errors import BadFrame, ConfigurationError, PayloadError

MARKER = "gilmsg"
ACK_SUFFIX, NACK_SUFFIX = "gilmsg.ack", "gilmsg.nack"

#: The code of a NACK that says that the message was handed over, and what took it failed.
HANDLER = "handler"

#: gilmsg 0.1.x put this key at the top level, named nobody, and expected ACKs from all.
LEGACY_MARKER = "gilmsg_version"

#: Bytes: far above any ACK (a certificate, a signature, an id), far below what hurts to parse.
LARGEST_ACK = 256 * 1024

#: fedmsg's encoder, but for NaN and infinities, which are no JSON: it refuses them.
_strict = fedmsg.encoding.FedMsgEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

#: What it raises. (A date that the C library does not know is an OverflowError.)
_NOT_JSON = (TypeError, ValueError, OverflowError, RecursionError)

#: Levels, at most, that are searched for what cannot be encoded: a payload may be endless.
_LEVELS = 32

_ACK_MSG_ID = re.compile(rb'"ack_msg_id"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')


def full_topic(topic: Any, modname: Any, config: Mapping[str, Any]) -> str:
    """Return the full topic as fedmsg forms it, or raise ConfigurationError; a *modname* that has the prefix is left as it is.

    The topics of ACKs and NACKs are refused: those who hear them would take the message for one.
    """
    name = f"{_text(modname, 'modname')}.{_text(topic or 'unspecified', 'the topic')}"
    if not name.startswith(config["topic_prefix"]):
        name = f"{config['topic_prefix']}.{config['environment']}.{name}"
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a command line that are no text
        raise ConfigurationError(f"the topic {name!r} is not valid text") from None
    if is_answer(name):
        raise ConfigurationError(f"the topic {name!r} is gilmsg's own, for answers of recipients; take another one")
    return name


def _text(value: Any, what: str) -> str:
    try:
        return str(six.ensure_text(value))
    except (TypeError, UnicodeDecodeError):
        raise ConfigurationError(f"{what} must be text; it is {value!r}") from None


def ack_topic(config: Mapping[str, Any]) -> str:
    return f"{config['topic_prefix']}.{config['environment']}.{ACK_SUFFIX}"


def on_ack_topic(topic: Any) -> bool:
    """Return whether *topic* is the ACK topic of some prefix and environment."""
    return str(topic).endswith("." + ACK_SUFFIX)


def nack_topic(ack_topic: str) -> str:
    """Return the topic of NACKs on the bus of *ack_topic*."""
    return ack_topic[: -len(ACK_SUFFIX)] + NACK_SUFFIX


def is_answer(topic: Any) -> bool:
    """Return whether *topic* is that of ACKs or NACKs of some prefix and environment."""
    return on_ack_topic(topic) or str(topic).endswith("." + NACK_SUFFIX)


def announcement(topic: str, common_name: str) -> bytes:
    """Return the subscription by which *common_name* says that it listens to *topic*."""
    return f"{topic}\0{common_name}".encode()


def compose(
    topic: str, body: Any, number: int, *,
    unique: str, year: int, timestamp: int, username: str, origin: str | None = None,
) -> dict[str, Any]:
    """Return an unsigned message; its id is *year* and *unique*, a UUID, whose last digits give way to the *origin*."""
    msg_id = f"{year}-{unique}" if origin is None else f"{year}-{unique[: -len(origin)]}{origin}"
    return {"topic": topic, "msg": body, "timestamp": timestamp, "msg_id": msg_id, "i": number, "username": username}


def checked_origin(digits: str) -> str:
    """Return the origin that 8 hexadecimal *digits* make: themselves, and 4 that check them."""
    return f"{digits}{zlib.crc32(digits.encode('utf-8', 'replace')) & 0xFFFF:04x}"


def origin_of(msg_id: str) -> str | None:
    """Return the origin in *msg_id*; None if there is none, as in an id that is not of ours."""
    last = msg_id.rpartition("-")[2]
    return last if len(last) == 12 and last == checked_origin(last[:8]) else None


def marked(payload: Any, recipients: Sequence[str]) -> dict[str, Any]:
    """Return a copy of *payload* that names its *recipients*; PayloadError if that cannot be.

    The payload goes through fedmsg's encoder and back first: only the decoded form, which arrives at the other
    end, has a stable key order (integer keys sort as numbers before, as strings after), signature and digest.
    """
    try:
        decoded = fedmsg.encoding.loads(_strict(payload))
    except _NOT_JSON as error:
        raise PayloadError(f"msg cannot be encoded as JSON, all its keys text: {_culprit(payload, error)}") from error
    if not isinstance(decoded, dict):
        raise PayloadError(f"msg must be a dict when recipients are given, to carry their names; it is {payload!r:.80}")
    if MARKER in decoded:
        raise PayloadError(f"msg uses the key {MARKER!r}, which gilmsg reserves for itself; rename that key")
    decoded[MARKER] = {"version": __version__, "recipients": list(recipients)}
    return decoded


def _culprit(value: Any, error: Exception) -> str:
    """Return where in *value*, a payload, *error* came from, what is there, and the error's own words."""
    where = "msg"
    for _ in range(_LEVELS):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
        failed = next(((key, item, found) for key, item in items if (found := _not_json(item)) is not None), None)
        if failed is None:
            break
        key, value, error = failed
        where += f"[{key!r:.40}]"
    odd = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
    what = f"has the key {odd[0]!r:.40}" if odd else f"is a {type(value).__name__}"
    return f"{where:.100} {what} ({error})"


def _not_json(value: Any) -> Exception | None:
    try:
        _strict(value)
    except _NOT_JSON as error:
        return error
    return None


def unmarked(body: Any) -> Any:
    """Return *body* as the publisher gave it: without our marker, if it has one."""
    return {key: value for key, value in body.items() if key != MARKER} if isinstance(body, dict) else body


def members(entry: str) -> list[str]:
    """Return the common names in one entry of recipients (``"a"``, or a group ``"a,b"``)."""
    return [name.strip() for name in entry.split(",")]


def unnameable(common_name: str) -> str | None:
    """Return why no publisher can name *common_name*, None if one can: a comma joins a group, spaces there do not count."""
    if members(common_name) == [common_name] and common_name:
        return None
    return (
        f"the common name {common_name!r} holds a comma, or begins or ends with a space: no publisher can name it, so "
        "it can never confirm; have a certificate issued with another one"
    )


def join_group(names: Iterable[str]) -> str:
    return ",".join(names)


def canonical(message: Mapping[str, Any]) -> bytes:
    """Return the covered bytes of *message*; raise BadFrame if it is nested too deeply to be encoded again."""
    try:
        bare = {key: value for key, value in message.items() if key not in ("signature", "certificate")}
        return str(fedmsg.encoding.dumps(bare)).encode("utf-8")
    except RecursionError:
        raise BadFrame("it is nested too deeply") from None


def digest_of(covered: bytes) -> str:
    return hashlib.sha256(covered).hexdigest()


def encode(message: Mapping[str, Any]) -> bytes:
    """Return *message* as it is sent, or raise what a payload that is no JSON does."""
    return str(_strict(message)).encode("utf-8")


class Received:
    """A message from the bus: ``topic``, under which it was sent (nobody signs that), and ``message``, decoded."""

    def __init__(self, topic: str, message: dict[str, Any]) -> None:
        self.topic, self.message = topic, message
        self._covered: bytes | None = None

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> Received:
        """Return what a socket received; raise BadFrame if that is not two parts, UTF-8, and a JSON object."""
        if len(parts) != 2:
            raise BadFrame(f"{len(parts)} parts instead of topic and message")
        try:
            topic = parts[0].decode("utf-8")
            message = fedmsg.encoding.loads(parts[1].decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadFrame(f"it cannot be decoded: {str(error)[:200]}") from error
        if not isinstance(message, dict):
            raise BadFrame(f"it is a JSON {type(message).__name__}, not an object")
        return cls(topic, message)

    @classmethod
    def opened(cls, message: Any) -> Received:
        """Return a decoded message that came without an envelope; raise BadFrame if it has no topic."""
        topic = message.get("topic") if isinstance(message, dict) else None
        if not isinstance(topic, str):
            raise BadFrame("it is no JSON object with a topic")
        return cls(topic, message)

    @property
    def covered(self) -> bytes:
        """The covered bytes, made when first asked for, of a message that nobody has changed; may raise BadFrame."""
        if self._covered is None:
            self._covered = canonical(self.message)
        return self._covered

    def ack_due(self, common_name: str, validated: bool) -> dict[str, Any] | None:
        """Return the body of the ACK that *common_name* owes, or None; BadFrame if the message has no covered bytes.

        Owed for gilmsg messages that name us, alone or in a group. Never for an ACK or a NACK, so that two consumers
        cannot answer each other for ever. The marker of gilmsg 0.1.x names nobody and breaks the signature: it
        counts only where signatures are not *validated*.
        """
        message = self.message
        if not isinstance(message.get("msg_id"), str) or is_answer(message.get("topic")):
            return None
        if not (_names(message, common_name) or (not validated and LEGACY_MARKER in message)):
            return None
        return {"ack_msg_id": message["msg_id"], "ack_digest": digest_of(self.covered)}

    def nack_due(self, common_name: str, reason: str) -> tuple[str, dict[str, Any]] | None:
        """Return (origin, body) of the NACK that says why *common_name* drops this, by a code; None if none is due.

        Due as an ACK is, where the id tells which listener awaits it. May raise BadFrame, too.
        """
        body = self.ack_due(common_name, validated=True)
        return None if body is None else nack_for(body, reason)


def nack_for(ack: Mapping[str, Any], reason: str) -> tuple[str, dict[str, Any]] | None:
    """Return (origin, body) of the NACK that takes the place of an ACK whose body is *ack*; None if nobody awaits it."""
    origin = origin_of(ack["ack_msg_id"])
    return None if origin is None else (origin, {**ack, "reason": reason})


def _names(message: Mapping[str, Any], common_name: str) -> bool:
    body = message.get("msg")
    marker = body.get(MARKER) if isinstance(body, dict) else None
    named = marker.get("recipients") if isinstance(marker, dict) else None
    return isinstance(named, list) and any(isinstance(one, str) and common_name in members(one) for one in named)


def parse_ack(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return id and digest (gilmsg 0.1.x sends none) that an ACK states; BadFrame if it has not the form of one."""
    body = message.get("msg")
    if not isinstance(body, dict) or not isinstance(body.get("ack_msg_id"), str):
        raise BadFrame("it has no ack_msg_id")
    digest = body.get("ack_digest")
    if "ack_digest" in body and not isinstance(digest, str):
        raise BadFrame("its ack_digest is not a string")
    return body["ack_msg_id"], digest


def nack_reason(message: Mapping[str, Any]) -> str:
    """Return the code that a NACK, which has the form of an ACK, states; BadFrame if there is none."""
    reason = message["msg"].get("reason")
    if not isinstance(reason, str):
        raise BadFrame("it has no reason")
    return reason


def claimed_id(frame: bytes) -> bytes | None:
    """Return the id, as :func:`escaped`, that an ACK claims to confirm: a cheap sieve, what passes is decoded."""
    found = _ACK_MSG_ID.search(frame)
    return found.group(1) if found else None


def escaped(msg_id: str) -> bytes:
    return json.dumps(msg_id).encode("ascii")
