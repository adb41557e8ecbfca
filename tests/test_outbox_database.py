"""The database of an outbox: where it may be, how its tables come about, and what it says of itself."""

import contextlib
import os
import stat
import sys
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

import gilmsg

from . import databases
from .helpers import forked
from .processes import environment, run

NAMES = {"gilmsg_outbox_about", "gilmsg_outbox", "gilmsg_outbox_recipients", "gilmsg_outbox_acks", "gilmsg_inbox"}


def put(box, *where):
    return box.put(*where, topic="t", recipients="alice", topic_prefix="org.example", environment="dev", endpoints={})


def has(engine):
    return set(inspect(engine).get_table_names())


# Where it may be.


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "sqlite+pysqlite:///{}"])
def test_a_file_of_its_own_is_private_and_durable(tmp_path, form):
    """Only its user may read it, nor what stands beside it; it is written ahead, and synced at each commit."""
    path = tmp_path / "box"
    former = os.umask(0)
    try:
        box = gilmsg.outbox.Outbox(form.format(path))
        put(box)
        modes = {name: stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)}
    finally:
        os.umask(former)
    assert modes == dict.fromkeys(["box", "box-wal", "box-shm"], 0o600)
    with box.transaction() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "busy_timeout")]
    assert told == ["wal", 2, 10000]
    box.close()
    assert os.listdir(tmp_path) == ["box"]


