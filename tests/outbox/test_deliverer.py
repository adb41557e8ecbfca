"""The deliverer's thread, round by round: what it does in which transaction, and what does not end it."""

import contextlib
import logging
import threading
import time

import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import SQLAlchemyError

import gilmsg
from gilmsg._client import prepared
from gilmsg.outbox import delivery
from gilmsg.outbox.attempts import End
from gilmsg.outbox.delivery import Guard

from ..processes import wait_for
from ..test_outbox_delivery import config, put, until

__all__ = ["config"]


@pytest.fixture
def deliverer(box, bus, config):
    """A deliverer whose thread does not run; its rounds are the test's."""
    made = delivery.Deliverer(box, config)
    with contextlib.closing(made._sender):
        yield made


@pytest.fixture
def delivering(box):
    """An outbox that delivers no more in the end."""
    yield box
    box.stop()


def old(box, config):
    """Put a message, and have it delivered eight days ago."""
    msg_id = put(box, config)
    with box.transaction() as connection:
        one = box.tables.messages
        changed = {"state": "delivered", "ended": time.time() - 8 * 86400}
        connection.execute(update(one).where(one.c.msg_id == msg_id).values(changed))
    return msg_id


def learn(deliverer, box, config):
    """Put a message, have it claimed, and have something to store about it."""
    put(box, config)
    with box.transaction() as connection:
        claimed = []
        deliverer._claimer.claim(connection, box.now(connection), 1000, claimed)
    [(claim, _)] = claimed
    deliverer._claimer.release(claim)
    deliverer._ledger.ends.append(End(claim, pause=60.0))


def test_old_rows_go_however_much_there_is_to_do(box, config, deliverer, monkeypatch):
    """Each round that has something to store removes a batch of them too, until there are none; then it is a minute's rest."""
    monkeypatch.setattr("gilmsg.outbox.rows.BATCH", 2)
    for _ in range(3):
        old(box, config)
    for left in (1, 0):
        learn(deliverer, box, config)
        assert deliverer._seconds() == 0.0
        deliverer._round()
        assert box.counts()["delivered"] == left and not deliverer._ledger
    old(box, config)
    learn(deliverer, box, config)
    deliverer._round()
    assert box.counts()["delivered"] == 1


def test_what_is_not_kept_goes_at_once_however_much_it_is(box, bus, config, monkeypatch):
    """Where a store removes a whole batch the others follow in the next rounds, not a minute later."""
    monkeypatch.setattr("gilmsg.outbox.rows.BATCH", 2)
    deliverer = delivery.Deliverer(box, {**config, "gilmsg.outbox.keep": 0})
    with contextlib.closing(deliverer._sender):
        deliverer._round()
        for _ in range(5):
            old(box, config)
        learn(deliverer, box, config)
        deliverer._round()
        assert box.counts()["delivered"] == 1 and deliverer._seconds() == 0.0
        deliverer._round()
        assert box.counts()["delivered"] == 0 and deliverer._seconds() > 0.0


def test_old_rows_are_looked_for_though_nothing_is_due(box, config, deliverer):
    """It wakes up for that, too, where the next look is far."""
    deliverer._round()
    deliverer._looks.clear()
    deliverer._looks.append(time.monotonic() + 3600)
    assert 0 < deliverer._seconds() <= 60


def test_appearances_are_looked_up_once_a_second(box, config, deliverer):
    """Of those only that are waited for, alone or in a group; a second one in the same second is not lost."""
    put(box, config, "bob,alice"), put(box, config, "alice"), put(box, config, "carol")
    for name in ("alice", "mallory"):
        deliverer._take([prepared.Appeared(name)])
    deliverer._look_up(100.0)
    assert [entry for entry, _ in deliverer._rousing] == ["alice", "bob,alice"]
    windows = deliverer._claimer.windows
    assert windows["bob,alice"].appeared == windows["alice"].appeared == 100.0 and not windows["carol"].appeared
    deliverer._take([prepared.Appeared("alice")])
    assert deliverer._look_up_at == 101.0 and deliverer._appeared == {"alice"}


def test_who_has_appeared_just_before_a_stop(delivering, bus, config, monkeypatch):
    """What waits for it is due at once: other deliverers, which have seen it all along, would leave it to its longest pause."""
    bus.dead("alice")
    msg_id = put(delivering, config)
    delivering.start(**config)
    wait_for(lambda: delivering.get(msg_id).attempts and not delivering.get(msg_id).under_way, "it waits for alice")
    assert delivering.get(msg_id).next_attempt > time.time() + 60
    delivering._deliverer._look_up_at = time.monotonic() + 3600  # somebody else has appeared just before
    bus.well("alice")
    wait_for(lambda: "alice" in delivering._deliverer._appeared, "alice has appeared")
    delivering.stop()
    assert delivering.get(msg_id).next_attempt <= time.time()


def test_a_copy_in_a_forked_child_is_not_alive(deliverer, monkeypatch):
    """Under eventlet the child's copy of the thread says that it is: another one can be started there."""
    deliverer._thread = threading.current_thread()
    assert deliverer.alive
    monkeypatch.setattr(delivery.os, "getpid", lambda: -1)
    assert not deliverer.alive
    deliverer.look()
    assert deliverer._news.empty()


