"""The caller's transaction, whichever way it is given: a Session, a Connection, or a connection of the driver's."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.sql import ClauseElement

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

Values = Mapping[str, Any]


class Done(Protocol):
    """A cursor, or SQLAlchemy's result."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""


class Statement(NamedTuple):
    """SQL as the driver takes it, and the names of its parameters in order; None where they go by name."""

    sql: str
    order: Sequence[str] | None

    @classmethod
    def of(cls, statement: ClauseElement, dialect: Dialect) -> Statement:
        """Compile *statement*."""
        compiled: Any = statement.compile(dialect=dialect)
        return cls(str(compiled), tuple(compiled.positiontup) if compiled.positional else None)

    def bind(self, values: Values) -> Any:
        """Return *values* in the form of the driver's parameters."""
        return values if self.order is None else tuple(values[name] for name in self.order)


class Joined:
    """A transaction of the caller's: statements are executed in it; nothing is begun, committed or rolled back."""

    def __init__(self, dialect: Dialect, connection: Connection | None, raw: Any = None) -> None:
        self.dialect, self.connection, self._raw = dialect, connection, raw

    @property
    def kind(self) -> tuple[str, str, str]:
        """What a statement is compiled for: equal kinds, equal SQL."""
        return self.dialect.name, self.dialect.driver, self.dialect.paramstyle

    def run(self, statement: Statement, values: Values | Sequence[Values]) -> Done:
        """Execute *statement*, once for each of *values*."""
        several = not isinstance(values, Mapping)
        bound: Any = [statement.bind(one) for one in values] if several else statement.bind(values)  # type: ignore[arg-type]
        if self.connection is not None:
            return self.connection.exec_driver_sql(statement.sql, bound)
        cursor: Any = self._raw.cursor()
        (cursor.executemany if several else cursor.execute)(statement.sql, bound)
        return cursor  # type: ignore[no-any-return]


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


def lacks_table(error: BaseException) -> bool:
    """Tell if *error*, SQLAlchemy's or a driver's, says that there is no such table."""
    cause = getattr(error, "orig", error)
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return code == _UNDEFINED_TABLE or "no such table" in str(cause)