def test_an_existing_file_keeps_its_mode(tmp_path):
    """Whoever wants to share it with a group makes it so."""
    path = tmp_path / "box"
    path.touch()
    path.chmod(0o660)
    with contextlib.closing(gilmsg.outbox.Outbox(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_path_is_that_of_the_start(tmp_path, monkeypatch):
    """A daemon may change its folder later."""
    box = gilmsg.outbox.Outbox("box")
    box.close()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    put(box)
    assert os.listdir() == [] and box.counts()["waiting"] == 1
    box.close()


@pytest.mark.slow
def test_postgresql_without_the_name_of_a_driver_will_do(postgres):
    """An URL, or its text, with the driver or without: then it is one that is installed."""
    url = make_url(postgres.url())
    for where in (url, url.render_as_string(), url.set(drivername="postgresql")):
        with contextlib.closing(gilmsg.outbox.Outbox(where)) as box:
            put(box)
            assert box.engine.pool._pre_ping
    assert box.counts()["waiting"] == 3


ASYNC = r"await session.run_sync\("

BAD = {
    "nothing": ("", "a path, an URL or an SQLAlchemy Engine; ''"),
    "None": (None, "None was given"),
    "bytes": (b"box", "b'box' was given"),
    "memory": (":memory:", "plain path of a file"),
    "memory by URL": ("sqlite://", "plain path of a file"),
    "memory by the other URL": ("sqlite:///:memory:", "plain path of a file"),
    "memory by mode": ("sqlite:///box?mode=memory&uri=true", "plain path of a file"),
    "a file URI": ("sqlite:///file:box?uri=true", "plain path of a file"),
    "a folder": (".", "is not a file"),
    "a folder that is not there": ("missing/box", "no database can be made at .*missing/box"),
    "no path": ("a\0b", "no database can be made"),
    "another dialect": ("mysql+pymysql://host/db", "SQLite and PostgreSQL; 'mysql"),
    "an unknown one": ("postgres://host/db", "SQLite and PostgreSQL; 'postgres'"),
    "a driver that is missing": ("postgresql+pg8000://host/db", "driver of postgresql.pg8000 is missing"),
    "no URL": ("postgresql://me:s3cret@host:port/db", "URL postgresql://... cannot be read"),
    "async SQLite": ("sqlite+aiosqlite:///box", ASYNC),
    "async PostgreSQL": ("postgresql+asyncpg://host/db", ASYNC),
    "an async engine": (create_async_engine("sqlite+aiosqlite:///box"), ASYNC),
    "one connection for all": (create_engine("sqlite:///box", poolclass=StaticPool), "pool .StaticPool.* gives one connection"),
    "memory in an engine": (create_engine("sqlite://"), "pool .SingletonThreadPool"),
    "what is in one": (create_async_engine("sqlite+aiosqlite:///box").sync_engine, ASYNC),
}  # fmt: skip


@pytest.mark.parametrize("where, told", BAD.values(), ids=BAD)
@pytest.mark.parametrize("kind", [gilmsg.outbox.Outbox, lambda where: gilmsg.outbox.Inbox(where, "handler")])
def test_elsewhere_there_is_none(where, told, kind):
    """The ConfigurationError says why not, and has no password in it; nothing is left on the disk."""
    with pytest.raises(gilmsg.ConfigurationError, match=told) as raised:
        kind(where)
    assert "s3cret" not in str(raised.value) and os.listdir() == []


def test_a_file_that_is_something_else_is_refused(tmp_path):
    """It is not touched."""
    path = tmp_path / "box"
    path.write_text("something else, " * 100)
    with pytest.raises(gilmsg.ConfigurationError, match="is not a database of SQLite's"):
        gilmsg.outbox.Outbox(path)
    assert path.read_text() == "something else, " * 100


def test_sqlalchemy_is_asked_for(tmp_path):
    """Without it the import says what to install; gilmsg itself does without, and does not load it."""
    (tmp_path / "sqlalchemy.py").write_text("raise ImportError('none here')")
    code = "import gilmsg, sys; assert 'gilmsg.outbox' not in sys.modules and 'sqlalchemy' not in sys.modules; gilmsg.outbox"
    ended = run([sys.executable, "-c", code], env={"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"})
    assert ended.returncode == 1 and "ImportError: gilmsg.outbox needs SQLAlchemy: pip install 'gilmsg[outbox]'" in ended.stderr


# Tables.


def test_it_makes_its_tables(place):
    """Those and no others; whoever opens it again finds the same outbox."""
    box = gilmsg.outbox.Outbox(place)
    assert has(box.engine) == NAMES and len(box.origin) == 12
    for create in (True, False):
        with contextlib.closing(gilmsg.outbox.Outbox(place, create=create)) as again:
            assert again.origin == box.origin
    box.close()


@pytest.mark.parametrize("recipe", [True, False])
def test_an_applications_engine_is_used_as_it_is(place, recipe):
    """The tables stand beside the application's own, of which nothing is changed."""
    with databases.engine(place, recipe=recipe) as engine:
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE mine (x INTEGER)"))
        box = gilmsg.outbox.Outbox(engine)
        assert has(engine) == {"mine", *NAMES} and box.engine is engine
        if engine.dialect.name == "sqlite":
            with engine.connect() as connection:
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        box.close()
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM gilmsg_outbox")).scalar() == 0


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
def test_transactions_of_ours_are_what_they_must_be(place, level):
    """Whatever the application's engine does by itself they commit or roll back as one, and see what others commit."""
    with databases.engine(place, recipe=False, isolation_level=level) as engine:
        box = gilmsg.outbox.Outbox(engine)
        with contextlib.suppress(KeyError), box.transaction() as connection:
            put(box, connection)
            raise KeyError
        assert box.counts()["waiting"] == 0
        with box.transaction() as connection:
            put(box, connection)
            if engine.dialect.name == "postgresql":
                assert connection.execute(text("SHOW transaction_isolation")).scalar() == "read committed"
                with box.transaction(reads=True) as other:  # several statements see one state
                    assert other.execute(text("SHOW transaction_isolation")).scalar() == "repeatable read"
        assert box.counts()["waiting"] == 1


@pytest.mark.parametrize("recipe", [None, True, False], ids=["own", "recipe", "as it is"])
def test_writers_on_sqlite_wait_for_each_other(tmp_path, recipe):
    """A transaction of ours keeps other writers out from its start, so that it may read and then write; readers come in."""
    with contextlib.ExitStack() as stack:
        engine = tmp_path / "box"
        if recipe is not None:
            engine = stack.enter_context(databases.engine(str(engine), recipe=recipe))
        box = gilmsg.outbox.Outbox(engine)
        with box.transaction(), databases.engine(str(tmp_path / "box"), connect_args={"timeout": 0}) as other:
            with box.transaction(reads=True) as connection:
                assert connection.execute(text("SELECT count(*) FROM gilmsg_outbox")).scalar() == 0
            with pytest.raises(Exception, match="locked"), other.begin() as connection:
                connection.execute(text("DELETE FROM gilmsg_outbox"))
        with box.transaction(reads=True), other.begin() as connection:
            connection.execute(text("DELETE FROM gilmsg_inbox"))
        box.close()


def test_migrations_may_make_the_tables(place):
    """With create=False missing tables are named; those that tables(metadata) declares will do."""
    with databases.engine(place) as engine:
        with pytest.raises(gilmsg.ConfigurationError, match="has no table gilmsg_outbox_about, .*tables\\(metadata\\)"):
            gilmsg.outbox.Outbox(engine, create=False)
        metadata = MetaData()
        gilmsg.outbox.tables(metadata)
        assert set(metadata.tables) == NAMES
        metadata.create_all(engine)
        box = gilmsg.outbox.Outbox(engine, create=False)
        with engine.begin() as connection:
            put(box, connection)
        assert box.counts()["waiting"] == 1 and has(engine) == NAMES
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE gilmsg_inbox"))
        with pytest.raises(gilmsg.ConfigurationError, match="has no table gilmsg_inbox;"):
            gilmsg.outbox.Outbox(engine, create=False)


CONVENTIONS = [None, {"uq": "uq_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s", "fk": "fk_%(table_name)s"}]


@pytest.mark.parametrize("convention", CONVENTIONS, ids=["as it is", "with names"])
def test_alembic_has_nothing_to_change(place, convention):
    """What an outbox has made is what the application's MetaData says, whatever names that gives to constraints."""
    metadata = MetaData(naming_convention=convention)
    gilmsg.outbox.tables(metadata)
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box, box.transaction(reads=True) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_date_in_words_is_refused(place):
    """By the database, whoever sets it: a deliverer could not compare it with the time."""
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        put(box)
        with pytest.raises(DBAPIError), box.transaction() as connection:
            connection.execute(text("UPDATE gilmsg_outbox SET due = CAST('2026-11-28 10:00' AS TEXT)"))
        assert box.counts()["waiting"] == 1


def test_a_schema_is_refused():
    """An outbox would not find its tables there."""
    with pytest.raises(gilmsg.ConfigurationError, match="schema 'app'"):
        gilmsg.outbox.tables(MetaData(schema="app"))


def test_another_layout_is_refused(place):
    """Nothing is added to what another version of gilmsg has made."""
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        with box.transaction() as connection:
            connection.execute(text("UPDATE gilmsg_outbox_about SET value = '2' WHERE key = 'version'"))
            connection.execute(text("DROP TABLE gilmsg_inbox"))
        for make in (gilmsg.outbox.Outbox, lambda place: gilmsg.outbox.Inbox(place, "handler")):
            with pytest.raises(gilmsg.ConfigurationError, match="have layout 2; this gilmsg knows 1 only"):
                make(place)
        assert has(box.engine) == NAMES - {"gilmsg_inbox"}


#: The engines of makers: their own, or an application's, which may wait for no lock.
MAKERS = {
    "own": None, "recipe": {"recipe": True}, "as it is": {"recipe": False}, "hasty": {"recipe": False},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_forty_makers_at_once_all_succeed(place, kind):
    """They find one and the same new outbox, on engines of their own or the application's."""

    def make(start, told):
        os.close(start[1])
        os.read(start[0], 1)  # returns when the other end is closed by all
        with contextlib.ExitStack() as stack:
            where = place if options is None else stack.enter_context(databases.engine(place, **options))
            os.write(told[1], f"{gilmsg.outbox.Outbox(where).origin}\n".encode())

    options = MAKERS[kind]
    if kind == "hasty" and "://" not in place:
        options = {**options, "connect_args": {"timeout": 0}}
    start, told = os.pipe(), os.pipe()
    children = [forked(lambda: make(start, told)) for _ in range(40)]
    for one in (*start, told[1]):
        os.close(one)
    with open(told[0]) as stream:
        origins = stream.read().split()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 40
    assert len(origins) == 40 and set(origins) == {gilmsg.outbox.Outbox(place).origin}


def test_the_clock_is_the_databases(place):
    """now() is the time in seconds since the epoch, and goes on within a transaction."""
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box, box.transaction() as connection:
        first, second = box.now(connection), box.now(connection)
    assert first < second and abs(first - time.time()) < 5
