"""Steps of the outbox that nobody outside can bring about at will."""

import sqlite3
import time
import types

import pytest
from sqlalchemy.exc import OperationalError

import gilmsg
from gilmsg.outbox import database


@pytest.fixture
def locked(tmp_path):
    """A database of somebody's, not written ahead, and the connection that is writing."""
    path = tmp_path / "box"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("CREATE TABLE mine (x)")
    writer.execute("BEGIN IMMEDIATE")
    yield path, writer
    writer.close()


def in_time(monkeypatch, sleep, monotonic=time.monotonic):
    monkeypatch.setattr(database, "time", types.SimpleNamespace(sleep=sleep, monotonic=monotonic, time=time.time))


def test_a_file_that_is_written_is_waited_for(locked, monkeypatch):
    """SQLite refuses at once to write ahead while another writes; the outbox tries again."""
    path, writer = locked
    in_time(monkeypatch, lambda _: writer.execute("COMMIT"))
    gilmsg.outbox.Outbox(path).close()


def test_it_is_not_waited_for_for_ever(locked, monkeypatch):
    """After 10 s the error comes out."""
    now = iter(range(0, 1000, 4))
    in_time(monkeypatch, lambda _: None, lambda: next(now))
    with pytest.raises(OperationalError, match="locked"):
        gilmsg.outbox.Outbox(locked[0])
    assert next(now) > 10
