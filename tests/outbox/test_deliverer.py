"""The deliverer's thread, round by round: what it does in which transaction, and what does not end it."""

import contextlib
import logging
import time

import pytest
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError

import gilmsg
from gilmsg._client import prepared
from gilmsg.outbox import delivery
from gilmsg.outbox.guard import Guard

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
        deliverer._claimer.claim(connection, box.now(connection), time.monotonic(), claimed)
    [(claim, _)] = claimed
    deliverer._claimer.free(claim)
    deliverer._ledger.returned.append((claim, 60.0))


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


def test_old_rows_are_looked_for_though_nothing_is_due(box, config, deliverer):
    """It wakes up for that, too, where the next look is far."""
    deliverer._round()
    deliverer._looks.clear()
    deliverer._looks.append(time.monotonic() + 3600)
    assert 0 < deliverer._seconds() <= 60


def failing(error):
    def fail(*_):
        raise error

    return fail


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
