"""Statements of a deliverer, in SQL that SQLite and PostgreSQL share. Their callers begin the transactions.

The states stand in them as literals, never as parameters: the partial indexes would not be used.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import secrets
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, TextClause, bindparam, text

from .transactions import Values

#: Rows that are looked at, or changed, at a time: what else writes has its turn in between.
BATCH = 500

#: Why a row fails that no put has left so.
UNSENDABLE = "the row cannot be sent: its message has another id, or it has no recipients"


class Turn(NamedTuple):
    """Recipients that have not confirmed rows which wait (see ``schema.turn_of``); when the first of these is due, and the last."""

    whose: str
    first: float
    last: float


@dataclasses.dataclass(eq=False)
class Claim:
    """A row that is due, and in hand once it is leased; ``missing`` shrinks with each ACK."""

    id: int
    msg_id: str
    attempts: int
    most_attempts: int | None
    expires_at: float | None
    #: Its recipients in order, and those of them that have not confirmed.
    entries: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    #: That of its lease.
    token: str = ""
    #: Whether its attempt is over, or there is none; until then it takes a place in their windows.
    ended: bool = False

    def why_over(self, attempts: int, missing: Sequence[str], now: float) -> str | None:
        """Return why no further attempt is made after so many; None if one is."""
        if not self.entries:
            return UNSENDABLE
        expired = self.expires_at is not None and self.expires_at <= now
        if expired or (self.most_attempts is not None and attempts >= self.most_attempts):
            return f"it expired after {attempts} attempts; not confirmed by: {'; '.join(missing)}"
        return None


def _walk(column: str, table: str, condition: str) -> str:
    """Return the table `walk`, the values of an indexed *column*: a step of the index for each of these, not for each row."""
    return f"""
        WITH RECURSIVE walk (value) AS (
            SELECT min({column}) FROM {table} WHERE {condition}
            UNION ALL
            SELECT (SELECT min({column}) FROM {table} WHERE {condition} AND {column} > walk.value)
            FROM walk WHERE walk.value IS NOT NULL
        )"""


def _among(sql: str) -> TextClause:
    return text(sql).bindparams(bindparam("ids", expanding=True))


_WAITS = "state = 'waiting'"
_OWN = f"id = :row AND {_WAITS} AND lease = :token"
_GIVEN_BACK = "lease = NULL, leased_until = NULL, attempts = attempts + :sent"

# Whose turn it is.

_TURNS = text(f"""{_walk("turn", "gilmsg_outbox", _WAITS)}
    SELECT value,
        (SELECT min(due) FROM gilmsg_outbox WHERE {_WAITS} AND turn = walk.value),
        (SELECT max(due) FROM gilmsg_outbox WHERE {_WAITS} AND turn = walk.value)
    FROM walk WHERE value IS NOT NULL""")
_LATE = f"SELECT id FROM gilmsg_outbox WHERE {_WAITS} AND turn = :turn AND due > :far"
#: When the first of the rows that wait expires, or has expired.
FIRST_EXPIRY = text(f"SELECT min(expires_at) FROM gilmsg_outbox WHERE {_WAITS} AND expires_at IS NOT NULL")
_ENTRIES = _among("SELECT message, entry, met FROM gilmsg_outbox_recipients WHERE message IN :ids ORDER BY message, place")
_LEASE = _among("UPDATE gilmsg_outbox SET lease = :token, leased_until = :until WHERE id IN :ids")


def turns(connection: Connection) -> list[Turn]:
    """Return for whom rows wait."""
    return [Turn(*row) for row in connection.execute(_TURNS)]


def reset(connection: Connection, turn: str, now: float, far: float) -> None:
    """Make due what waits for *turn* until later than *far*: the clock was set back."""
    late = _unlocked(connection.dialect.name, _LATE)
    connection.execute(text(f"UPDATE gilmsg_outbox SET due = :now WHERE id IN ({late})"), {"turn": turn, "now": now, "far": far})


def _unlocked(dialect: str, query: str) -> str:
    """Return *query* for rows that nobody has locked, which it locks; on SQLite whoever writes is alone."""
    return query if dialect == "sqlite" else f"{query} FOR UPDATE SKIP LOCKED"


def due(connection: Connection, turn: str, now: float, far: float, limit: int) -> list[tuple[Claim, bytes]]:
    """Return rows that are due, and leased by nobody, with their bodies; locked, where the database locks rows."""
    query = _free(connection.dialect.name, "due", "AND turn = :turn")
    return _found(connection, query, {"turn": turn, "now": now, "far": far, "most": limit})


def expired(connection: Connection, now: float, far: float) -> list[tuple[Claim, bytes]]:
    """Return rows that have expired, as `due` does; whether they are due makes no difference."""
    return _found(connection, _free(connection.dialect.name, "expires_at"), {"now": now, "far": far, "most": BATCH})


@functools.cache
def _free(dialect: str, since: str, condition: str = "") -> TextClause:
    """Return the query for rows that nobody has leased, and for which the time *since* has come."""
    # Whatever is wrong with a text must not hold up other rows, and SQLite's driver would fail at it.
    as_bytes = "CAST({0} AS BLOB)" if dialect == "sqlite" else "convert_to({0}, 'UTF8')"
    return text(_unlocked(dialect, f"""
        SELECT {as_bytes.format("body")}, id, {as_bytes.format("msg_id")}, attempts, most_attempts, expires_at FROM gilmsg_outbox
        WHERE {_WAITS} {condition} AND {since} <= :now
            AND (leased_until IS NULL OR leased_until <= :now OR leased_until > :far)
        ORDER BY {since} LIMIT :most"""))


def _found(connection: Connection, query: TextClause, values: Values) -> list[tuple[Claim, bytes]]:
    found = []
    for body, key, msg_id, *rest in connection.execute(query, values):
        found.append((Claim(key, bytes(msg_id).decode("utf-8", "replace"), *rest), bytes(body)))
    claims = {claim.id: claim for claim, _ in found}
    for key, several in itertools.groupby(_entries(connection, claims), lambda one: one[0]):
        named = [(sys.intern(entry), met) for _, entry, met in several]  # the same few names again and again
        claims[key].entries = tuple(entry for entry, _ in named)
        claims[key].missing = tuple(entry for entry, met in named if met is None)
    return found


def _entries(connection: Connection, ids: Collection[int]) -> Iterable[Any]:
    return connection.execute(_ENTRIES, {"ids": list(ids)}) if ids else ()


def lease(connection: Connection, claims: Sequence[Claim], until: float) -> None:
    """Lease rows that `due` or `expired` has returned."""
    if claims:
        token = secrets.token_hex(8)
        for claim in claims:
            claim.token = token
        connection.execute(_LEASE, {"ids": [claim.id for claim in claims], "token": token, "until": until})


# What came of attempts: statements, and the parameters of each.

_LOCK = _among("SELECT id FROM gilmsg_outbox WHERE id IN :ids ORDER BY id FOR UPDATE")

#: Store an ACK of a message that is there still (msg_id, signer, now); a second insert is harmless.
HEAR = text("""
    INSERT INTO gilmsg_outbox_acks (msg_id, signer, at)
    SELECT CAST(:msg_id AS TEXT), CAST(:signer AS TEXT), CAST(:now AS FLOAT)
    WHERE EXISTS (SELECT 1 FROM gilmsg_outbox WHERE msg_id = CAST(:msg_id AS TEXT))
    ON CONFLICT DO NOTHING""")

#: Note that an entry is met (row, msg_id, entry, now). SQLite gives the number of a row that was removed to another.
MEET = text("""
    UPDATE gilmsg_outbox_recipients SET met = :now, code = NULL, reason = NULL
    WHERE message = :row AND entry = :entry AND met IS NULL
        AND EXISTS (SELECT 1 FROM gilmsg_outbox WHERE id = :row AND msg_id = :msg_id)""")

#: Note what is known of an entry that is missing (row, token, entry, code, reason).
EXPLAIN = text("""
    UPDATE gilmsg_outbox_recipients SET code = :code, reason = :reason
    WHERE message = :row AND entry = :entry AND met IS NULL
        AND EXISTS (SELECT 1 FROM gilmsg_outbox WHERE id = :row AND lease = :token)""")

#: Give a lease back (row, token, sent: 0 or 1 attempts more, due, turn).
WAIT = text(f"UPDATE gilmsg_outbox SET {_GIVEN_BACK}, due = :due, turn = :turn WHERE {_OWN}")

#: End a row without success (row, token, sent, now, reason).
FAIL = text(f"UPDATE gilmsg_outbox SET {_GIVEN_BACK}, state = 'failed', ended = :now, reason = :reason WHERE {_OWN}")

#: End a row of which every entry is met, also one that nobody has leased any more (row, msg_id, token, sent, now).
DELIVER = text(f"""
    UPDATE gilmsg_outbox SET {_GIVEN_BACK}, state = 'delivered', ended = :now
    WHERE id = :row AND msg_id = :msg_id AND {_WAITS} AND (lease = :token OR lease IS NULL OR leased_until <= :now)""")


def each(connection: Connection, statement: TextClause, values: Sequence[Values]) -> None:
    """Execute *statement* for each of *values*, if there are any."""
    if values:
        connection.execute(statement, values)


def lock(connection: Connection, ids: Iterable[int]) -> None:
    """Keep other deliverers from storing anything of these rows until the transaction ends; on SQLite it is alone.

    Else one could note the last entry as met, and leave the row to the other's lease, while that gives its lease back
    for want of this very entry: the row would wait for its longest pause, with nobody missing. All rows at once, in one
    order, before anything else is locked: or two deliverers would wait for each other.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK, {"ids": list(ids)})


