"""The caller's transaction, whichever way it is given: a Session, a Connection, or a connection of the driver's."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import PoolProxiedConnection

from ..errors import ConfigurationError

#: The dialects in which connections of these drivers are spoken to: the form of their parameters matters.
_RAW: dict[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="qmark"),
    "postgresql": postgresql.dialect(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}

#: The connections of PostgreSQL's drivers: module, class. Who has one has loaded its module.
_PSYCOPG = (("psycopg", "Connection"), ("psycopg2.extensions", "connection"))

#: "No such table" in SQLSTATE.
_UNDEFINED_TABLE = "42P01"

_BIND = "give the connection of that transaction, session.connection(bind_arguments={'mapper': YourModel})"

_AUTOCOMMIT = (
    "the connection is in AUTOCOMMIT mode: the message would not share a transaction with anything; begin one (Django: "
    "within transaction.atomic()), or use a connection with transactions"
)

#: What NOW() stands for in a statement: PostgreSQL's clock, which all hosts share; for SQLite the host's.
_NOW = {"postgresql": "CAST(extract(epoch FROM statement_timestamp()) AS FLOAT)"}

Values = Mapping[str, Any]


class Joined:
    """A transaction of the caller's: statements are executed in it; nothing is begun, committed or rolled back."""

    def __init__(self, dialect: Dialect, connection: Connection | None, raw: Any = None) -> None:
        self.connection, self._dialect, self._raw = connection, dialect, raw

    def run(self, statement: str, values: Values | list[Values]) -> Any:
        """Execute *statement*, once for each of *values*; return SQLAlchemy's result or the driver's cursor."""
        sql, order = _compiled(statement, self._dialect)
        bound: Any = [_bound(one, order) for one in values] if isinstance(values, list) else _bound(values, order)
        if self.connection is not None:
            return self.connection.exec_driver_sql(sql, bound)
        cursor = self._raw.cursor()
        (cursor.executemany if isinstance(values, list) else cursor.execute)(sql, bound)
        return cursor


def _bound(values: Values, order: Sequence[str] | None) -> Any:
    return values if order is None else tuple(values[name] for name in order)


@functools.lru_cache
def _compiled(statement: str, dialect: Dialect) -> tuple[str, Sequence[str] | None]:
    """Return SQL as the driver takes it, and the names of its parameters in order; None where they go by name."""
    compiled: Any = text(statement.replace("NOW()", _NOW.get(dialect.name, ":now"))).compile(dialect=dialect)
    return str(compiled), compiled.positiontup if compiled.positional else None


@contextlib.contextmanager
def tables_required(told: str) -> Iterator[None]:
    """Raise ConfigurationError if the database has no such table: it is another one than that of the outbox or inbox."""
    try:
        yield
    except Exception as error:
        cause = getattr(error, "orig", error)
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        if code != _UNDEFINED_TABLE and "no such table" not in str(cause):
            raise
        raise ConfigurationError(told) from error


def joined(where: Any, table: Table) -> Joined:
    """Return the transaction that *where* stands for, checked to be one; of a Session, that in which *table* is."""
    if isinstance(where, scoped_session):
        where = where()
    if isinstance(where, Session):
        try:
            where = where.connection(bind_arguments={"clause": table})
        except UnboundExecutionError as error:
            raise ConfigurationError(f"the session has no engine for the table {table.name}: {_BIND}") from error
    if isinstance(where, Connection):
        if not where.in_transaction():
            where.begin()  # as its first statement would
        found = Joined(where.dialect, where)
        proxied: Any = where.connection
    else:
        proxied = where
        raw = where.driver_connection if isinstance(where, PoolProxiedConnection) else where
        found = Joined(_RAW[_database_of(raw)], None, raw)
    if _autocommits(getattr(proxied, "dbapi_connection", proxied)):
        raise ConfigurationError(_AUTOCOMMIT)
    return found


def _database_of(raw: Any) -> str:
    if isinstance(raw, sqlite3.Connection):
        return "sqlite"
    for module, name in _PSYCOPG:
        if module in sys.modules and isinstance(raw, getattr(sys.modules[module], name)):
            return "postgresql"
    told = f"put() and first() take a Session, a Connection, or a connection of sqlite3 or psycopg, not {raw!r:.80}"
    if isinstance(raw, str):
        told += "; if that is the topic, name it: topic=..."
    elif hasattr(raw, "run_sync"):
        told += "; of an async one: await session.run_sync(lambda session: box.put(session, ...))"
    elif hasattr(raw, "ensure_connection"):
        told += "; of Django: put(connection.connection, ...) within transaction.atomic()"
    raise ConfigurationError(told)


def _autocommits(connection: Any) -> bool:
    """Tell if what is executed on *connection*, of a driver or SQLAlchemy's adapter of one, is committed at once."""
    driver = getattr(connection, "driver_connection", connection)
    if hasattr(driver, "in_transaction"):  # sqlite3 or aiosqlite; since Python 3.12 there is autocommit, -1 for "as ever"
        return not driver.in_transaction and (driver.isolation_level is None or getattr(driver, "autocommit", -1) is True)
    status = getattr(getattr(driver, "info", None), "transaction_status", 0)  # psycopg's: 0 is idle
    return bool(getattr(connection, "autocommit", False)) and not status
