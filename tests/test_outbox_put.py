"""Outbox.put: what is stored, in whose transaction, and what is refused."""

import asyncio
import contextlib
import datetime
import functools
import getpass
import json
import sqlite3
import time

import django.conf
import django.db.transaction
import fedmsg.encoding
import psycopg
import pytest
from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

import gilmsg

from . import databases
from .helpers import in_a_child, sampled

#: No file is needed where the call names endpoints.
CONFIG = {"topic_prefix": "org.example", "environment": "dev", "endpoints": {}}


class Base(DeclarativeBase):
    pass


class Update(Base):
    """The application's own table."""

    __tablename__ = "updates"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
def box(place):
    """An outbox of its own, with a table of the application's beside it."""
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        Base.metadata.create_all(box.engine)
        yield box


@pytest.fixture
def engine(place, box):
    """The application's own engine for that database."""
    with databases.engine(place) as found:
        yield found


def put(box, *where, **options):
    return box.put(*where, **{"topic": "t", "msg": {}, "recipients": ["alice"], **CONFIG, **options})


def waiting(box):
    """The ids of what is in *box*, oldest first."""
    return [message.msg_id for message in box.list()]


def updates(box):
    """The rows of the application."""
    with box.transaction(reads=True) as connection:
        return list(connection.scalars(select(Update.name).order_by(Update.id)))


# What is stored.


def test_the_row_is_the_finished_message(box):
    """Body, topic and recipients are what publish would send: full topic, marker, id with the outbox's origin."""
    before = time.time()
    msg_id = put(box, topic="a.b", modname="mod", msg={10: 1, 9: "ü"}, recipients=["bob", "alice", "c,d", "bob"])
    found = box.get(msg_id)
    message = json.loads(found.body)
    assert message == {
        "topic": "org.example.dev.mod.a.b", "msg_id": msg_id, "i": 1, "username": getpass.getuser(),
        "timestamp": message["timestamp"],
        "msg": {"10": 1, "9": "ü", "gilmsg": {"version": gilmsg.__version__, "recipients": ["bob", "alice", "c,d"]}},
    }  # fmt: skip
    assert int(before) <= message["timestamp"] <= time.time() and before - 1 < found.created < time.time() + 1
    assert msg_id.startswith(f"{datetime.datetime.now().year}-") and msg_id.endswith("-" + box.origin)
    assert found.body == fedmsg.encoding.dumps(message)
    assert (found.topic, found.recipients) == (message["topic"], ("bob", "alice", "c,d"))
    assert (found.state, found.attempts, found.next_attempt) == ("waiting", 0, found.created)
    assert {name: reason.code for name, reason in found.missing.items()} == dict.fromkeys(found.recipients, "untried")
    assert json.loads(box.get(put(box)).body)["i"] == 2


def test_it_says_what_its_signature_will_cover(box):
    """Where messages are signed the stored text has ``crypto`` in it: the digest of each attempt is that of the row."""
    assert json.loads(box.get(put(box, sign_messages=True)).body)["crypto"] == "x509"
    assert "crypto" not in json.loads(box.get(put(box, sign_messages=False)).body)


def test_the_module_is_the_callers(box, engine):
    """The middle of the topic is the module that calls, by whatever way the transaction came."""
    with Session(engine) as session, session.begin():
        found = [put(box), put(box, session)]
    assert {box.get(one).topic for one in found} == {"org.example.dev.tests.t"}


def test_the_configuration_may_name_recipients(box):
    """Without ``recipients`` those of gilmsg.recipients hold, the longest match."""
    config = {"gilmsg.recipients": {"org.example": "bob", "org.example.dev.tests.t": ["alice", "carol"]}}
    assert box.get(put(box, recipients=None, **config)).recipients == ("alice", "carol")
    assert box.get(put(box, recipients=None, topic="u", **config)).recipients == ("bob",)


def test_the_context_of_the_thread_holds(box):
    """Its prefix counts, not that of the call; and put makes no context where there is none."""
    put(box)
    assert getattr(gilmsg.__local, "__context", None) is None
    gilmsg.init(**dict(CONFIG, topic_prefix="org.other", mute=True))
    assert box.get(put(box)).topic == "org.other.dev.tests.t"