def test_a_claim_that_leaves_nothing_is_followed_by_no_other(box, config, deliverer, monkeypatch):
    """What it has leased is due still: to look again at once would take the writer's lock for nothing."""
    put(box, config)
    deliverer._round()
    assert len(deliverer._outgoing.under_way) == 1
    assert not deliverer._claimer.left
    monkeypatch.setattr("gilmsg.outbox.rows.BATCH", 1)
    put(box, config), put(box, config)
    deliverer.look()
    deliverer._gather(0)
    deliverer._round()
    assert deliverer._claimer.left


def test_names_of_strangers_are_bounded(deliverer, monkeypatch):
    """Anybody may announce any number of names."""
    monkeypatch.setattr(delivery, "_MOST_NAMES", 3)
    deliverer._take([prepared.Appeared(str(number)) for number in range(10)])
    assert deliverer._appeared == {"0", "1", "2"}


def failing(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.slow
def test_what_fails_at_the_end_of_an_attempt_does_not_end_the_deliverer(delivering, bus, config, caplog, monkeypatch):
    """It costs that attempt only; the lease ends, and the row is taken up anew."""
    monkeypatch.setattr(prepared.Sender, "explain", failing(RuntimeError("a defect")))
    bus.silent("alice")
    lost = put(delivering, config)
    delivering.start(**config)
    wait_for(lambda: any("the deliverer failed" in one for one in caplog.messages), "it is told")
    until(delivering, put(delivering, config, "bob"))
    monkeypatch.undo()
    bus.well("alice")
    until(delivering, lost)


def test_a_deliverer_that_ends_by_itself_is_told_of(delivering, bus, config, caplog, monkeypatch):
    """In the log, and to the caller of run(); it can be started anew."""
    monkeypatch.setattr(delivery.Deliverer, "_seconds", failing(RuntimeError("a defect")))
    with pytest.raises(gilmsg.ListenerError, match="ended by itself") as raised:
        delivering.run(**config)
    assert isinstance(raised.value.__cause__, RuntimeError)
    delivering.start(**config)
    wait_for(lambda: sum("the deliverer has ended" in one for one in caplog.messages) == 2, "it is told again")
    monkeypatch.undo()
    wait_for(lambda: not delivering._deliverer.alive, "its thread has ended")
    delivering.start(**config)
    until(delivering, put(delivering, config))


def test_each_trouble_is_told(caplog):
    """A database that fails does not hide a defect: each has its line, once a minute."""
    caplog.set_level(logging.WARNING, "gilmsg.outbox")
    guard = Guard()
    for _ in range(2):
        assert not guard.do(failing(SQLAlchemyError("gone")))
        assert not guard.do(failing(ValueError("a defect")))
    wait_for(lambda: len(caplog.messages) == 2, "both are told")
    assert "database" in caplog.messages[0] and "a defect" in caplog.messages[1]


@pytest.fixture
def on_postgresql(postgres):
    """An outbox on PostgreSQL."""
    with contextlib.closing(gilmsg.outbox.Outbox(postgres.url())) as box:
        yield box
        box.stop()


@pytest.mark.slow
@pytest.mark.long
def test_a_row_that_somebody_holds_is_told_of(on_postgresql, bus, config, caplog):
    """An operator's session that has locked a row, and stays idle, stops deliveries; the log says so, and what it is."""
    bus.silent("alice")
    held = put(on_postgresql, config)
    on_postgresql.start(**config)
    wait_for(lambda: on_postgresql.get(held).under_way, "it is under way")
    with on_postgresql.transaction() as other:
        messages = on_postgresql.tables.messages
        other.execute(messages.select().where(messages.c.msg_id == held).with_for_update())
        wait_for(lambda: any("lock timeout" in one for one in caplog.messages), "it is told", 60)
    until(on_postgresql, put(on_postgresql, config, "bob"))


@pytest.mark.slow
def test_no_transaction_waits_for_rows_while_it_holds_some(on_postgresql, bus, config):
    """Or two deliverers could wait for each other: what is stored and what is roused are each locked in one statement."""
    deliverer = delivery.Deliverer(on_postgresql, config)
    with contextlib.closing(deliverer._sender):
        learn(deliverer, on_postgresql, config)
        learn(deliverer, on_postgresql, config)
        deliverer._appeared.add("alice")
        with transactions(on_postgresql.engine) as seen:
            deliverer._round()
        assert deliverer._seconds() == 0.0
        deliverer._round()
        assert len(deliverer._outgoing.under_way) == 2, "what was roused is claimed at once"
    waits = [[one for one in statements if "FOR UPDATE" in one and "SKIP LOCKED" not in one] for statements in seen]
    assert max(map(len, waits)) == 1 and sum(map(len, waits)) == 2


@contextlib.contextmanager
def transactions(engine):
    """Give the statements that are executed on *engine*, by their transactions."""
    seen = []

    def begin(_):
        seen.append([])

    def note(connection, cursor, statement, *_):
        seen[-1].append(statement)

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "begin", begin)
    event.remove(engine, "before_cursor_execute", note)
