"""Messages on their way: their ACKs and deadlines."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Generic, Protocol, TypeVar

from ..errors import BadFrame, ConfigurationError, Refused
from . import wire
from .presence import NOT_LEFT, Way

#: The reason of an ACK whose digest is another.
DIGEST_DIFFERS = "its digest differs, what it received is not what was sent"

#: Seconds for which a recipient must be unable to answer, until ``fail_fast`` ends the wait, and between two looks.
_SURE, _LOOK_AGAIN = 1.0, 0.2

#: More messages than this that are on their way are many.
_MANY = 4

#: NACKs of one consumer in a second.
_NACKS = 5

#: ACKs with a foreign digest whose certificate is read, per message: more are a flood.
_QUOTED = 64

#: Entries, at most, whose ACKs count though their wait has ended: each takes a kilobyte or more, its owner's share included.
_MOST_LATE = 10_000


class Verifier(Protocol):
    """Knows whose signatures count (or raises Refused), and whose they claim to be."""

    def signer_of(self, message: Mapping[str, Any], covered: bytes) -> str: ...
    def claimed_name(self, message: Mapping[str, Any]) -> str | None: ...


class Entry:
    """One message on its way. Each recipient is a name, or a group of which one member is enough.

    ``parts`` are the frames to be sent, ``way`` the evidence for the diagnosis; ``outcome`` is the caller's. *unsigned*
    is a message without a signature where the publisher itself would drop one. With ``fail_fast`` the wait ends once
    a recipient cannot answer any more. An *urgent* one has a thread that waits for its end. Those of the recipients that are
    *met* are named by the message, and not waited for. *heard* is called with each signer whose ACK counts; with it they
    count after the wait, too, until the next attempt.
    """

    def __init__(
        self, msg_id: str, topic: str, digest: str, parts: Sequence[bytes], recipients: Iterable[str],
        ack_timeout: float, verifier: Verifier, way: Way, outcome: Any = None, unsigned: bool = False,
        fail_fast: bool = False, urgent: bool = True, met: Iterable[str] = (), heard: Callable[[str], None] | None = None,
    ) -> None:
        self.msg_id, self.topic, self.digest, self.parts = msg_id, topic, digest, parts
        self.recipients, self.ack_timeout = tuple(recipients), ack_timeout
        self.verifier, self.way, self.outcome = verifier, way, outcome
        self.unsigned, self.fail_fast, self.urgent, self.heard = unsigned, fail_fast, urgent, heard
        #: Common name -> seconds from sending to its ACK; common name -> why an ACK in its name did not count.
        self.acks: dict[str, float] = {}
        self.refused: dict[str, str] = {}
        #: Common name -> the code of its verified NACK, and when that came.
        self.nacked: dict[str, tuple[str, float]] = {}
        #: Who else signed an ACK for this message, and how many ACKs for its id bore another digest.
        self.strangers: set[str] = set()
        self.altered = 0
        #: When it left and when the wait ends, by the caller's clock; ``Peers.mark`` when it left.
        self.sent_at = self.deadline = 0.0
        self.left = NOT_LEFT
        #: Seconds from sending to the end of the wait, if no ACK ends it.
        self.waited = ack_timeout
        #: Whether the caller has gone: what has not left by then must not leave.
        self.abandoned = False
        self.key = wire.escaped(msg_id)
        self._open: dict[str, None] = dict.fromkeys(self.recipients)
        for entry in met:
            del self._open[entry]
        #: Common name -> the mark at which it left, and since when it is seen to be gone.
        self._gone: dict[str, tuple[int, float]] = {}
        self._entries_of: dict[str, list[str]] = {}
        for entry in self.recipients:
            for name in wire.members(entry):
                self._entries_of.setdefault(name, []).append(entry)

    def missing(self) -> list[str]:
        """Return the recipients (names, groups) that have not answered."""
        return list(self._open)

    def confirm(self, received: wire.Received, digest: str | None, now: float) -> bool:
        """Take in an ACK for this message that states *digest*; return whether that settles it.

        One that does not count is kept where it says something of a recipient that has not answered; the first is.
        """
        if digest is not None and digest != self.digest:  # not worth a signature check
            self.altered += 1
            if self.altered <= _QUOTED:
                self._refuse(self.verifier.claimed_name(received.message), DIGEST_DIFFERS)
            return False
        try:
            signer = self.verifier.signer_of(received.message, received.covered)
        except Refused as refusal:
            self._refuse(refusal.claimed, refusal.reason)
            return False
        if signer in self.acks:
            return False
        if signer not in self._entries_of:
            self.strangers.add(signer)
            return False
        self.acks[signer] = now - self.sent_at
        for entry in self._entries_of[signer]:
            self._open.pop(entry, None)
        if self.heard is not None:
            self.heard(signer)
        return not self._open

    def deny(self, received: wire.Received, digest: str | None, reason: str, now: float) -> None:
        """Take in a NACK for this message: it settles nothing, and is forgotten over an ACK. The first of each counts."""
        if digest != self.digest:
            return
        try:
            signer = self.verifier.signer_of(received.message, received.covered)
        except Refused:
            return
        if signer in self._entries_of:
            self.nacked.setdefault(signer, (reason, now))

    def is_hopeless(self, now: float) -> bool:
        """Return whether a recipient (of a group, each member) cannot answer any more. Ask again and again.

        It has to be so for a second on end: who comes back is not gone, and an ACK may be on its way. A NACK may have
        been brought about by a stranger, who sent the message again and spoilt its signature.
        """
        for name in self._entries_of:
            left = self.way.gone(name)
            if left is None:
                self._gone.pop(name, None)
            elif self._gone.get(name, (0,))[0] != left:
                self._gone[name] = left, now
        told = [*self._gone.items(), *self.nacked.items()]
        lost = {name for name, (_, since) in told if now - since >= _SURE}
        return any(lost.issuperset(wire.members(entry)) for entry in self._open)

    def _refuse(self, claimed: str | None, reason: str) -> None:
        if claimed in self._entries_of and claimed not in self.acks:
            self.refused.setdefault(claimed, reason)


class Late:
    """An entry whose wait has ended: what its further ACKs are checked by, and no more, for there may be many."""

    __slots__ = ("digest", "heard", "msg_id", "names", "verifier")

    def __init__(self, entry: Entry, heard: Callable[[str], None]) -> None:
        self.msg_id, self.digest, self.verifier, self.heard = entry.msg_id, entry.digest, entry.verifier, heard
        self.names = tuple(name for name in entry._entries_of if name not in entry.acks)

    def confirm(self, received: wire.Received, digest: str | None) -> bool:
        """Take in an ACK that states *digest*; return whether no other one can come."""
        if digest is not None and digest != self.digest:
            return False
        try:
            signer = self.verifier.signer_of(received.message, received.covered)
        except Refused:
            return False
        if signer in self.names:
            self.names = tuple(name for name in self.names if name != signer)
            self.heard(signer)
        return not self.names


E = TypeVar("E", bound=Entry)


class Delivery(Generic[E]):
    """The messages whose ACKs one listener awaits, for one thread. The cheap checks of an ACK, or NACK, come first."""

    def __init__(self, ack_topic: str) -> None:
        self._topic, self._nack_topic = ack_topic.encode("utf-8"), wire.nack_topic(ack_topic).encode("utf-8")
        self._entries: dict[bytes, E] = {}
        #: Those whose wait has ended, and whose ACKs still are to be heard; the oldest first.
        self._late: dict[bytes, Late] = {}
        #: Of what is settled, too: see :meth:`next_due`.
        self._deadlines: list[tuple[float, bytes]] = []
        #: When those that ``fail_fast`` are looked at next.
        self._look_at = math.inf
        self._urgent = 0

    @property
    def patient(self) -> bool:
        """Whether many messages are on their way, and no thread waits for any of them."""
        return len(self._entries) > _MANY and not self._urgent

    @property
    def outstanding(self) -> int:
        """How many messages are on their way."""
        return len(self._entries)

    def expect(self, entry: E, now: float) -> None:
        """Wait for the ACKs of *entry*, which leaves *now*; ConfigurationError if that id is on its way already."""
        if entry.key in self._entries:
            raise ConfigurationError(f"a message with the id {entry.msg_id!r} still waits for its ACKs")
        entry.sent_at, entry.deadline = now, now + entry.ack_timeout
        self._entries[entry.key] = entry
        self._urgent += entry.urgent
        self._late.pop(entry.key, None)
        if entry.fail_fast:
            self._look_at = min(self._look_at, now + _LOOK_AGAIN)
        heapq.heappush(self._deadlines, (entry.deadline, entry.key))

    def forget(self, entry: E) -> None:
        """Stop to wait for *entry*, if that has not happened already."""
        if self._entries.get(entry.key) is entry:
            self._drop(entry)

    def _drop(self, entry: E) -> None:
        del self._entries[entry.key]
        self._urgent -= entry.urgent

    def frame(self, parts: Sequence[bytes], now: float) -> E | None:
        """Take in what came; forget and return the entry that it settles, if any. BadFrame: it is no answer at all."""
        if len(parts) != 2 or (parts[0] != self._topic and parts[0] != self._nack_topic):
            return None  # an announcement's topic, or a longer one that begins like ours
        if len(parts[1]) > wire.LARGEST_ACK:
            raise BadFrame(f"{len(parts[1])} bytes are too many for an ACK")
        claimed = wire.claimed_id(parts[1])
        entry = None if claimed is None else self._entries.get(claimed) or self._late.get(claimed)
        if claimed is None or entry is None:
            return None
        received = wire.Received.of(parts)
        msg_id, digest = wire.parse_ack(received.message)
        if received.message.get("topic") != received.topic or msg_id != entry.msg_id:
            raise BadFrame("its signed topic or id differs from what it was sent under")
        if isinstance(entry, Late):
            if parts[0] == self._topic and entry.confirm(received, digest):
                del self._late[claimed]
        elif parts[0] == self._nack_topic:
            entry.deny(received, digest, wire.nack_reason(received.message), now)
        elif entry.confirm(received, digest, now):
            self._drop(entry)
            return entry
        return None

    def expired(self, now: float) -> list[E]:
        """Forget and return the entries whose deadline has passed, or whose wait is in vain."""
        late: list[E] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            entry = self._entries.get(key)
            if entry is not None and entry.deadline == deadline:
                self._drop(entry)
                late.append(entry)
                if entry.heard is not None:
                    self._late[entry.key] = Late(entry, entry.heard)
                    if len(self._late) > _MOST_LATE:
                        del self._late[next(iter(self._late))]
        return late if now < self._look_at else late + self._hopeless(now)

    def _hopeless(self, now: float) -> list[E]:
        hasty = [entry for entry in self._entries.values() if entry.fail_fast]
        hopeless = [entry for entry in hasty if entry.is_hopeless(now)]
        for entry in hopeless:
            entry.waited = round(now - entry.sent_at, 2)
            self._drop(entry)
        self._look_at = now + _LOOK_AGAIN if hasty else math.inf
        return hopeless

    def next_due(self) -> float | None:
        """Return when :meth:`expired` has something to look at next, None if nothing is awaited.

        Deadlines of what is settled wake nobody and hold no memory: those at the head are dropped one by one, and
        when most of the heap is stale it is built anew.
        """
        while self._deadlines and self._deadlines[0][1] not in self._entries:
            heapq.heappop(self._deadlines)
        if len(self._deadlines) > 2 * len(self._entries) + 64:
            self._deadlines = sorted((entry.deadline, key) for key, entry in self._entries.items())
        return min(self._deadlines[0][0], self._look_at) if self._deadlines else None

    def clear(self) -> list[E]:
        """Forget and return everything."""
        entries, self._entries, self._late = list(self._entries.values()), {}, {}
        self._deadlines, self._urgent = [], 0
        return entries


class NackLimit:
    """The NACKs that a consumer may send: one a second to each listener, and few in all, for strangers can ask for them."""

    def __init__(self) -> None:
        self._allowed: list[tuple[float, str]] = []

    def allows(self, origin: str, now: float) -> bool:
        """Return, and take into account, whether one may leave now to the listener *origin*."""
        self._allowed = [one for one in self._allowed if now - one[0] < 1.0]
        allowed = len(self._allowed) < _NACKS and all(one != origin for _, one in self._allowed)
        if allowed:
            self._allowed.append((now, origin))
        return allowed