def test_the_files_are_read(box, tmp_path):
    """Without a context the files that fedmsg finds hold, with the keywords over them."""
    (tmp_path / "fedmsg.d").mkdir()
    file = tmp_path / "fedmsg.d" / "bus.py"
    file.write_text("config = dict(endpoints={}, topic_prefix='org.file', environment='stg')")
    options = {"topic": "t", "recipients": "alice", "environment": "dev"}
    assert [box.get(box.put(**options)).topic for _ in "12"] == ["org.file.dev.tests.t"] * 2


def test_it_may_expire(box):
    """After seconds from now, or after attempts; by default never."""
    found = box.get(put(box, expires=60))
    assert (found.most_attempts, found.expires_at - found.created) == (None, pytest.approx(60, abs=1))
    found = box.get(put(box, expires=gilmsg.outbox.attempts(5)))
    assert (found.most_attempts, found.expires_at) == (5, None)
    found = box.get(put(box))
    assert (found.most_attempts, found.expires_at) == (None, None)


BAD = {
    "a payload that is no dict": ({"msg": "text"}, "msg must be a dict"),
    "one that is no JSON": ({"msg": {"a": {"b": object}}}, r"msg\['a'\]\['b'\]"),
    "the reserved key": ({"msg": {"gilmsg": 1}}, "'gilmsg', which gilmsg reserves"),
    "nobody": ({"recipients": []}, r"org.example.dev.tests.t names nobody"),
    "nobody by configuration": ({"recipients": None}, "names nobody"),
    "bytes": ({"recipients": b"alice"}, "not bytes"),
    "an empty name": ({"recipients": ["alice", ""]}, "cannot be empty"),
    "a name that no database holds": ({"recipients": ["a\0b"]}, "cannot hold"),
    "a name that is no text": ({"recipients": ["a\udc80"]}, "cannot hold"),
    "a group that no index of PostgreSQL's holds": ({"recipients": [",".join(map(str, range(1000)))]}, "too long for an outbox"),
    "a topic that no database holds": ({"topic": "a\0b"}, "cannot hold"),
    "a topic of answers": ({"topic": "gilmsg.ack", "modname": "x"}, "gilmsg's own"),
    "a topic that is no text": ({"topic": 5}, "the topic must be text; it is 5"),
    "a hook": ({"pre_fire_hook": print}, "put\\(\\) takes no pre_fire_hook"),
    "a timeout": ({"ack_timeout": 5}, "put\\(\\) takes no ack_timeout"),
    "fail_fast": ({"fail_fast": True}, "put\\(\\) takes no fail_fast"),
    "a misspelt expires": ({"expire": 5}, "'expires' is meant"),
    "a misspelt argument": ({"recipient": "bob"}, "'recipients' is meant"),
    "an unknown setting": ({"gilmsg.bad": 1}, "no setting 'gilmsg.bad'"),
    "a setting that is no good": ({"gilmsg.head_start": -1}, "gilmsg.head_start must be"),
    "one of fedmsg's": ({"topic_prefix": 5}, "topic_prefix must be text"),
    "crypto that proves nothing": ({"crypto_backend": "gpg"}, "crypto_backend is 'gpg'"),
    "expired before": ({"expires": 0}, "expires must be a positive"),
    "never expires, in words": ({"expires": float("inf")}, "expires must be a positive"),
    "a truth": ({"expires": True}, "expires must be a positive"),
    "a span": ({"expires": datetime.timedelta(1)}, "expires must be a positive"),
}  # fmt: skip


@pytest.mark.parametrize("options, told", BAD.values(), ids=BAD)
def test_bad_input_is_refused(tmp_path, options, told):
    """It is a ConfigurationError that names the value, and nothing is stored."""
    with contextlib.closing(gilmsg.outbox.Outbox(tmp_path / "box")) as box:
        with pytest.raises(gilmsg.ConfigurationError, match=told):
            put(box, **options)
        assert box.counts()["waiting"] == 0


def test_what_is_nested_as_deeply_as_can_be_is_stored_or_refused(tmp_path):
    """What can be encoded by itself, but not in its message, is refused like what cannot at all."""

    def refusal(depth):
        deep = []
        for _ in range(depth):
            deep = [deep]
        try:
            json.loads(box.get(put(box, msg={"deep": deep})).body)
        except gilmsg.ConfigurationError as error:
            return error
        return None

    stored, refused = 1, 200_000
    with contextlib.closing(gilmsg.outbox.Outbox(tmp_path / "box")) as box:
        while refused - stored > 1:
            middle = (stored + refused) // 2
            stored, refused = (stored, middle) if refusal(middle) else (middle, refused)
        assert refusal(stored) is None and "msg cannot be" in str(refusal(refused))


