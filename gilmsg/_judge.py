"""Whether what came on the ACK topic proves something: the checks, the cheapest first.

An ACK counts for the message whose id it names, if its digest is that of what was sent, its
signature is right, and its signer is awaited. What falls short of that is kept for the diagnosis,
where it says something about a recipient; it never counts.
"""

from abc import ABC, abstractmethod
from typing import Any, Callable, List, Mapping, Optional, Tuple

from . import _acks
from ._acks import BadFrame, Refused
from ._ledger import Entry
from .errors import GilmsgError

#: ACKs with a foreign digest whose certificate is read, per message: more are a flood.
_QUOTED = 64


class Expected(Entry, ABC):
    """An entry that knows whose word counts, and is told what becomes of it.

    All of it is called by the listener's thread, which waits for nobody: be brief, take no lock
    that others hold for long.
    """

    @abstractmethod
    def signer_of(self, message: Mapping[str, Any]) -> str:
        """Return the common name that signed *message*, or raise Refused."""

    @abstractmethod
    def claimed_name(self, message: Mapping[str, Any]) -> Optional[str]:
        """Return the name on the certificate in *message*, unverified."""

    @abstractmethod
    def ended(self) -> None:
        """All have acknowledged, or the deadline has passed and some are :meth:`missing`."""

    @abstractmethod
    def failed(self, error: GilmsgError) -> None:
        """The listener has ended, maybe while it told us of our end: what was told first counts."""


class Judge:
    """Judges frames for one listener; *find* returns what is expected under an (escaped) id."""

    def __init__(self, ack_topic: str, find: Callable[[bytes], Optional[Expected]]) -> None:
        self._topic = ack_topic.encode("utf-8")
        self._find = find

    def proven(self, parts: List[bytes]) -> Optional[Tuple[Expected, str]]:
        """Return (entry, recipient) that the frame proves, None if it proves nothing new.

        Raises:
            BadFrame: it is no ACK at all.
        """
        if len(parts) != 2 or parts[0] != self._topic:
            return None  # an announcement's topic, or a longer one that begins like ours
        if len(parts[1]) > _acks.LARGEST_ACK:
            raise BadFrame("%d bytes are too many for an ACK" % len(parts[1]))
        # A sieve: a flood of ACKs that others await must cost nothing.
        claimed = _acks.claimed_id(parts[1])
        entry = self._find(claimed) if claimed is not None else None
        if entry is None:
            return None
        topic, message = _acks.decode(parts)
        ack = _acks.parse_ack(message)
        if message.get("topic") != topic or ack.msg_id != entry.msg_id:
            raise BadFrame("its signed topic or id differs from what it was sent under")
        if ack.digest is not None and ack.digest != entry.digest:
            self._refuse_digest(entry, message)
            return None
        return self._signed(entry, message)

    def _refuse_digest(self, entry: Expected, message: _acks.Message) -> None:
        """Keep who seems to have received something else; not worth a signature check."""
        entry.altered += 1
        claimed = entry.claimed_name(message) if entry.altered <= _QUOTED else None
        if claimed is not None:
            entry.refuse(claimed, "its digest differs, what it received is not what was sent")

    def _signed(self, entry: Expected, message: _acks.Message) -> Optional[Tuple[Expected, str]]:
        """Return (entry, signer) if the signer's ACK is awaited."""
        try:
            signer = entry.signer_of(message)
        except Refused as refusal:
            if refusal.claimed is not None:
                entry.refuse(refusal.claimed, refusal.reason)
            return None
        if entry.awaits(signer):
            return entry, signer
        if signer not in entry.acks:
            entry.strangers.add(signer)
        return None