def missing(connection: Connection, ids: Collection[int]) -> dict[int, list[str]]:
    """Return the entries of rows that are not met, in order."""
    found: dict[int, list[str]] = {key: [] for key in ids}
    for key, entry, met in _entries(connection, ids):
        if met is None:
            found[key].append(entry)
    return found


# Recipients that appear.

#: The entries for which some message waits, or has failed.
UNMET = text(f"""{_walk("entry", "gilmsg_outbox_recipients", "met IS NULL")}
    SELECT value FROM walk WHERE value IS NOT NULL""")
_UNMET_OF = text("""
    SELECT message FROM gilmsg_outbox_recipients WHERE entry = :entry AND met IS NULL AND message > :after
    ORDER BY message LIMIT :most""")
_ROUSE = _among(f"UPDATE gilmsg_outbox SET due = :now WHERE id IN :ids AND {_WAITS} AND due > :now")


def rouse(connection: Connection, entry: str, after: int, now: float) -> int | None:
    """Make due a batch of the rows of which *entry* is missing, those beyond *after*; return the last, None at the end."""
    ids = connection.scalars(_UNMET_OF, {"entry": entry, "after": after, "most": BATCH}).all()
    lock(connection, ids)
    connection.execute(_ROUSE, {"ids": ids, "now": now})
    return ids[-1] if len(ids) == BATCH else None