@pytest.mark.parametrize("count", [0, -1, 1.5, True, 2**31, "5", None])
def test_attempts_are_a_whole_number(count):
    """Anything but a positive whole number is refused."""
    with pytest.raises(gilmsg.ConfigurationError, match="positive whole number"):
        gilmsg.outbox.attempts(count)


# In whose transaction.


@contextlib.contextmanager
def session(place, box):
    with databases.engine(place) as engine, Session(engine) as session:
        yield session, lambda name: session.add(Update(name=name)), session.commit, session.rollback


@contextlib.contextmanager
def scoped(place, box):
    with databases.engine(place) as engine:
        session = scoped_session(sessionmaker(engine))
        yield session, lambda name: session.add(Update(name=name)), session.commit, session.rollback
        session.remove()


@contextlib.contextmanager
def connection(place, box):
    with databases.engine(place) as engine, engine.connect() as connection:
        add = insert(Update)
        yield connection, lambda name: connection.execute(add, {"name": name}), connection.commit, connection.rollback


@contextlib.contextmanager
def own_engine(place, box):
    with box.engine.connect() as connection:
        add = insert(Update)
        yield connection, lambda name: connection.execute(add, {"name": name}), connection.commit, connection.rollback


def raw_connection(place):
    connected = psycopg.connect(place.replace("+psycopg", "")) if "://" in place else sqlite3.connect(place)
    return contextlib.closing(connected)


@contextlib.contextmanager
def raw(place, box):
    mark = "%s" if "://" in place else "?"
    with raw_connection(place) as found:
        add = f"INSERT INTO updates (name) VALUES ({mark})"
        yield found, lambda name: found.cursor().execute(add, (name,)), found.commit, found.rollback


@contextlib.contextmanager
def pooled(place, box):
    with databases.engine(place, recipe=False) as engine, contextlib.closing(engine.raw_connection()) as found:
        mark = "%s" if "://" in place else "?"
        add = f"INSERT INTO updates (name) VALUES ({mark})"
        yield found, lambda name: found.cursor().execute(add, (name,)), found.commit, found.rollback


WAYS = [session, scoped, connection, own_engine, raw, pooled]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_shares_the_transaction(place, box, way):
    """It is there when that has committed, with what else was done there, not before, and never after a rollback."""
    with way(place, box) as (where, add, commit, rollback):
        add("one")
        msg_id = put(box, where, recipients=["alice", "bob"])
        assert waiting(box) == []
        commit()
        assert waiting(box) == [msg_id] and updates(box) == ["one"]
        add("two")
        put(box, where)
        rollback()
        assert waiting(box) == [msg_id] and updates(box) == ["one"]
        put(box, where)
    assert waiting(box) == [msg_id]


def test_savepoints_count(box, engine):
    """What is put within a savepoint that is rolled back is gone; within one that is released it is as the rest."""
    with Session(engine) as session:
        first = put(box, session)
        with session.begin_nested():
            second = put(box, session)
        with session.begin_nested() as savepoint:
            put(box, session)
            savepoint.rollback()
        session.commit()
        assert waiting(box) == [first, second]
        with session.begin_nested():
            put(box, session)
        session.rollback()
    assert waiting(box) == [first, second]


@pytest.mark.parametrize("recipe", [False, True], ids=["as it is", "recipe"])
def test_an_own_pysqlite_engine_needs_the_recipe(tmp_path, recipe):
    """sqlite3 begins no transaction for a savepoint, so its release commits; with SQLAlchemy's recipe it does not."""
    with databases.engine(str(tmp_path / "app"), recipe=recipe) as engine, Session(engine) as session:
        box = gilmsg.outbox.Outbox(engine)
        with session.begin_nested():
            put(box, session)
        session.rollback()
        assert len(waiting(box)) == (0 if recipe else 1)
        put(box, session)
        session.rollback()
        assert len(waiting(box)) == (0 if recipe else 1)


