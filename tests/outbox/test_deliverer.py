"""The deliverer's thread, round by round: what it does in which transaction, and what does not end it."""

import contextlib
import time

import pytest
from sqlalchemy import select, update

from gilmsg.outbox import delivery

from ..test_outbox_delivery import config, put

__all__ = ["config"]


@pytest.fixture
def deliverer(box, bus, config):
    """A deliverer whose thread does not run; its rounds are the test's."""
    made = delivery.Deliverer(box, config)
    with contextlib.closing(made._sender):
        yield made


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
