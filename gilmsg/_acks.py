"""What the marker, an ACK and a digest look like: pure functions over messages.

A gilmsg message is a fedmsg message whose ``msg`` body holds the reserved key
``"gilmsg"``. It lies inside the body because fedmsg signs the body, and because
archives keep only fedmsg's own top-level keys.

The *canonical message* is what a signature covers: fedmsg's encoding of the message
without ``signature`` and ``certificate``. Its SHA-256 is the *digest*: an ACK carries
the digest of what was received, the publisher compares it with what it sent.
"""

import hashlib
import json
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import fedmsg.encoding  # type: ignore[import-untyped]

from ._version import __version__
from .errors import PayloadError

Message = Dict[str, Any]

MARKER = "gilmsg"
ACK_SUFFIX = "gilmsg.ack"

#: gilmsg 0.1.x put this key at the top level, named nobody, and expected ACKs from all.
LEGACY_MARKER = "gilmsg_version"

#: Far above any ACK (a certificate, a signature, an id), far below what hurts to parse.
LARGEST_ACK = 256 * 1024

_CREDENTIALS = frozenset(["signature", "certificate"])
_ACK_MSG_ID = re.compile(rb'"ack_msg_id"\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")')


class BadFrame(ValueError):
    """What came from the bus is not a fedmsg message; the text says why."""