def test_flushes_do_not_matter(box, engine):
    """put flushes nothing, may be called within a flush, and stands with objects that were not flushed yet."""
    seen = []
    with Session(engine) as session:
        event.listen(session, "before_flush", lambda *_: seen.append(put(box, session)))
        session.add(Update(name="one"))
        seen.append(put(box, session))
        assert len(seen) == 1
        assert session.scalars(select(Update.name)).all() == ["one"]  # this query flushes
        assert len(seen) == 2
        session.commit()
    assert waiting(box) == seen and updates(box) == ["one"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_it_works_with_asyncio(place, box, ends):
    """Within AsyncSession.run_sync it shares the transaction, too, with drivers that are asynchronous."""

    async def work():
        url = place.replace("+psycopg", "+asyncpg") if "://" in place else f"sqlite+aiosqlite:///{place}"
        engine = create_async_engine(url)
        async with AsyncSession(engine) as session:
            session.add(Update(name="one"))
            msg_id = await session.run_sync(lambda session: put(box, session, recipients=["alice", "bob"], expires=5))
            assert waiting(box) == []
            await getattr(session, ends)()
        await engine.dispose()
        return [msg_id] if ends == "commit" else []

    assert asyncio.run(work()) == waiting(box)
    assert [box.get(one).recipients for one in waiting(box)] == [("alice", "bob")] * (ends == "commit")
    assert updates(box) == ["one"] * (ends == "commit")


@contextlib.contextmanager
def of_django(place):
    """The alias of a database of Django's at *place*."""
    if not django.conf.settings.configured:
        django.conf.settings.configure(USE_TZ=True)
        django.setup()
    url = gilmsg.outbox.Outbox(place).engine.url
    backend = "postgresql" if "://" in place else "sqlite3"
    options = {"ENGINE": f"django.db.backends.{backend}", "NAME": url.database, "USER": url.username, "HOST": url.host,
               "PORT": url.port}  # fmt: skip
    options = {key: value for key, value in options.items() if value is not None}
    django.db.connections.settings["app"] = django.db.connections.configure_settings(
        {"default": {}, "app": options})["app"]  # fmt: skip
    try:
        yield django.db.connections["app"]
    finally:
        django.db.connections["app"].close()
        del django.db.connections["app"]


def test_it_works_with_django(place, box):
    """Within atomic() ``connection.connection`` shares the transaction, savepoints included; outside it is refused."""
    atomic = django.db.transaction.atomic
    with of_django(place) as connection:
        with atomic("app"):
            first = put(box, connection.connection)
            with contextlib.suppress(KeyError), atomic("app"):
                put(box, connection.connection)
                raise KeyError
            with atomic("app"):
                second = put(box, connection.connection)
            assert waiting(box) == []
        assert waiting(box) == [first, second]
        with contextlib.suppress(KeyError), atomic("app"):
            with atomic("app"):
                put(box, connection.connection)
            raise KeyError
        with pytest.raises(gilmsg.ConfigurationError, match="AUTOCOMMIT"):
            put(box, connection.connection)
        with pytest.raises(gilmsg.ConfigurationError, match=r"of Django: put\(connection.connection"):
            put(box, connection)
    assert waiting(box) == [first, second]


def test_autocommit_is_refused(place, box):
    """A connection on which each statement commits by itself is refused, however it came to be so."""
    refused = functools.partial(pytest.raises, gilmsg.ConfigurationError, match="AUTOCOMMIT")
    whole = databases.engine(place, recipe=False, isolation_level="AUTOCOMMIT")
    with whole as engine, Session(engine) as session, refused():
        put(box, session)
    with databases.engine(place, recipe=False) as engine, engine.connect() as connection, refused():
        put(box, connection.execution_options(isolation_level="AUTOCOMMIT"))
    with raw_connection(place) as found:
        setattr(found, *(("autocommit", True) if "://" in place else ("isolation_level", None)))
        with refused():
            put(box, found)
        found.execute("BEGIN")
        put(box, found)
        found.rollback()
    assert waiting(box) == []


@pytest.mark.parametrize("place", sampled(["sqlite", "postgresql"]), indirect=True)
def test_autocommit_is_refused_with_asyncio(place, box):
    """So it is with drivers that are asynchronous."""

    async def work():
        url = place.replace("+psycopg", "+asyncpg") if "://" in place else f"sqlite+aiosqlite:///{place}"
        engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
        async with AsyncSession(engine) as session:
            with pytest.raises(gilmsg.ConfigurationError, match="AUTOCOMMIT"):
                await session.run_sync(lambda session: put(box, session))
        await engine.dispose()

    asyncio.run(work())
    assert waiting(box) == []


def test_on_the_applications_engine_it_needs_a_transaction(box, engine):
    """Without ``where`` the message would share no transaction."""
    theirs = gilmsg.outbox.Outbox(engine)
    assert theirs.origin == box.origin
    with pytest.raises(gilmsg.ConfigurationError, match=r"put\(session, \.\.\.\)"):
        put(theirs)
    with Session(engine) as session, session.begin():
        msg_id = put(theirs, session)
    assert waiting(box) == waiting(theirs) == [msg_id]


def test_a_session_of_another_database_is_refused(place, box, tmp_path, request):
    """One with an outbox of its own, and one that has none; whoever would deliver there does not know this outbox."""
    other = str(tmp_path / "other") if "://" not in place else request.getfixturevalue("postgres").url()
    for told in ("there are no tables", "not of this outbox's database"):
        for way in (session, connection, raw):
            with way(other, box) as (where, *_), pytest.raises(gilmsg.ConfigurationError, match=told):
                put(box, where)
        theirs = gilmsg.outbox.Outbox(other)
    assert waiting(theirs) == waiting(box) == []


WRONG = {
    "a topic": ("topic", "name it: topic="),
    "nothing": (None, "given None for the transaction .Django: "),
    "nothing of ours": (object(), "take a Session, a Connection"),
    "an engine": (create_engine("sqlite://"), "take a Session, a Connection"),
    "an async session": (AsyncSession(), r"await session.run_sync\("),
}


@pytest.mark.parametrize("where, told", WRONG.values(), ids=WRONG)
def test_what_is_no_transaction_is_refused(tmp_path, where, told):
    """The error says what to give instead."""
    box = gilmsg.outbox.Outbox(tmp_path / "box")
    with contextlib.closing(box), pytest.raises(gilmsg.ConfigurationError, match=told):
        put(box, where)


def test_a_session_of_some_tables_only(box, engine):
    """It does not say where ours are; its connection does."""
    with Session(binds={Base: engine}) as session:
        with pytest.raises(gilmsg.ConfigurationError, match="no engine for the table gilmsg_outbox: give the connection"):
            put(box, session)
        put(box, session.connection(bind_arguments={"mapper": Update}))
        session.commit()
    assert len(waiting(box)) == 1


def test_several_puts_may_share_a_transaction_of_ours(box):
    """transaction() commits them together, or none."""
    with box.transaction() as connection:
        found = [put(box, connection), put(box, connection)]
    with contextlib.suppress(KeyError), box.transaction() as connection:
        put(box, connection)
        raise KeyError
    assert waiting(box) == found


def test_a_forked_child_may_put(box):
    """It opens connections of its own; the parent goes on with its."""
    put(box)
    assert in_a_child(lambda: put(box) and None) == 0
    put(box)
    assert box.counts()["waiting"] == 3


def test_an_error_of_the_database_has_no_body(box):
    """It is SQLAlchemy's, of whatever driver, and has no part of the message in it: it ends in a log."""
    with box.transaction() as connection:
        connection.execute(text("DROP TABLE gilmsg_outbox_recipients"))
    with box.transaction() as connection, pytest.raises(DBAPIError) as shared:
        put(box, connection, msg={"secret": "s3cret"})
    with pytest.raises(DBAPIError) as own:
        put(box, msg={"secret": "s3cret"})
    assert "gilmsg_outbox_recipients" in str(own.value) and "s3cret" not in f"{shared.value} {own.value}"


def test_a_database_that_takes_nothing_is_told_as_it_is(place, box, engine):
    """The error is the database's own; no wrong database is suspected, neither by put nor by an inbox."""
    inbox = gilmsg.outbox.Inbox(place, "handler")
    only = "SET TRANSACTION READ ONLY" if "://" in place else "PRAGMA query_only = 1"
    for write in (lambda where: put(box, where), lambda where: inbox.first(where, {"msg_id": "x"})):
        with engine.connect() as connection:
            connection.exec_driver_sql(only)
            with pytest.raises(DBAPIError, match="read-?only"):
                write(connection)
    inbox.close()
