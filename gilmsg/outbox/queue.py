"""The messages of an outbox as its operators see them: one, a list, counts; retry, drop, purge. Needs the database only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, literal_column, select, update

from ..errors import ConfigurationError, Reason
from .database import Database, require_age
from .rows import BATCH, sweep
from .schema import DELIVERED, FAILED, WAITING, storable

_STATES = (WAITING, DELIVERED, FAILED)


class OutboxMessage(NamedTuple):
    """A message in an outbox, as it stands. All times are seconds since the epoch.

    Attributes:
        msg_id (str): its id, the same on the wire.
        topic (str): its full topic.
        state (str): ``"waiting"``, ``"delivered"`` or ``"failed"``.
        under_way (bool): whether a deliverer has it in hand at this moment, as far as is known.
        created (float): when it was put.
        attempts (int): how often it was sent.
        next_attempt (float): when it is due; None once it has ended.
        acks (dict): common name -> when its ACK came.
        missing (dict): recipient (or group, ``"a,b"``) that has not confirmed -> a :class:`gilmsg.Reason`, what was seen
            of it in the last attempt. Its code is ``"untried"`` if there was none.
        recipients (tuple): all recipients, in the order of the marker.
        most_attempts (int): it fails after so many attempts; None: never.
        expires_at (float): when it fails; None: never.
        ended (float): when it was delivered or failed; None before.
        reason (str): why it failed; None if it has not.
        body (str): the unsigned message, as JSON; None in a list.
    """

    msg_id: str
    topic: str
    state: str
    under_way: bool
    created: float
    attempts: int
    next_attempt: float | None
    acks: Mapping[str, float]
    missing: Mapping[str, Reason]
    recipients: tuple[str, ...]
    most_attempts: int | None
    expires_at: float | None
    ended: float | None
    reason: str | None
    body: str | None = None


class Queue(Database):
    """What can be asked of the messages in an outbox, and done with them; deliverers may run meanwhile."""

    def get(self, msg_id: str) -> OutboxMessage | None:
        """Return the message of that id, with its body; None if there is none, or it was purged."""
        if not storable(msg_id):
            return None
        with self.transaction(reads=True) as connection:
            found = self._read(connection, self.tables.messages.c.msg_id == msg_id, with_body=True)
        return found[0][1] if found else None

    def list(self, *states: str) -> Iterator[OutboxMessage]:
        """Yield the messages in these *states*, oldest first, without bodies; by default those that wait.

        Read in batches, each in a short transaction of its own: 100,000 messages take no memory and hold up nobody.
        """
        wanted = states or (WAITING,)
        for state in wanted:
            if state not in _STATES:
                raise ConfigurationError(f"there is no state {state!r} of a message; these are: {', '.join(_STATES)}")
        return self._batches(wanted)

    def _batches(self, states: Sequence[str]) -> Iterator[OutboxMessage]:
        messages, last = self.tables.messages, 0
        while True:
            with self.transaction(reads=True) as connection:
                found = self._read(connection, messages.c.state.in_(states) & (messages.c.id > last))
            yield from (message for _, message in found)
            if len(found) < BATCH:
                return
            last = found[-1][0]

    def counts(self) -> dict[str, int]:
        """Return how many messages are in each state."""
        one = self.tables.messages.c
        waiting = select(func.count()).where(one.state == literal_column("'waiting'"))  # as the index has it
        with self.transaction(reads=True) as connection:
            found = connection.execute(select(one.state, func.count()).where(one.ended.is_not(None)).group_by(one.state))
            ended = {name: count for name, count in found}
            return {**dict.fromkeys(_STATES, 0), **ended, WAITING: connection.execute(waiting).scalar_one()}

    def retry(self, msg_ids: str | Iterable[str]) -> tuple[str, ...]:
        """Let failed messages wait again, due at once, their attempts counted anew; they expire no more.

        Args:
            msg_ids: one id, or any iterable of ids.

        Returns:
            tuple: the ids of those that had failed; of others nothing is changed.
        """
        anew = {"state": WAITING, "attempts": 0, "most_attempts": None, "expires_at": None, "ended": None, "reason": None}
        return self._change(msg_ids, FAILED, anew, "due")

    def drop(self, msg_ids: str | Iterable[str]) -> tuple[str, ...]:
        """Give up waiting messages: they count as failed, with the reason "dropped". An attempt under way may still arrive.

        Takes and returns what :meth:`retry` does; the ids are of those that waited.
        """
        return self._change(msg_ids, WAITING, {"state": FAILED, "reason": "dropped", "lease": None, "leased_until": None}, "ended")

    def _change(self, msg_ids: str | Iterable[str], state: str, values: Mapping[str, Any], stamp: str) -> tuple[str, ...]:
        """Change those of *msg_ids* that are in *state*; *stamp* is the column that gets the time. Return their ids."""
        ids = tuple(filter(storable, dict.fromkeys([msg_ids] if isinstance(msg_ids, str) else msg_ids)))
        messages, changed = self.tables.messages, ids[:0]
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            theirs = messages.c.msg_id.in_(batch) & (messages.c.state == state)
            with self.transaction() as connection:
                found = connection.scalars(select(messages.c.msg_id).where(theirs).order_by(messages.c.id).with_for_update())
                now, there = self.now(connection), found.all()
                connection.execute(update(messages).where(messages.c.msg_id.in_(there)).values({**values, stamp: now}))
            changed += tuple(there)
        return changed

    def purge(self, state: str = FAILED, older: float = 0.0) -> int:
        """Remove messages for good that ended more than *older* seconds ago, in batches; return how many.

        Args:
            state (str): ``"failed"``, or ``"delivered"``, which a deliverer removes after ``gilmsg.outbox.keep``.
            older (float): seconds.
        """
        if state not in (DELIVERED, FAILED):
            raise ConfigurationError(f"only delivered and failed messages can be purged, not {state!r}; drop those that wait")
        require_age(older, "seconds")
        removed, batch = 0, BATCH
        while batch == BATCH:
            with self.transaction() as connection:
                batch = sweep(connection, state, self.now(connection) - older)
            removed += batch
        return removed

    def _read(
        self, connection: Connection, which: ColumnElement[bool], with_body: bool = False
    ) -> Sequence[tuple[int, OutboxMessage]]:
        """Return (row id, message) of at most a batch of messages."""
        messages, recipients, acks = self.tables.messages, self.tables.recipients, self.tables.acks
        columns = [column for column in messages.c if with_body or column is not messages.c.body]
        rows = connection.execute(select(*columns).where(which).order_by(messages.c.id).limit(BATCH)).all()
        now = self.now(connection)
        named = select(recipients).where(recipients.c.message.in_([row.id for row in rows])).order_by(recipients.c.place)
        entries: dict[int, dict[str, Any]] = {}
        for entry in connection.execute(named):
            entries.setdefault(entry.message, {})[entry.entry] = entry
        came: dict[str, dict[str, float]] = {}
        for ack in connection.execute(select(acks).where(acks.c.msg_id.in_([row.msg_id for row in rows]))):
            came.setdefault(ack.msg_id, {})[ack.signer] = ack.at
        return [(row.id, _message(row, entries.get(row.id, {}), came.get(row.msg_id, {}), now)) for row in rows]


def _message(row: Any, entries: Mapping[str, Any], acks: Mapping[str, float], now: float) -> OutboxMessage:
    waits = row.state == WAITING
    return OutboxMessage(
        msg_id=row.msg_id, topic=row.topic, state=row.state, created=row.created, attempts=row.attempts,
        under_way=waits and row.lease is not None and row.leased_until > now, next_attempt=row.due if waits else None,
        acks=acks, missing={name: _reason(entry, row.attempts) for name, entry in entries.items() if entry.met is None},
        recipients=tuple(entries), most_attempts=row.most_attempts, expires_at=row.expires_at, ended=row.ended,
        reason=row.reason, body=row._mapping.get("body"),
    )  # fmt: skip


def _reason(entry: Any, attempts: int) -> Reason:
    if entry.code is None:
        return Reason("it was not sent yet", "untried", False) if not attempts else Reason("nothing is known", "silent")
    return Reason(entry.reason, entry.code)
