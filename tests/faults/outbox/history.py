"""The checker: is what became of the messages in an outbox allowed by its promise? Pure functions over a history.

It looks when all faults are mended and the outbox has had its time. A history is what publishers *put*, what the outbox
has *stored* of it in the end, what recipients were *handed* (noted before they acknowledged), what the handlers with an
inbox have *done* in their databases, and the keys of the application's own rows, *work*. Each message carries a key.

1. What was committed is stored as delivered, and every recipient that it names (of a group: a member) was handed it.
   What was rolled back is nowhere. A transaction whose publisher did not learn its end is one or the other, and whole:
   the application's own row says which, where there is one. What may expire or was dropped may fail instead, and its
   recipients may have nothing; what was delivered may be swept, where the outbox keeps it for a short time only.
2. Nothing is left waiting or leased, and nothing else has failed.
3. Each message has one id and one digest, with everybody; nobody was handed what he is not named in, or nobody has put.
4. An ACK that is stored is of somebody who was handed the message.
5. Each handler with an inbox has one row of each message that it was handed, and no two of any.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

#: The outcomes of a transaction. "open": its publisher was killed, or the database failed, at the commit.
COMMITTED, ROLLED_BACK, OPEN = "committed", "rolled back", "open"


class Put(NamedTuple):
    """One message that was put."""

    key: str
    recipients: tuple[str, ...]
    outcome: str = COMMITTED
    #: Empty: its publisher was killed before it was told.
    msg_id: str = ""
    #: Whether its transaction has a row of the application's, too.
    works: bool = True
    #: Whether it expires, or somebody has tried to drop it.
    may_fail: bool = False


class Stored(NamedTuple):
    """A message in the outbox, in the end."""

    key: str
    msg_id: str
    digest: str
    state: str = "delivered"
    leased: bool = False
    acks: tuple[str, ...] = ()


class Handed(NamedTuple):
    """A message that a recipient's own code was given, each time that it was."""

    recipient: str
    key: str
    msg_id: str
    digest: str


class Done(NamedTuple):
    """A row of a handler with an inbox."""

    recipient: str
    msg_id: str


class History(NamedTuple):
    """All that is known; *inboxes* are the recipients that have one; *sweeps*: delivered messages do not stay for long."""

    put: list[Put]
    stored: list[Stored]
    handed: list[Handed]
    done: list[Done]
    work: list[str]
    inboxes: tuple[str, ...] = ()
    sweeps: bool = False


def check(history: History) -> tuple[dict[str, int], list[str]]:
    """Return figures, and every violation in words."""
    checker = _Checker(history)
    return checker.figures(), list(checker.violations())


class _Checker:
    def __init__(self, history):
        self._history = history
        self._put = {one.key: one for one in history.put}
        self._stored = {one.key: one for one in history.stored}
        self._work = set(history.work)
        #: Key -> who was handed it.
        self._holders = defaultdict(set)
        for one in history.handed:
            self._holders[one.key].add(one.recipient)

    def figures(self):
        history = self._history
        found = Counter(f"put: {one.outcome}" for one in history.put)
        found["put: open, and committed"] = sum(
            one.outcome == OPEN and one.key in self._stored for one in history.put
        )
        found["failed"] = sum(one.state == "failed" for one in history.stored)
        found["swept"] = sum(one.key not in self._stored and self._is_there(one) for one in history.put)
        found["handed over"] = len(history.handed)
        found["handed over again"] = len(history.handed) - len({(one.recipient, one.key) for one in history.handed})
        found["rows of handlers"] = len(history.done)
        return dict(found)

    def violations(self):
        for one in self._history.put:
            yield from (f"{problem}: {one}" for problem in self._whole(one))
        for one in self._history.stored:
            yield from (f"{problem}: {one}" for problem in self._ended(one))
        yield from self._identities()
        yield from self._handlers()

    def _is_there(self, put):
        """Whether it is in the outbox, or must have been."""
        if put.key in self._stored:
            return True
        seen = put.key in self._work or (put.outcome == OPEN and self._holders[put.key])
        return self._history.sweeps and (put.outcome == COMMITTED or bool(seen and put.outcome == OPEN))

    def _whole(self, put):
        """Rule 1."""
        stored, works = self._is_there(put), put.key in self._work
        if put.works and stored != works:
            yield "NOT ATOMIC, of message and application's row only one is there"
        if put.outcome == COMMITTED and not stored:
            yield "LOST, committed and not in the outbox"
        if put.outcome == ROLLED_BACK and stored:
            yield "rolled back, and in the outbox"
        if put.outcome == ROLLED_BACK and put.works and works:
            yield "rolled back, and the application's row is there"
        if put.may_fail and put.key in self._stored and self._stored[put.key].state == "failed":
            return
        if stored or put.outcome == COMMITTED:
            for entry in put.recipients:
                if not self._holders[put.key].intersection(entry.split(",")):
                    yield f"LOST, never handed to {entry}"
        elif self._holders[put.key]:
            yield f"never committed, and handed to {', '.join(sorted(self._holders[put.key]))}"

    def _ended(self, stored):
        """Rules 2 and 4."""
        put = self._put.get(stored.key)
        if stored.state != "delivered" and not (stored.state == "failed" and put is not None and put.may_fail):
            yield f"left {stored.state}"
        if stored.leased:
            yield "left leased"
        for signer in stored.acks:
            if signer not in self._holders[stored.key]:
                yield f"FALSE POSITIVE, an ACK of {signer}, who was not handed it"

    def _identities(self):
        """Rule 3."""
        ids, keys = defaultdict(set), defaultdict(set)
        for one in self._history.stored + self._history.handed:
            ids[one.key].add((one.msg_id, one.digest))
            keys[one.msg_id].add(one.key)
        for put in self._history.put:
            if put.msg_id and put.key in ids:
                told = {msg_id for msg_id, _ in ids[put.key]}
                if told != {put.msg_id}:
                    yield f"its publisher was told another id: {put}: {sorted(told)}"
        for key, found in ids.items():
            if key not in self._put:
                yield f"{key} is there, and nobody has put it"
            if len(found) > 1:
                yield f"{key} has more than one id or digest: {sorted(found)}"
        yield from (f"{msg_id} stands for several: {sorted(found)}" for msg_id, found in keys.items() if len(found) > 1)
        counts = Counter(one.key for one in self._history.stored)
        yield from (f"{key} is stored {count} times" for key, count in counts.items() if count > 1)
        for key, holders in self._holders.items():
            named = {name for entry in self._put[key].recipients for name in entry.split(",")} if key in self._put else holders
            yield from (f"{key} was handed to {name}, who is not named" for name in sorted(holders - named))

    def _handlers(self):
        """Rule 5."""
        counts = Counter((one.recipient, one.msg_id) for one in self._history.done)
        there = {one.key for one in self._history.put if self._is_there(one)}
        committed = {one.msg_id for one in self._history.stored}
        committed |= {one.msg_id for one in (*self._history.put, *self._history.handed) if one.key in there}
        for (name, msg_id), count in counts.items():
            if count > 1:
                yield f"NOT ONCE, {name} has handled {msg_id} {count} times"
            if msg_id not in committed:
                yield f"{name} has handled {msg_id}, which is not in the outbox"
        for name, msg_id in sorted({(one.recipient, one.msg_id) for one in self._history.handed}):
            if name in self._history.inboxes and not counts[name, msg_id]:
                yield f"LOST, {name} was handed {msg_id} and has no row of it"
