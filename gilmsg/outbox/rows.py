"""Statements of a deliverer: whose turn it is, leases, and what is stored of attempts. Their callers begin the transactions.

Those of a message that is confirmed are built once: SQLAlchemy takes longer to build one, and to see that it knows it, than the
database to execute it.
The state stands in them as a literal, never as a parameter: the partial index would not be used.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Float,
    Integer,
    LargeBinary,
    Text,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from .schema import DELIVERED, Tables
from .upkeep import BATCH, remove


class Turn(NamedTuple):
    """Recipients that have not confirmed rows which wait (see ``schema.turn_of``); when the first of these is due, and the last."""

    whose: str
    first: float
    last: float


class Row(NamedTuple):
    """A row that is due. Its texts come as bytes: whatever is wrong with them must not hold up the others."""

    id: int
    body: bytes
    msg_id: bytes
    attempts: int
    most_attempts: int | None
    expires_at: float | None
    #: Its recipients in order, and those of them that have confirmed.
    entries: tuple[str, ...]
    met: frozenset[str]


class Rows:
    """The statements, for one dialect."""

    def __init__(self, tables: Tables, dialect: str) -> None:
        self._tables, self._dialect = tables, dialect
        one = tables.messages.c
        self._waits = one.state == literal_column("'waiting'")
        self._own = and_(one.id == bindparam("row"), self._waits, one.lease == bindparam("token"))

    def _walk(self, table: Any, column: str, condition: str) -> Any:
        """Return the different values of an indexed *column*: one step of the index for each, not one for each row."""
        where: Any = literal_column(condition)
        walk = select(func.min(table.c[column]).label("value")).where(where).cte("walk", recursive=True)
        other = table.alias("other")
        following = select(func.min(other.c[column])).where(where, other.c[column] > walk.c.value).scalar_subquery()
        return walk.union_all(select(following).where(walk.c.value.is_not(None)))

    @functools.cached_property
    def _turns(self) -> Any:
        one, walk = self._tables.messages.c, self._walk(self._tables.messages, "turn", "state = 'waiting'")
        dues = [
            select(which(one.due)).where(self._waits, one.turn == walk.c.value).correlate(walk).scalar_subquery()
            for which in (func.min, func.max)
        ]
        return select(walk.c.value, *dues).where(walk.c.value.is_not(None))

    def turns(self, connection: Connection) -> list[Turn]:
        """Return for whom rows wait."""
        return [Turn(*row) for row in connection.execute(self._turns) if row[1] is not None]

    def reset(self, connection: Connection, turn: str, now: float, far: float) -> None:
        """Make due what waits for *turn* until later than *far*: the clock was set back."""
        one = self._tables.messages
        connection.execute(update(one).where(self._waits, one.c.turn == turn, one.c.due > far).values(due=now))

    @functools.cached_property
    def _due(self) -> Any:
        one = self._tables.messages.c
        return self._free(one.due, one.turn == bindparam("whose"))

    @functools.cached_property
    def _expired(self) -> Any:
        return self._free(self._tables.messages.c.expires_at)

    def _free(self, since: Any, *conditions: Any) -> Any:
        """Return the query for rows that nobody has leased, and for which the time *since* has come."""
        one, now, far = self._tables.messages.c, bindparam("now", type_=Float), bindparam("far", type_=Float)
        kind = LargeBinary if self._dialect == "sqlite" else Text
        free = or_(one.leased_until.is_(None), one.leased_until <= now, one.leased_until > far)
        return (
            select(one.id, cast(one.body, kind), cast(one.msg_id, kind), one.attempts, one.most_attempts, one.expires_at)
            .where(self._waits, *conditions, since <= now, free)
            .order_by(since).limit(bindparam("most", type_=Integer)).with_for_update(skip_locked=True)
        )  # fmt: skip

    def due(self, connection: Connection, turn: str, now: float, far: float, limit: int) -> list[Row]:
        """Return rows that are due, and leased by nobody; locked, where the database locks rows."""
        return self._found(connection, self._due, {"whose": turn, "now": now, "far": far, "most": min(limit, BATCH)})

    def first_expiry(self, connection: Connection) -> float | None:
        """Return when the first of the rows that wait expires, or has expired."""
        one = self._tables.messages.c
        first: float | None = connection.scalar(select(func.min(one.expires_at)).where(self._waits, one.expires_at.is_not(None)))
        return first

    def expired(self, connection: Connection, now: float, far: float) -> list[Row]:
        """Return rows that have expired, as `due` does; whether they are due makes no difference."""
        return self._found(connection, self._expired, {"now": now, "far": far, "most": BATCH})

    def _found(self, connection: Connection, query: Any, values: dict[str, Any]) -> list[Row]:
        found = {row[0]: row for row in connection.execute(query, values)}
        entries: dict[int, list[tuple[str, bool]]] = {key: [] for key in found}
        for key, entry, met in self._entries(connection, found):
            entries[key].append((sys.intern(entry), met is not None))  # the same few names again and again
        return [
            Row(
                key, _bytes(body), _bytes(msg_id), attempts, most, expires_at, tuple(entry for entry, _ in entries[key]),
                frozenset(entry for entry, met in entries[key] if met),
            )
            for key, body, msg_id, attempts, most, expires_at in found.values()
        ]  # fmt: skip

    @functools.cached_property
    def _entries_of(self) -> Any:
        one = self._tables.recipients.c
        which = one.message.in_(bindparam("ids", expanding=True))
        return select(one.message, one.entry, one.met).where(which).order_by(one.message, one.place)

    def _entries(self, connection: Connection, ids: Collection[int]) -> Iterable[Any]:
        return connection.execute(self._entries_of, {"ids": list(ids)}) if ids else ()

    @functools.cached_property
    def _lease(self) -> Any:
        one = self._tables.messages
        values = {"lease": bindparam("token"), "leased_until": bindparam("until", type_=Float)}
        return update(one).where(one.c.id.in_(bindparam("ids", expanding=True))).values(values)

    def lease(self, connection: Connection, ids: Sequence[int], token: str, until: float) -> None:
        """Lease rows that `due` or `expired` has returned."""
        connection.execute(self._lease, {"ids": list(ids), "token": token, "until": until})

    @functools.cached_property
    def _hear(self) -> Any:
        acknowledged, one, key = self._tables.acks, self._tables.messages.c, bindparam("id_heard", type_=Text)
        values = select(key, bindparam("by", type_=Text), bindparam("at_time", type_=Float)).where(
            exists().where(one.msg_id == key)
        )
        insert: Any = (sqlite if self._dialect == "sqlite" else postgresql).insert(acknowledged)
        return insert.from_select(["msg_id", "signer", "at"], values).on_conflict_do_nothing()

    def hear(self, connection: Connection, acks: Iterable[tuple[str, str]], now: float) -> None:
        """Store ACKs, (msg_id, signer) each, of messages that are there still; a second insert is harmless."""
        connection.execute(self._hear, [{"id_heard": key, "by": name, "at_time": now} for key, name in acks])

    @functools.cached_property
    def _meet(self) -> Any:
        one, message = self._tables.recipients, self._tables.messages.c
        same = exists().where(message.id == bindparam("row"), message.msg_id == bindparam("name"))
        which = (one.c.message == bindparam("row"), one.c.entry == bindparam("whose"), one.c.met.is_(None), same)
        return update(one).where(*which).values(met=bindparam("at_time", type_=Float), code=null(), reason=null())

    def meet(self, connection: Connection, met: Iterable[tuple[int, str, str]], now: float) -> None:
        """Note that entries, (row, msg_id, entry) each, are met."""
        values = [{"row": key, "name": name, "whose": entry, "at_time": now} for key, name, entry in met]
        connection.execute(self._meet, values)

    @functools.cached_property
    def _lock(self) -> Any:
        one = self._tables.messages.c
        return select(one.id).where(one.id.in_(bindparam("rows", expanding=True))).order_by(one.id).with_for_update()

    def lock(self, connection: Connection, ids: Collection[int]) -> None:
        """Keep other deliverers from storing anything of these rows until the transaction ends; on SQLite it is alone.

        Else one could note the last entry as met, and leave the row to the other's lease, while that gives its lease back
        for want of this very entry: the row would wait for its longest pause, with nobody missing.
        """
        if ids and self._dialect != "sqlite":
            connection.execute(self._lock, {"rows": sorted(ids)})

    def missing(self, connection: Connection, ids: Collection[int]) -> dict[int, list[str]]:
        """Return the entries of rows that are not met, in order."""
        found: dict[int, list[str]] = {key: [] for key in ids}
        for key, entry, met in self._entries(connection, ids):
            if met is None:
                found[key].append(entry)
        return found

    def explain(self, connection: Connection, reasons: Sequence[dict[str, Any]]) -> None:
        """Note what is known of entries that are missing: row, token, whose, told_code, told."""
        one, message = self._tables.recipients, self._tables.messages.c
        own = exists().where(message.id == bindparam("row"), message.lease == bindparam("token"))
        statement = (
            update(one)
            .where(one.c.message == bindparam("row"), one.c.entry == bindparam("whose"), one.c.met.is_(None), own)
            .values(code=bindparam("told_code"), reason=bindparam("told"))
        )
        connection.execute(statement, list(reasons))

    def wait(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Give leases back: row, token, sent (0 or 1 attempts more), when (due), whose (turn)."""
        one = self._tables.messages
        statement = (
            update(one).where(self._own)
            .values(
                lease=null(), leased_until=null(), attempts=one.c.attempts + bindparam("sent"), due=bindparam("when"),
                turn=func.coalesce(bindparam("whose"), one.c.turn),
            )
        )  # fmt: skip
        connection.execute(statement, list(rows))

    def fail(self, connection: Connection, row: dict[str, Any], now: float) -> bool:
        """End a row without success: row, token, sent, told; return whether it was ours."""
        ended = self._ended(self._own, state="failed", ended=now, reason=bindparam("told"))
        return connection.execute(ended, {key: row[key] for key in ("row", "token", "sent", "told")}).rowcount == 1

    @functools.cached_property
    def _deliver(self) -> Any:
        one = self._tables.messages.c
        free = or_(one.lease == bindparam("token"), one.lease.is_(None), one.leased_until <= bindparam("now", type_=Float))
        condition = and_(one.id == bindparam("row"), one.msg_id == bindparam("name"), self._waits, free)
        return self._ended(condition, state="delivered", ended=bindparam("now", type_=Float))

    def deliver(self, connection: Connection, rows: Sequence[dict[str, Any]], now: float, kept: bool) -> None:
        """End rows of which every entry is met: row, name, token, sent. Also one that nobody has leased any more."""
        connection.execute(self._deliver, [{**row, "now": now} for row in rows])
        if not kept:
            remove(connection, self._tables, DELIVERED, [row["row"] for row in rows])

    def _ended(self, condition: Any, **values: Any) -> Any:
        one = self._tables.messages
        more = {"lease": null(), "leased_until": null(), "attempts": one.c.attempts + bindparam("sent"), **values}
        return update(one).where(condition).values(more)

    def unmet(self, connection: Connection) -> list[str]:
        """Return the entries for which some message waits, or has failed."""
        walk = self._walk(self._tables.recipients, "entry", "met IS NULL")
        return [str(entry) for entry in connection.execute(select(walk.c.value)).scalars() if entry is not None]

    def rouse(self, connection: Connection, entry: str, after: int, now: float) -> int | None:
        """Make due a batch of the rows of which *entry* is missing, those beyond *after*; return the last, None at the end."""
        one, message = self._tables.recipients.c, self._tables.messages
        query = (
            select(one.message).where(one.entry == entry, literal_column("met IS NULL"), one.message > after)
            .order_by(one.message).limit(BATCH)
        )  # fmt: skip
        ids = connection.execute(query).scalars().all()
        late = select(message.c.id).where(message.c.id.in_(ids), self._waits, message.c.due > now).order_by(message.c.id)
        found = connection.execute(late.with_for_update()).scalars().all()
        connection.execute(update(message).where(message.c.id.in_(found), self._waits).values(due=now))
        return ids[-1] if len(ids) == BATCH else None

def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
