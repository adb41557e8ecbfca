"""The inbox: a message that comes again is not handled again."""

import asyncio
import contextlib
import json
import logging
import threading
import time

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

import gilmsg

from . import databases
from .helpers import compose, in_threads
from .processes import wait_for
from .test_outbox_put import WAYS, connection, raw, session

MESSAGE = {"topic": "t", "msg_id": "2026-x", "msg": {"a": 1}, "i": 1}


@pytest.fixture
def inbox(place):
    with contextlib.closing(gilmsg.outbox.Inbox(place, "handler")) as inbox:
        yield inbox


def first(inbox, message=MESSAGE):
    """The same in a transaction of its own, committed."""
    with inbox.transaction() as connection:
        return inbox.first(connection, message)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_it_is_true_once(place, inbox, way):
    """Whatever the transaction is given by; one that is rolled back has handled nothing."""
    with way(place, inbox) as (where, _, commit, rollback):
        assert inbox.first(where, MESSAGE) and not inbox.first(where, MESSAGE)
        rollback()
        assert inbox.first(where, MESSAGE)
        commit()
        assert not inbox.first(where, MESSAGE)
        commit()
    assert not first(inbox)


def test_names_have_memories_of_their_own(place, inbox):
    """Two handlers each handle every message, also in one database."""
    assert first(inbox)
    with contextlib.closing(gilmsg.outbox.Inbox(place, "other")) as other:
        assert first(other) and not first(other)


def test_it_takes_what_arrives(inbox):
    """The hub's envelope or the message itself, however often it was signed anew, is one message."""
    message = compose("t", {"n": 1}, crypto="x509")
    assert first(inbox, {"topic": "t", "body": dict(message, signature="one", certificate="old")})
    assert not first(inbox, dict(message, signature="another", certificate="renewed"))
    assert not first(inbox, json.loads(json.dumps(message)))


def test_the_same_id_may_be_another_message(inbox, caplog):
    """It is handled, with a WARNING: by its id alone a stranger's message could swallow ours."""
    assert first(inbox)
    assert [one for one in caplog.records if one.name == "gilmsg.outbox"] == []
    with caplog.at_level(logging.WARNING, "gilmsg.outbox"):
        assert first(inbox, dict(MESSAGE, msg={"a": 2}))
    [record] = [one for one in caplog.records if one.name == "gilmsg.outbox"]
    assert record.levelname == "WARNING" and "2026-x" in record.getMessage()
    assert not first(inbox) and not first(inbox, dict(MESSAGE, msg={"a": 2}))


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_it_waits_for_whoever_handles_it(place, inbox, ends):
    """While another transaction handles the same message nobody knows yet: True if that is rolled back, else False."""
    begun, over = threading.Event(), []

    def second():
        patient = databases.engine(place, connect_args={} if "://" in place else {"timeout": 60})
        with patient as engine, Session(engine) as session, session.begin():
            begun.set()
            found = inbox.first(session, MESSAGE)
            over.append(time.monotonic())
            return found

    def waits():
        """Whether the second is held up: on PostgreSQL the server says so, on SQLite it is by the file's lock."""
        if "://" not in place:
            return begun.is_set()
        with inbox.transaction(reads=True) as connection:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            return connection.exec_driver_sql(waiting).scalar()

    def other():
        with databases.engine(place) as engine, Session(engine) as session:
            assert inbox.first(session, MESSAGE)
            go.set()
            wait_for(waits, "the second waits")
            ended = time.monotonic()
            getattr(session, ends)()
            return ended

    go = threading.Event()
    ended, found = in_threads(other, lambda: go.wait(60) and second())
    assert found is (ends == "rollback") and over[0] > ended


def test_it_works_with_asyncio(place, inbox):
    """Within AsyncSession.run_sync, with drivers that are asynchronous."""

    async def work():
        engine = create_async_engine(place.replace("+psycopg", "+asyncpg") if "://" in place else f"sqlite+aiosqlite:///{place}")
        async with AsyncSession(engine) as session, session.begin():
            found = [await session.run_sync(inbox.first, MESSAGE) for _ in "12"]
        await engine.dispose()
        return found

    assert asyncio.run(work()) == [True, False] and not first(inbox)


def test_it_forgets_what_is_old(place, inbox):
    """purge(days) forgets what this name handled longer ago."""
    with contextlib.closing(gilmsg.outbox.Inbox(place, "other")) as other:
        assert first(inbox) and first(other)
        assert inbox.purge(1) == 0 and not first(inbox)
        assert inbox.purge(0) == 1 and first(inbox) and not first(other)
    for days in (-1, None, True, float("nan"), float("inf")):
        with pytest.raises(gilmsg.ConfigurationError, match="a number of days"):
            inbox.purge(days)


@pytest.mark.parametrize("message", [None, "text", [], {}, {"msg_id": 5}, {"body": None}, {"body": {"topic": "t"}},
                                     {"msg_id": "a\0b"}, {"msg_id": "\ud800"}, {"msg_id": "x", "msg": object}])  # fmt: skip
def test_what_is_no_message_is_refused(tmp_path, message):
    """It is a ConfigurationError: what has no identity would be handled again and again, or never."""
    inbox = gilmsg.outbox.Inbox(tmp_path / "box", "handler")
    with contextlib.closing(inbox), pytest.raises(gilmsg.ConfigurationError, match=r"first\(\) takes a message"):
        first(inbox, message)


@pytest.mark.parametrize("name", ["", None, 5, b"x", "a\0b"])
def test_it_needs_a_name(tmp_path, name):
    """Some text."""
    with pytest.raises(gilmsg.ConfigurationError, match="an inbox needs a name"):
        gilmsg.outbox.Inbox(tmp_path / "box", name)


def test_another_database_is_refused(place, inbox, tmp_path, request):
    """False would lose the message, and True handle it twice."""
    other = str(tmp_path / "other") if "://" not in place else request.getfixturevalue("postgres").url()
    for told in ("there are no tables", "not of this inbox's database"):
        for way in (session, connection, raw):
            with way(other, inbox) as (where, *_), pytest.raises(gilmsg.ConfigurationError, match=told):
                inbox.first(where, MESSAGE)
        theirs = gilmsg.outbox.Inbox(other, "handler")
    assert first(theirs) and first(inbox)