# What ended long ago, and what stands there.

_OLD = "SELECT id FROM gilmsg_outbox WHERE state = :state AND ended <= :before ORDER BY ended LIMIT :most"
_REMOVE = (
    _among("DELETE FROM gilmsg_outbox_acks WHERE msg_id IN (SELECT msg_id FROM gilmsg_outbox WHERE id IN :ids)"),
    _among("DELETE FROM gilmsg_outbox_recipients WHERE message IN :ids"),  # an application's SQLite may not cascade
    _among("DELETE FROM gilmsg_outbox WHERE id IN :ids"),
)
_STANDING = text(f"SELECT count(*), min(created) FROM gilmsg_outbox WHERE {_WAITS}")


def sweep(connection: Connection, state: str, before: float) -> int:
    """Remove a batch of what ended in *state* by then; return how many. Less than a batch: there are no more."""
    query = text(_unlocked(connection.dialect.name, _OLD))
    ids = connection.scalars(query, {"state": state, "before": before, "most": BATCH}).all()
    for statement in _REMOVE if ids else ():
        connection.execute(statement, {"ids": ids})
    return len(ids)


def standing(connection: Connection, now: float) -> tuple[int, float]:
    """Return how many rows wait, and for how many seconds the oldest has done so."""
    count, first = connection.execute(_STANDING).one()
    return count, 0.0 if first is None else max(0.0, now - first)
