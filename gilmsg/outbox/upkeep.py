"""Duties of a deliverer beside delivering: old rows go, the rows that wait are counted, no lock is waited for for ever."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, literal_column, select, text

from .. import _engine
from .database import Database
from .schema import Tables

#: Rows that are looked at, or changed, at a time: what else writes has its turn in between.
BATCH = 500

#: How long a transaction waits for a row that somebody else holds: PostgreSQL would wait for ever.
_PATIENCE = text("SET LOCAL lock_timeout = '10s'")


def limit_waiting(connection: Connection) -> None:
    """Let the transaction fail that waits for long for somebody else's row; on SQLite the connection sees to that."""
    if connection.dialect.name != "sqlite":
        connection.execute(_PATIENCE)


def tell(box: Database) -> None:
    """Have ``gilmsg.metrics`` know how many rows wait, now and then: who reads that must not wait for the database."""
    if _engine.counting.tally is not None:
        _engine.counting.tally.look_at(box.origin, lambda: standing(box))


def tell_no_more(box: Database) -> None:
    """Have ``gilmsg.metrics`` forget it."""
    if _engine.counting.tally is not None:
        _engine.counting.tally.outboxes.pop(box.origin, None)


def standing(box: Database) -> tuple[int, float]:
    """Return how many rows wait, and for how many seconds the oldest has done so."""
    one = box.tables.messages.c
    waits = one.state == literal_column("'waiting'")  # as the index has it
    with box.transaction(reads=True) as connection:
        count, first = connection.execute(select(func.count(), func.min(one.created)).where(waits)).one()
        return count, 0.0 if first is None else max(0.0, box.now(connection) - first)


def sweep(connection: Connection, tables: Tables, state: str, before: float) -> int:
    """Delete a batch of messages that ended in *state* *before*; return how many. Who gets fewer than BATCH has all."""
    one = tables.messages.c
    query = select(one.id).where(one.state == state, one.ended <= before).order_by(one.ended).limit(BATCH)
    ids = connection.execute(query.with_for_update(skip_locked=True)).scalars().all()
    remove(connection, tables, state, ids)
    return len(ids)


def remove(connection: Connection, tables: Tables, state: str, ids: Sequence[int]) -> None:
    """Delete those of *ids* that are in *state*, and what belongs to them: SQLite does not do that by itself."""
    messages, recipients, acks = tables.messages, tables.recipients, tables.acks
    ended = (messages.c.id.in_(ids), messages.c.state == state)
    connection.execute(delete(acks).where(acks.c.msg_id.in_(select(messages.c.msg_id).where(*ended))))
    connection.execute(delete(recipients).where(recipients.c.message.in_(select(messages.c.id).where(*ended))))
    connection.execute(delete(messages).where(*ended))
