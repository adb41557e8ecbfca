"""Messages on their way: their ACKs, deadlines, and the order in which they leave."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..errors import BadFrame, ConfigurationError, Refused
from . import wire
from .presence import NOT_LEFT, Way

#: The reason of an ACK whose digest is another.
DIGEST_DIFFERS = "its digest differs, what it received is not what was sent"

#: ACKs with a foreign digest whose certificate is read, per message: more are a flood.
_QUOTED = 64


class Receipt(NamedTuple):
    """The proof that every required recipient got the message.

    Attributes:
        msg_id (str): the id of the message.
        topic (str): its full topic.
        acks (dict): common name -> seconds from sending to its ACK; of a group, who answered.
    """

    msg_id: str
    topic: str
    acks: dict[str, float]


class Verifier(Protocol):
    """Knows whose signatures count."""

    def signer_of(self, message: Mapping[str, Any], covered: bytes) -> str:
        """Return the common name that signed *message*, or raise Refused."""

    def claimed_name(self, message: Mapping[str, Any]) -> str | None:
        """Return the name on the certificate in *message*, unverified."""


class Entry:
    """One message on its way. Each recipient is a name, or a group of which one member is enough.

    ``parts`` are the frames to be sent, ``way`` the evidence for the diagnosis; ``outcome`` is the caller's.

    Attributes:
        acks (dict): common name -> seconds from sending to its ACK.
        refused (dict): common name -> why an ACK in its name did not count.
        strangers (set): who else signed an ACK for this message.
        altered (int): how many ACKs for this id bore another digest.
        sent_at (float or None): when it left, seconds on the clock of the deadlines.
        left (int): ``Peers.mark`` when it left, NOT_LEFT before.
        abandoned (bool): the caller has gone; what has not left by then must not leave.
    """

    __slots__ = (
        "_entries_of", "_open", "abandoned", "ack_timeout", "acks", "altered", "digest", "key", "left", "msg_id",
        "outcome", "parts", "recipients", "refused", "sent_at", "strangers", "topic", "verifier", "way",
    )

    def __init__(
        self, msg_id: str, topic: str, digest: str, parts: Sequence[bytes], recipients: Iterable[str],
        ack_timeout: float, verifier: Verifier, way: Way, outcome: Any = None,
    ) -> None:
        self.msg_id, self.topic, self.digest, self.parts = msg_id, topic, digest, parts
        self.recipients, self.ack_timeout = tuple(recipients), ack_timeout
        self.verifier, self.way, self.outcome = verifier, way, outcome
        self.acks: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        self.strangers: set[str] = set()
        self.altered = 0
        self.sent_at: float | None = None
        self.left = NOT_LEFT
        self.abandoned = False
        #: As it stands in the bytes of an ACK.
        self.key = wire.escaped(msg_id)
        #: What is still open, in the caller's order.
        self._open: dict[str, None] = dict.fromkeys(self.recipients)
        self._entries_of: dict[str, list[str]] = {}
        for entry in self.recipients:
            for name in wire.members(entry):
                self._entries_of.setdefault(name, []).append(entry)

    @property
    def deadline(self) -> float:
        """When the wait ends, on the clock of ``sent_at``; only once it has left."""
        assert self.sent_at is not None
        return self.sent_at + self.ack_timeout

    def awaits(self, common_name: str) -> bool:
        """Return whether *common_name* is named and has not answered yet."""
        return common_name in self._entries_of and common_name not in self.acks

    def refuse(self, common_name: str, reason: str) -> None:
        """Keep why an ACK in the name of an awaited recipient did not count; the first is kept."""
        if self.awaits(common_name):
            self.refused.setdefault(common_name, reason)

    def missing(self) -> list[str]:
        """Return the recipients (names, groups) that have not answered."""
        return list(self._open)

    def confirm(self, common_name: str, now: float) -> bool:
        """Note a genuine ACK of a name that is awaited; return whether that settles the entry."""
        assert self.sent_at is not None
        self.acks[common_name] = now - self.sent_at
        for entry in self._entries_of[common_name]:
            self._open.pop(entry, None)
        return not self._open


E = TypeVar("E", bound=Entry)


class Delivery(Generic[E]):
    """The messages whose ACKs one listener awaits; for one thread.

    An ACK counts for the message whose id it names, if its digest is that of what was sent, its signature is right,
    and its signer is awaited. The cheap checks come first, so that a flood of foreign ACKs costs nothing. What falls
    short is kept for the diagnosis, where it says something about a recipient; it never counts.
    """

    __slots__ = ("_deadlines", "_entries", "_topic")

    def __init__(self, ack_topic: str) -> None:
        self._topic = ack_topic.encode("utf-8")
        self._entries: dict[bytes, E] = {}
        self._deadlines: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def expect(self, entry: E, now: float) -> None:
        """Wait for the ACKs of *entry*, which leaves *now*; ConfigurationError if that id is on its way already."""
        if entry.key in self._entries:
            raise ConfigurationError(f"a message with the id {entry.msg_id!r} still waits for its ACKs")
        entry.sent_at = now
        self._entries[entry.key] = entry
        heapq.heappush(self._deadlines, (now + entry.ack_timeout, entry.key))

    def forget(self, entry: E) -> bool:
        """Stop to wait for *entry*; False if that has happened already."""
        if self._entries.get(entry.key) is not entry:
            return False
        del self._entries[entry.key]
        return True

    def frame(self, parts: Sequence[bytes], now: float) -> E | None:
        """Take in what came; forget and return the entry that it settles, if any. BadFrame: it is no ACK at all."""
        if len(parts) != 2 or parts[0] != self._topic:
            return None  # an announcement's topic, or a longer one that begins like ours
        if len(parts[1]) > wire.LARGEST_ACK:
            raise BadFrame(f"{len(parts[1])} bytes are too many for an ACK")
        claimed = wire.claimed_id(parts[1])
        entry = self._entries.get(claimed) if claimed is not None else None
        if entry is None:
            return None
        received = wire.Received.of(parts)
        ack = wire.parse_ack(received.message)
        if received.message.get("topic") != received.topic or ack.msg_id != entry.msg_id:
            raise BadFrame("its signed topic or id differs from what it was sent under")
        if ack.digest is not None and ack.digest != entry.digest:
            _refuse_digest(entry, received)
            return None
        signer = _signer(entry, received)
        if signer is None or not entry.confirm(signer, now):
            return None
        del self._entries[entry.key]
        return entry

    def expired(self, now: float) -> list[E]:
        """Forget and return the entries whose deadline has passed."""
        late: list[E] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            entry = self._entries.get(key)
            if entry is not None and entry.deadline == deadline:
                del self._entries[key]
                late.append(entry)
        return late

    def next_due(self) -> float | None:
        """Return the earliest deadline, None if nothing is awaited.

        Deadlines of what is settled wake nobody and hold no memory: those at the head are dropped one by one, and
        when most of the heap is stale it is built anew.
        """
        while self._deadlines and self._deadlines[0][1] not in self._entries:
            heapq.heappop(self._deadlines)
        if len(self._deadlines) > 2 * len(self._entries) + 64:
            self._deadlines = [(entry.deadline, key) for key, entry in self._entries.items()]
            heapq.heapify(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def clear(self) -> list[E]:
        """Forget and return everything."""
        entries = list(self._entries.values())
        self._entries.clear()
        self._deadlines.clear()
        return entries


def _refuse_digest(entry: Entry, received: wire.Received) -> None:
    """Keep who seems to have received something else; not worth a signature check."""
    entry.altered += 1
    claimed = entry.verifier.claimed_name(received.message) if entry.altered <= _QUOTED else None
    if claimed is not None:
        entry.refuse(claimed, DIGEST_DIFFERS)


def _signer(entry: Entry, received: wire.Received) -> str | None:
    """Return the signer if its ACK is awaited, else keep what is to be said of it and return None."""
    try:
        signer = entry.verifier.signer_of(received.message, received.covered)
    except Refused as refusal:
        if refusal.claimed is not None:
            entry.refuse(refusal.claimed, refusal.reason)
        return None
    if entry.awaits(signer):
        return signer
    if signer not in entry.acks:
        entry.strangers.add(signer)
    return None


class Leaving(Protocol):
    """What waits to leave at a socket: until when at most, and whether its caller has gone."""

    until: float
    abandoned: bool

    def ready(self) -> bool:
        """Return whether it may leave now."""


L = TypeVar("L", bound=Leaving)


class Lines(Generic[L]):
    """What waits to leave at one publishing socket, in each thread's order; for one thread."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[L]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def submit(self, thread: Hashable | None, item: L) -> None:
        """Put *item* behind what *thread* still holds here; None has a line of its own for each item."""
        self._lines.setdefault(object() if thread is None else thread, deque()).append(item)

    def ripe(self, now: float) -> list[L]:
        """Remove and return, in order, what is ready, due or abandoned, and has nothing before it that is not."""
        ripe: list[L] = []
        for key, line in list(self._lines.items()):
            while line and (line[0].until <= now or line[0].abandoned or line[0].ready()):
                ripe.append(line.popleft())
            if not line:
                del self._lines[key]
        return ripe

    def next_due(self) -> float | None:
        """Return when the next item is due, None if none waits."""
        return min((line[0].until for line in self._lines.values()), default=None)

    def clear(self) -> list[L]:
        """Remove and return everything."""
        items = [item for line in self._lines.values() for item in line]
        self._lines.clear()
        return items
