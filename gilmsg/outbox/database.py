"""The database of an outbox or inbox: opened, its tables made and checked, transactions of our own, its clock."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import stat
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Union

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .. import _protocol
from ..errors import ConfigurationError
from . import schema
from .transactions import Joined

#: Where an outbox or inbox is: the path of an SQLite file, the URL of a database, or the application's engine.
Place = Union[str, "os.PathLike[str]", URL, Engine]

#: Seconds that a transaction of ours waits for another writer of an SQLite file, or for somebody else's row.
_PATIENCE = 10.0

#: The execution option of a transaction that only reads: on SQLite it must not keep writers out.
_READS = "gilmsg_reads"

_VERSION = str(schema.VERSION)

#: Makers of tables wait for each other by this advisory lock of PostgreSQL's: "gilmsg", as a number.
_MAKERS = int.from_bytes(b"gilmsg", "big")

_SYNC_ONLY = (
    "an outbox works by synchronous drivers; give it a path, an URL without an async driver (postgresql+psycopg://...) or a "
    "synchronous Engine of the same database, and put by: await session.run_sync(lambda session: box.put(session, ...))"
)

_SHARED = (
    "the engine's pool ({0}, as SQLAlchemy takes for SQLite in memory) gives one connection to several users: what your "
    "transaction has put, ours would commit; give the outbox an engine for a file, with the pool that SQLAlchemy chooses"
)

_OTHER = "an outbox works with SQLite and PostgreSQL; {0!r} was given"


class Database:
    """What outbox and inbox have in common. Safe in any thread, and in a forked child.

    (On SQLite not in one that was forked within a transaction: SQLite has its locks in memory, which the child inherits.)

    Attributes:
        tables (Tables): the tables, in a MetaData of their own.
        origin (str): what tells this database from others, and the last digits of each ``msg_id`` that is put here.
    """

    def __init__(self, where: Place, create: bool = True) -> None:
        self.own = not isinstance(where, Engine)
        self._engine = _opened(where, create)
        self._pid = os.getpid()
        self.tables = schema.tables(MetaData())
        self.origin = self._prepared_in_time(create)

    @property
    def engine(self) -> Engine:
        """The engine. One of our own begins anew in a forked child, whose parent goes on with the connections."""
        if self.own and self._pid != os.getpid():
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def close(self) -> None:
        """Close the connections of an own engine; the next use opens new ones. An application's engine is let be."""
        if self.own:
            self.engine.dispose()

    @contextlib.contextmanager
    def transaction(self, reads: bool = False) -> Iterator[Connection]:
        """Give a connection with a transaction that commits in the end, or rolls back if an exception leaves the block.

        On SQLite the transaction is the only writer from its start (BEGIN IMMEDIATE), unless it only *reads*: then it sees
        one state and keeps nobody out, on an own engine; an application's begins as that has it. On PostgreSQL it is READ
        COMMITTED, or where it only *reads* REPEATABLE READ, whatever the engine's default is, and fails where it waits 10 s
        for a row that somebody holds: by itself PostgreSQL would wait for ever.
        """
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ" if reads else "READ COMMITTED")
            elif reads:
                connection.execution_options(**{_READS: True})
            with connection.begin():
                if not reads and connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE:g}s'")
                elif not (reads or self.own):
                    _begin_anew(connection)
                yield connection

    @contextlib.contextmanager
    def brief_transaction(self) -> Iterator[Joined]:
        """Give the same on an own engine, for a statement or two: without SQLAlchemy's share it takes half the time."""
        try:
            # In the end it goes back to the pool, which rolls back what did not commit.
            with contextlib.closing(self.engine.raw_connection()) as connection:
                if self.engine.dialect.name == "sqlite":
                    connection.cursor().execute("BEGIN IMMEDIATE")
                yield Joined(self.engine.dialect, None, connection)
                connection.commit()
        except self.engine.dialect.loaded_dbapi.Error as error:
            raise DBAPIError.instance(None, None, error, self.engine.dialect.loaded_dbapi.Error) from error

    def now(self, connection: Connection) -> float:
        """Return the time, in seconds since the epoch: PostgreSQL's, which all hosts share; for SQLite the host's."""
        if connection.dialect.name == "postgresql":
            return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        return time.time()

    def _prepared_in_time(self, create: bool) -> str:
        """Do the same as `_prepared`; makers that find each other's lock try again."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return self._prepared(create)
            except DatabaseError as error:
                if "file is not a database" in str(error):
                    raise ConfigurationError(f"{self._engine.url.database} is not a database of SQLite's") from error
                # Of two that switch to WAL at once SQLite refuses one, without any wait; an application's engine may not wait, either.
                if "locked" not in str(error.orig) or time.monotonic() > until:
                    raise
            time.sleep(0.05)

    def _prepared(self, create: bool) -> str:
        """Return the origin. Make what is missing; where *create* is False only what no migration can make: the origin."""
        with self.transaction(reads=True) as connection:
            there = inspect(connection)
            missing = [table.name for table in self.tables if not there.has_table(table.name)]
            about = {} if self.tables.about.name in missing else self._about(connection)
        place = self._engine.url.set(query={}).render_as_string(hide_password=True)  # the query may hold a password, too
        version = about.get("version", _VERSION)
        if version != _VERSION:
            raise ConfigurationError(
                f"the tables in {place} have layout {version}; this gilmsg knows {_VERSION} only: use the gilmsg that made "
                "them, or another database"
            )
        if missing and not create:
            raise ConfigurationError(
                f"{place} has no table {', '.join(missing)}; have your migrations make what gilmsg.outbox.tables(metadata) "
                "declares, or leave create=False out (gilmsg-outbox run makes them)"
            )
        if missing or len(about) < 2:
            with self.transaction() as connection:
                about = self._made(connection)
        return about["origin"]

    def _made(self, connection: Connection) -> dict[str, str]:
        """Make what is missing, and return what the database says about itself then: another maker may have been faster."""
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKERS})
        self.tables.about.metadata.create_all(connection)
        origin = _protocol.checked_origin(secrets.token_hex(4))
        insert = text(f"INSERT INTO {self.tables.about.name} (key, value) VALUES (:key, :value) ON CONFLICT DO NOTHING")
        connection.execute(insert, [{"key": "version", "value": _VERSION}, {"key": "origin", "value": origin}])
        return self._about(connection)

    def _about(self, connection: Connection) -> dict[str, str]:
        about = self.tables.about.c
        return {key: value for key, value in connection.execute(select(about.key, about.value))}


def require_age(value: Any, unit: str) -> None:
    """Raise ConfigurationError unless *value* can be the age, in this *unit*, of what is to be purged."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ConfigurationError(f"purge() takes a number of {unit}; it was given {value!r}")


