"""Bad days of an outbox: what goes wrong around it costs time, and nothing else."""

import contextlib
import os
import signal
import sqlite3
import threading
import time

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

import gilmsg

from ... import databases, processes
from ...processes import wait_for
from ...test_outbox_delivery import columns, counted, deliverer, multiply, put, until, until_seen

on_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("to mount a disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = processes.run(["mount", "-t", "tmpfs", "-o", "size=2m", "gilmsg-test", str(folder)])
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr}")
    yield folder
    assert processes.run(["umount", str(folder)]).returncode == 0


def fill(path):
    """Leave no room beside the file *path*."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def delivered(box):
    return box.counts()["delivered"]


@pytest.mark.slow
@pytest.mark.long
def test_a_full_disk(small_disk, bus, config, caplog):
    """put() raises, and what it raised for is never sent; what was committed before is delivered once there is room."""
    with contextlib.ExitStack() as stack:
        box = gilmsg.outbox.Outbox(small_disk / "outbox.sqlite")
        stack.callback(box.close)
        stack.callback(box.stop)
        box.start(**config)
        bus.silent("alice")
        committed, failed = [put(box, config)], 0
        until_seen(box, committed[0], lambda one: one.under_way, "it is under way")
        fill(small_disk / "ballast")
        bus.well("alice")
        while failed < 3:
            try:
                committed.append(put(box, config, msg={"much": "x" * 10_000}))
            except DBAPIError as error:
                assert "full" in str(error)
                failed += 1
        assert box.counts()["waiting"] + delivered(box) == len(committed)
        wait_for(lambda: any("database of the outbox fails" in one for one in caplog.messages), "it is told")
        os.remove(small_disk / "ballast")
        until(box, *committed)
        assert set(counted(bus, "alice")) >= set(committed)
        assert box.counts() == {"waiting": 0, "delivered": len(committed), "failed": 0}


@on_sqlite
@pytest.mark.slow
@pytest.mark.long
def test_another_writer_for_ten_seconds(box, bus, config):
    """An ACK that comes meanwhile is stored afterwards, though the lease has ended; put() waits for its turn."""
    bus.slow("alice", 1.0)
    box.start(**{**config, "gilmsg.outbox.ack_timeout": 4.0})  # and the lease is 10 s
    msg_id = put(box, config)
    wait_for(lambda: counted(bus, "alice")[msg_id], "it is under way")
    with contextlib.closing(sqlite3.connect(box.engine.url.database, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(3.0)  # so long the other one takes, whatever happens here
        late = []
        thread = threading.Thread(target=lambda: late.append(put(box, config, "bob")))
        thread.start()
        time.sleep(7.0)
        other.execute("COMMIT")
    thread.join()
    assert late
    until(box, msg_id, *late)
    # A deliverer that waited for the lock when the ACK came takes up the row anew: its own lease has ended.
    assert box.get(msg_id).attempts == 1 and counted(bus, "alice")[msg_id] <= 2


@pytest.mark.slow
@pytest.mark.long
def test_a_database_that_goes_while_a_message_is_under_way(bus, config):
    """The ACK that comes meanwhile is stored when it is back; put() raises until then, and nothing of that is sent."""
    if databases.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    bus.slow("alice", 1.0)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(databases.Postgres())
        box = gilmsg.outbox.Outbox(server.url())
        stack.callback(box.close)
        stack.callback(box.stop)
        box.start(**{**config, "gilmsg.outbox.ack_timeout": 4.0})
        msg_id = put(box, config)
        wait_for(lambda: counted(bus, "alice")[msg_id], "it is under way")
        server.stop(signal.SIGQUIT)
        with pytest.raises(DBAPIError):
            put(box, config)
        server.start()
        found = until(box, msg_id)
        assert found.attempts == 1 and counted(bus, "alice") == {msg_id: 1}
        assert box.counts() == {"waiting": 0, "delivered": 1, "failed": 0}


@on_sqlite
def test_a_clock_that_is_set_back_an_hour(box, bus, config, monkeypatch):
    """What waits for its next attempt does not wait for an hour; nor does what a dead deliverer had leased."""
    bus.silent("alice")
    waits, leased = put(box, config), put(box, config, "bob")
    with box.transaction() as connection:
        one = box.tables.messages
        connection.execute(one.update().where(one.c.msg_id == leased).values(lease="dead", leased_until=time.time() + 8))
    box.start(**config)
    until_seen(box, waits, lambda one: one.attempts and not one.under_way, "it waits")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    bus.well("alice")
    until(box, waits, leased, put(box, config))


def test_a_deliverer_that_stops_leaves_an_absent_recipient_to_others(box, bus, config):
    """They may have seen it come already: what the one that stops did not deliver is due soon, not after the longest pause."""
    bus.dead("alice")
    msg_id = put(box, config, "alice", "bob")
    box.start(**config)
    wait_for(lambda: counted(bus, "bob")[msg_id], "it is under way")
    box.stop()
    found = box.get(msg_id)
    assert found.attempts and set(found.missing) == {"alice"}
    assert found.next_attempt - time.time() < 10


@pytest.mark.parametrize("harm", ["another id", "no recipients", "a part"])
def test_a_corrupt_row(box, bus, config, harm):
    """It fails with its reason, and was sent to nobody; those before and after it are delivered."""
    before, bad, after = put(box, config), put(box, config), put(box, config)
    messages, recipients = box.tables.messages, box.tables.recipients
    with box.transaction() as connection:
        [row] = connection.execute(select(messages).where(messages.c.msg_id == bad))
        change = messages.update().where(messages.c.id == row.id)
        if harm == "another id":
            connection.execute(change.values(body=row.body.replace(bad, before)))
        elif harm == "a part":
            connection.execute(change.values(body=row.body[:-20]))
        else:
            connection.execute(recipients.delete().where(recipients.c.message == row.id))
    box.start(**config)
    until(box, before, after)
    assert "cannot be sent" in until(box, bad, state="failed").reason
    assert counted(bus, "alice") == {before: 1, after: 1}


@pytest.mark.slow
@pytest.mark.long
def test_100_000_rows(box, bus, config):
    """They hold up neither another's one row nor a stop; when their recipient comes it gets one after the other at once."""
    bus.dead("alice")
    multiply(box, put(box, config), 100_000)
    box.start(**config)
    began = time.monotonic()
    assert until(box, put(box, config, "bob"), limit=15).attempts == 1
    bus.well("alice")
    wait_for(lambda: delivered(box) > 3000, f"many are delivered: {box.counts()}", 120)
    assert until(box, put(box, config, "bob"), limit=15).attempts == 1
    print(f"{delivered(box)} after {time.monotonic() - began:.1f} s")
    stopped = time.monotonic()
    box.stop()
    assert time.monotonic() - stopped < 2 + 1 + 15
    assert not any(lease for lease, in columns(box, "lease"))
    assert max(counted(bus, "alice").values()) <= 2


