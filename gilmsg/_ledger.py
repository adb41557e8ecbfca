"""Who must acknowledge which message, and who has: pure bookkeeping, no clock, no thread.

An :class:`Entry` is one message on its way. The ledger never decides that an ACK is
genuine; it is told so. It knows when an entry is settled: each of its recipients (a
name, or a group of which one member is enough) has answered.
"""

import heapq
from typing import Dict, Generic, Iterable, List, NamedTuple, Optional, Set, Tuple, TypeVar

from . import _acks
from .errors import ConfigurationError

E = TypeVar("E", bound="Entry")


class Sent(NamedTuple):
    """What is known of a message when it leaves."""

    msg_id: str
    topic: str
    #: SHA-256, in hex, see :mod:`gilmsg._acks`.
    digest: str
    #: Seconds, on the clock of the deadlines.
    at: float


class Entry:
    """One message that waits for its ACKs.

    Attributes:
        acks (dict): common name -> seconds from sending to its ACK.
        refused (dict): common name -> why an ACK in its name did not count.
        strangers (set): who else signed an ACK for this message.
        altered (int): how many ACKs for this id bore another digest.
    """

    def __init__(self, sent: Sent, recipients: Iterable[str], ack_timeout: float) -> None:
        self.msg_id, self.topic, self.digest, self.sent_at = sent
        self.recipients = tuple(recipients)
        self.ack_timeout = ack_timeout
        self.acks: Dict[str, float] = {}
        self.refused: Dict[str, str] = {}
        self.strangers: Set[str] = set()
        self.altered = 0
        #: What is still open, in the caller's order.
        self._open: Dict[str, None] = dict.fromkeys(self.recipients)
        self._entries_of: Dict[str, List[str]] = {}
        for entry in self.recipients:
            for name in _acks.members(entry):
                self._entries_of.setdefault(name, []).append(entry)

    @property
    def deadline(self) -> float:
        """When the wait ends, on the clock of ``sent_at``."""
        return self.sent_at + self.ack_timeout

    def awaits(self, common_name: str) -> bool:
        """Whether *common_name* is named and has not answered yet."""
        return common_name in self._entries_of and common_name not in self.acks

    def refuse(self, common_name: str, reason: str) -> None:
        """Keep why an ACK in the name of an awaited recipient did not count; the first is kept."""
        if self.awaits(common_name):
            self.refused.setdefault(common_name, reason)

    def missing(self) -> List[str]:
        """Return the recipients (names, groups) that have not answered."""
        return list(self._open)

    def confirm(self, common_name: str, now: float) -> bool:
        """Note a genuine ACK of a name that is awaited; return whether that settles the entry."""
        self.acks[common_name] = now - self.sent_at
        for entry in self._entries_of[common_name]:
            self._open.pop(entry, None)
        return not self._open


class Ledger(Generic[E]):
    """The entries that are on their way, found by message id and by deadline.

    Not thread-safe: its owner holds a lock around each call.
    """

    def __init__(self) -> None:
        self._entries: Dict[bytes, E] = {}
        self._deadlines: List[Tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: E) -> None:
        """Start to expect the ACKs of *entry*.

        Raises:
            ConfigurationError: a message of the same id is still on its way.
        """
        key = _acks.escaped(entry.msg_id)
        if key in self._entries:
            raise ConfigurationError("a message with the id %r still waits for its ACKs" % entry.msg_id)
        # The deadline first: without an entry it is nothing, an entry without it would never end.
        heapq.heappush(self._deadlines, (entry.deadline, key))
        self._entries[key] = entry

    def find(self, escaped_id: bytes) -> Optional[E]:
        """Return the entry of an id in its escaped form, see ``_acks.claimed_id``."""
        return self._entries.get(escaped_id)

    def remove(self, entry: E) -> bool:
        """Stop to expect *entry*; False if that has happened already."""
        key = _acks.escaped(entry.msg_id)
        if self._entries.get(key) is not entry:
            return False
        del self._entries[key]
        return True

    def next_deadline(self) -> Optional[float]:
        """Return the earliest deadline of what is still expected, None if nothing is.

        Also drops what has piled up of settled entries: call it now and then, from one thread.
        """
        self._forget_settled()
        return self._deadlines[0][0] if self._deadlines else None

    def expired(self, now: float) -> List[E]:
        """Remove and return the entries whose deadline has passed."""
        late: List[E] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            entry = self._entries.get(key)
            if entry is not None and entry.deadline == deadline:
                del self._entries[key]
                late.append(entry)
        return late

    def clear(self) -> List[E]:
        """Remove and return everything."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._deadlines.clear()
        return entries

    def _forget_settled(self) -> None:
        """Drop the deadlines of settled entries, so that they wake nobody and hold no memory.

        Those at the head go one by one; when most of the heap is stale it is built anew.
        """
        while self._deadlines and self._deadlines[0][1] not in self._entries:
            heapq.heappop(self._deadlines)
        if len(self._deadlines) > 2 * len(self._entries) + 64:
            self._deadlines = [(e.deadline, key) for key, e in self._entries.items()]
            heapq.heapify(self._deadlines)