def _opened(where: Place, create: bool) -> Engine:
    """Return the application's engine, or one of our own; an SQLite file is made only if this is to *create*."""
    if isinstance(where, Engine):
        _require_usable(where.dialect, where.url)
        if isinstance(where.pool, (SingletonThreadPool, StaticPool)):
            raise ConfigurationError(_SHARED.format(type(where.pool).__name__))
        return where
    if hasattr(where, "sync_engine"):
        raise ConfigurationError(f"an AsyncEngine was given: {_SYNC_ONLY}")
    url = _url(where)
    try:
        _require_usable(url.get_dialect(), url)
        return _sqlite(url, create) if url.get_backend_name() == "sqlite" else _postgresql(url)
    except NoSuchModuleError as error:
        raise ConfigurationError(_OTHER.format(url.drivername)) from error
    except ImportError as error:
        told = f"the driver of {url.drivername} is missing ({error}); install it, for PostgreSQL: pip install 'psycopg[binary]'"
        raise ConfigurationError(told) from error


def _url(where: Any) -> URL:
    """Return *where*, a path or URL, as an URL."""
    if isinstance(where, URL):
        return where
    path = os.fspath(where) if isinstance(where, os.PathLike) else where
    if not isinstance(path, str) or not path.strip():
        raise ConfigurationError(f"an outbox is at a path, an URL or an SQLAlchemy Engine; {where!r} was given")
    if "://" not in path:
        return URL.create("sqlite", database=path)
    try:
        return make_url(path)
    except (ArgumentError, ValueError):  # not chained: its words hold the password
        raise ConfigurationError(
            f"the database URL {path.partition('://')[0]}://... cannot be read; it is DIALECT://USER:PASSWORD@HOST/DATABASE, "
            "its special characters written as %XX"
        ) from None


def _require_usable(dialect: Any, url: URL) -> None:
    if dialect.name not in ("sqlite", "postgresql"):
        raise ConfigurationError(_OTHER.format(url.drivername))
    if dialect.is_async:
        raise ConfigurationError(f"{url.drivername} is an async driver: {_SYNC_ONLY}")


def _postgresql(url: URL) -> Engine:
    if url.drivername == "postgresql" and find_spec("psycopg2") is None:  # which SQLAlchemy 2.0 would take
        url = url.set(drivername="postgresql+psycopg")
    return create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED", hide_parameters=True)


def _sqlite(url: URL, create: bool) -> Engine:
    """Return an engine of our own for a file: what it says is committed is on the disk, and only its user reads it."""
    name = url.database or ":memory:"
    if ":memory:" in name or name.startswith("file:") or url.query.get("mode") == "memory":
        raise ConfigurationError(f"an outbox needs the plain path of a file, which outlives the process; {name!r} was given")
    path = os.path.abspath(name)
    if not create and not os.path.lexists(path):
        raise ConfigurationError(f"there is no outbox at {path}")
    try:
        # Not opened: closing a file takes from this process the locks that SQLite has on it.
        os.mknod(path, stat.S_IFREG | stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError:
        if not os.path.isfile(path):
            raise ConfigurationError(f"{path} is not a file; give the outbox a path of its own") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no database can be made at {path}: {error}") from error
    engine = create_engine(url.set(database=path), connect_args={"timeout": _PATIENCE}, hide_parameters=True)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: Any) -> None:
    """Make a new *connection*, of sqlite3, durable, and leave the beginning of transactions to `_begin`."""
    connection.isolation_level = None
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="replace")  # one damaged row must not hide all others
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get(_READS)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _begin_anew(connection: Connection) -> None:
    """Begin an immediate transaction on an application's engine, whatever that does when SQLAlchemy has it begin one."""
    driver: Any = connection.connection.driver_connection
    if driver.in_transaction:
        connection.exec_driver_sql("ROLLBACK")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