class Refused(Exception):
    """A message proves nothing.

    Attributes:
        reason (str): why, as the end of a sentence about an ACK.
        claimed (str or None): the common name on the certificate that came along. Without
            proof, that is only a claim.
    """

    def __init__(self, reason: str, claimed: Optional[str] = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.claimed = claimed


class Ack(NamedTuple):
    """The two facts that an ACK states; the signature is checked elsewhere."""

    msg_id: str
    #: SHA-256, in hex, of what was received; None in an ACK of gilmsg 0.1.x.
    digest: Optional[str]


def canonical(message: Mapping[str, Any]) -> bytes:
    """Return the bytes that the signature of *message* covers.

    Raises:
        BadFrame: it is nested too deeply; what can be decoded cannot always be encoded again.
    """
    bare = {key: value for key, value in message.items() if key not in _CREDENTIALS}
    try:
        encoded: str = fedmsg.encoding.dumps(bare)
    except RecursionError:
        raise BadFrame("it is nested too deeply") from None
    return encoded.encode("utf-8")


class Canonical:
    """The canonical form of a message that nobody changes meanwhile: made when first asked for, once."""

    def __init__(self, message: Mapping[str, Any]) -> None:
        self._message = message
        self._form: Optional[bytes] = None

    def __call__(self) -> bytes:
        """Return it; raise as :func:`canonical`."""
        if self._form is None:
            self._form = canonical(self._message)
        return self._form


def digest_of(form: bytes) -> str:
    """Return the SHA-256, in hex, of what :func:`canonical` returned."""
    return hashlib.sha256(form).hexdigest()


def ack_topic(config: Mapping[str, Any]) -> str:
    """Return the full topic of ACKs on the bus that *config* describes."""
    return ".".join([config["topic_prefix"], config["environment"], ACK_SUFFIX])


def marked(payload: Any, recipients: Sequence[str]) -> Dict[str, Any]:
    """Return a copy of *payload* that names its *recipients*; *payload* stays as it is.

    The payload goes through fedmsg's encoder and back first: what arrives at the
    other end is the decoded form, and only that form has a stable key order (integer
    keys sort as numbers before the trip and as strings after it), signature and digest.

    Raises:
        PayloadError: it cannot be encoded, is not a dict, or uses our key.
    """
    try:
        decoded = fedmsg.encoding.loads(fedmsg.encoding.dumps(payload))
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError("msg cannot be encoded as JSON, all its keys text: %s" % error) from error
    if not isinstance(decoded, dict):
        raise PayloadError(
            "msg must be a dict when recipients are given, to carry their names; it is %.80r"
            % (payload,)
        )
    if MARKER in decoded:
        raise PayloadError(
            "msg uses the key %r, which gilmsg reserves for itself; rename that key" % MARKER
        )
    decoded[MARKER] = {"version": __version__, "recipients": list(recipients)}
    return decoded


def ack_due(
    message: Any, common_name: str, validated: bool, received: Optional[Canonical] = None
) -> Optional[Dict[str, Any]]:
    """Return the body of the ACK that *common_name* owes for *message*, or None.

    *received* is the canonical form of *message*, where somebody else needs it too.

    Owed for gilmsg messages that name us, alone or in a group. Never for an ACK,
    so that two consumers cannot acknowledge each other for ever. A message of gilmsg
    0.1.x names nobody; its marker breaks its signature, so it counts only where
    signatures are not *validated*.
    """
    if not isinstance(message, dict) or not isinstance(message.get("msg_id"), str):
        return None
    if on_ack_topic(message.get("topic")):
        return None
    if not (_names(message, common_name) or (not validated and LEGACY_MARKER in message)):
        return None
    return {
        "ack_msg_id": message["msg_id"],
        "ack_digest": digest_of((received or Canonical(message))()),
    }


def on_ack_topic(topic: Any) -> bool:
    """Whether *topic* is the ACK topic of some prefix and environment."""
    return str(topic).endswith("." + ACK_SUFFIX)


def unmarked(body: Any) -> Any:
    """Return *body* as the publisher gave it: without our marker, if it has one."""
    return {key: value for key, value in body.items() if key != MARKER} if isinstance(body, dict) else body


def _names(message: Message, common_name: str) -> bool:
    """Whether the marker in *message* names *common_name*."""
    body = message.get("msg")
    marker = body.get(MARKER) if isinstance(body, dict) else None
    recipients = marker.get("recipients") if isinstance(marker, dict) else None
    if not isinstance(recipients, list):
        return False
    return any(isinstance(entry, str) and common_name in members(entry) for entry in recipients)


def members(entry: str) -> List[str]:
    """Return the common names in one entry of recipients (``"a"``, or a group ``"a,b"``)."""
    return [name.strip() for name in entry.split(",")]


def join_group(names: Iterable[str]) -> str:
    """Return the string form of a group: the inverse of :func:`members`."""
    return ",".join(names)


def escaped(msg_id: str) -> bytes:
    """Return *msg_id* as it stands, quoted, in the bytes of an ACK; see :func:`claimed_id`."""
    return json.dumps(msg_id).encode("ascii")


def claimed_id(frame: bytes) -> Optional[bytes]:
    """Return the (escaped) id that the bytes of an ACK claim to confirm, without decoding it.

    Only a sieve, so that a flood of foreign ACKs costs next to nothing: what passes is
    decoded and checked in full, what has no such field is no ACK.
    """
    found = _ACK_MSG_ID.search(frame)
    return found.group(1) if found else None


def decode(parts: Sequence[bytes]) -> Tuple[str, Message]:
    """Return (envelope topic, message) of what a socket received.

    Raises:
        BadFrame: for anything that is not two parts, UTF-8, and a JSON object.
    """
    if len(parts) != 2:
        raise BadFrame("%d parts instead of topic and message" % len(parts))
    try:
        topic = parts[0].decode("utf-8")
        message = fedmsg.encoding.loads(parts[1].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadFrame("it cannot be decoded: %s" % str(error)[:200]) from error
    if not isinstance(message, dict):
        raise BadFrame("it is a JSON %s, not an object" % type(message).__name__)
    return topic, message


def opened(message: Any) -> Tuple[str, Message]:
    """Return (topic, message) of a decoded message that came without an envelope.

    Raises:
        BadFrame: it is no JSON object, or has no topic.
    """
    topic = message.get("topic") if isinstance(message, dict) else None
    if not isinstance(topic, str):
        raise BadFrame("it is no JSON object with a topic")
    return topic, message


def parse_ack(message: Message) -> Ack:
    """Return what *message*, received on the ACK topic, states.

    Raises:
        BadFrame: if it does not have the form of an ACK.
    """
    body = message.get("msg")
    if not isinstance(body, dict) or not isinstance(body.get("ack_msg_id"), str):
        raise BadFrame("it has no ack_msg_id")
    stated = body.get("ack_digest")
    if "ack_digest" in body and not isinstance(stated, str):
        raise BadFrame("its ack_digest is not a string")
    return Ack(body["ack_msg_id"], stated)
