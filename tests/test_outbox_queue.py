"""What operators see of an outbox, and do: get, list, counts, retry, drop, purge."""

import contextlib
import time

import pytest
from sqlalchemy import insert, select, update

import gilmsg


@pytest.fixture
def box(place):
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        yield box


def put(box, *where, **options):
    config = {"topic": "t", "recipients": ["alice", "b,c"], "topic_prefix": "org.example", "environment": "dev"}
    return box.put(*where, **{**config, "endpoints": {}, **options})


def change(box, *msg_ids, **values):
    """Do to messages what a deliverer does."""
    messages = box.tables.messages
    with box.transaction() as connection:
        connection.execute(update(messages).where(messages.c.msg_id.in_(msg_ids)).values(values))


def fail(box, *msg_ids, ago=0.0):
    change(box, *msg_ids, state="failed", reason="it expired", ended=time.time() - ago, attempts=5, most_attempts=5)


def states(box):
    return {state: count for state, count in box.counts().items() if count}


def ids(box, *states):
    return [message.msg_id for message in box.list(*states)]


def test_a_message_is_seen_as_it_stands(box):
    """State, attempts, ACKs, and of whoever is missing the reason of the last attempt."""
    msg_id = put(box)
    change(box, msg_id, attempts=2, due=5.0, lease="me", leased_until=time.time() + 60)
    recipients, acks = box.tables.recipients, box.tables.acks
    with box.transaction() as connection:
        connection.execute(insert(acks).values(msg_id=msg_id, signer="c", at=7.0))
        connection.execute(update(recipients).where(recipients.c.entry == "b,c").values(met=7.0))
        connection.execute(update(recipients).where(recipients.c.entry == "alice").values(code="gone", reason="it left"))
    found = box.get(msg_id)
    assert (found.state, found.under_way, found.attempts, found.next_attempt) == ("waiting", True, 2, 5.0)
    assert found.acks == {"c": 7.0} and found.missing == {"alice": "it left"} and found.missing["alice"].code == "gone"
    change(box, msg_id, state="delivered", ended=8.0, lease=None, leased_until=None)
    found = box.get(msg_id)
    assert (found.under_way, found.next_attempt, found.ended, found.reason) == (False, None, 8.0, None)
    assert box.get("nobody's") is None


def test_a_list_is_in_order_and_without_bodies(box):
    """By default what waits, oldest first, over any number of batches; a state that there is not is refused."""
    with box.transaction() as connection:
        found = [put(box, connection) for _ in range(1100)]
    fail(box, *found[:2])
    change(box, found[5], state="delivered", ended=time.time())
    assert ids(box) == found[2:5] + found[6:]
    assert ids(box, "failed") == found[:2] and ids(box, "delivered", "failed") == [*found[:2], found[5]]
    assert {message.body for message in box.list()} == {None}
    assert states(box) == {"waiting": 1097, "delivered": 1, "failed": 2}
    with pytest.raises(gilmsg.ConfigurationError, match="no state 'wating'"):
        box.list("wating")


def test_a_list_holds_up_nobody(box):
    """While it is read messages may come and go."""
    with box.transaction() as connection:
        found = [put(box, connection) for _ in range(600)]
    listed = box.list()
    next(listed)
    assert box.drop(found[-1]) == (found[-1],)
    more = put(box)
    assert [message.msg_id for message in listed] == [*found[1:-1], more]


def test_retry_lets_failed_ones_wait_anew(box):
    """Due at once, their attempts counted from nothing; of others nothing is changed."""
    failed, waits, delivered = put(box, expires=60), put(box), put(box)
    fail(box, failed)
    change(box, delivered, state="delivered", ended=1.0)
    recipients = box.tables.recipients
    with box.transaction() as connection:
        connection.execute(update(recipients).where(recipients.c.entry == "alice").values(met=1.0))
    before = box.get(waits)
    assert box.retry(iter([delivered, failed, waits, "nobody's", failed])) == (failed,)
    found = box.get(failed)
    assert (found.state, found.attempts, found.ended, found.reason) == ("waiting", 0, None, None)
    assert (found.most_attempts, found.expires_at) == (None, None) and abs(found.next_attempt - time.time()) < 5
    assert box.get(waits) == before
    assert box.retry([]) == () == box.retry(failed)


def test_drop_gives_up_waiting_ones(box):
    """They have failed, and no deliverer holds them any more; failed and delivered ones are left alone."""
    waits, delivered = put(box), put(box)
    change(box, waits, lease="me", leased_until=time.time() + 60)
    change(box, delivered, state="delivered", ended=1.0)
    assert box.drop([waits, delivered]) == (waits,)
    found = box.get(waits)
    assert (found.state, found.reason, found.under_way) == ("failed", "dropped", False)
    assert abs(found.ended - time.time()) < 5
    assert box.drop(waits) == () and states(box) == {"delivered": 1, "failed": 1}


def test_purge_removes_what_has_ended(box):
    """Failed ones, or delivered ones, of a certain age, with all that belongs to them; waiting ones never."""
    with box.transaction() as connection:
        old = [put(box, connection) for _ in range(700)]
    new, delivered, waits = put(box), put(box), put(box)
    fail(box, *old, ago=100)
    fail(box, new)
    change(box, delivered, state="delivered", ended=time.time() - 100)
    acks, recipients = box.tables.acks, box.tables.recipients
    with box.transaction() as connection:
        connection.execute(insert(acks), [{"msg_id": one, "signer": "alice", "at": 1.0} for one in (old[0], new)])
    assert box.purge(older=50) == 700
    assert states(box) == {"waiting": 1, "failed": 1, "delivered": 1}
    with box.transaction(reads=True) as connection:
        assert connection.scalars(select(acks.c.msg_id)).all() == [new]
        assert len(connection.scalars(select(recipients.c.message)).all()) == 6
    assert (box.purge("delivered", 500), box.purge("delivered")) == (0, 1)
    assert box.purge() == 1 and ids(box, "waiting", "failed", "delivered") == [waits]
    with pytest.raises(gilmsg.ConfigurationError, match="drop those that wait"):
        box.purge("waiting")
    for seconds in (-1, None, float("nan")):
        with pytest.raises(gilmsg.ConfigurationError, match="a number of seconds"):
            box.purge(older=seconds)


def test_an_id_that_no_database_holds_is_that_of_no_message(box):
    """It is asked for in vain, and changes nothing."""
    for msg_id in ("a\0b", "\ud800"):
        assert box.get(msg_id) is None and box.retry([msg_id]) == box.drop(msg_id) == ()