def stop_idle(program, box):
    """Stop it where it has no transaction open: on SQLite that would keep out everybody, for as long as it stands still."""

    def idle():
        program.send(signal.SIGSTOP)
        if box.engine.dialect.name != "sqlite":
            return True
        other = sqlite3.connect(box.engine.url.database, isolation_level=None, timeout=1)
        with contextlib.closing(other), contextlib.suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
            return True
        program.send(signal.SIGCONT)
        return False

    wait_for(idle, "it has no transaction open")


@pytest.mark.slow
@pytest.mark.long
def test_a_deliverer_that_was_stopped_for_longer_than_its_lease(box, place, bus, config):
    """Another takes over; the first one, when it goes on, changes nothing of that, and delivers what is put then."""
    bus.silent("alice")
    msg_id = put(box, config)
    with deliverer(place, config) as first:
        wait_for(lambda: counted(bus, "alice")[msg_id], "it is under way")
        stop_idle(first, box)
        box.start(**{**config, "gilmsg.outbox.ack_timeout": 8.0})
        [[leased]] = columns(box, "lease")
        wait_for(lambda: counted(bus, "alice")[msg_id] == 2, "the second has taken over")
        wait_for(lambda: columns(box, "lease") not in ([(leased,)], [(None,)]), "it has leased it")
        taken = columns(box, "lease", "leased_until")
        first.send(signal.SIGCONT)
        until(box, put(box, config, "bob"))
        wait_for(lambda: columns(box, "lease")[0] != taken[0][:1] or box.get(msg_id).attempts, "an attempt has ended")
        bus.well("alice")
        until(box, msg_id)
        box.stop()
        last = put(box, config, "bob")
        until(box, last)
        assert first.alive and not any(lease for lease, in columns(box, "lease"))
    assert box.get(msg_id).attempts == counted(bus, "alice")[msg_id] - 1, "the attempt that lost its lease is not counted"
