"""Delivery from an outbox, over a real bus: what is confirmed when, and what holds it up."""

import collections
import contextlib
import json
import logging
import shutil
import signal
import socket
import sqlite3
import time
import uuid

import pytest
from sqlalchemy import func, select, text, update

import gilmsg

from . import databases
from .helpers import canonical
from .processes import Program, program_words, python, wait_for

#: Seconds for what must come true in the end: CI's machines are slow.
SOON = 30.0


@pytest.fixture
def box(place):
    """An outbox; it delivers no more in the end."""
    with contextlib.closing(gilmsg.outbox.Outbox(place)) as box:
        yield box
        box.stop()


@pytest.fixture
def config(bus, config):
    """Of a deliverer that does not wait long: for no recipient, and for no ACK. What was received before is forgotten."""
    bus.forget()
    return {**config, "gilmsg.head_start": 1.0, "gilmsg.outbox.ack_timeout": 2.0}


def put(box, config, *recipients, where=None, **options):
    more = () if where is None else (where,)
    return box.put(*more, **{"topic": "t", "msg": {}, "recipients": recipients or ["alice"], **config, **options})


def put_many(box, config, count, *recipients):
    """Put so many in one transaction; return their ids."""
    with application(box) as engine, engine.begin() as one:
        return [put(box, config, *recipients, where=one) for _ in range(count)]


def multiply(box, msg_id, count):
    """Put the message of that id so many times more, each with an id of its own, as copies of its rows: in seconds."""
    messages, recipients = box.tables.messages, box.tables.recipients
    with box.transaction() as connection:
        row = connection.execute(select(messages).where(messages.c.msg_id == msg_id)).mappings().one()
        entry = connection.execute(select(recipients).where(recipients.c.message == row["id"])).mappings().one()
        numbers = range(row["id"] + 1, row["id"] + 1 + count)
        # The last group is the origin: by it the ACKs find us.
        ids = {number: f"{msg_id[:5]}{str(uuid.uuid4())[:24]}{msg_id[29:]}" for number in numbers}
        rows = [{**row, "id": number, "msg_id": one, "body": row["body"].replace(msg_id, one)} for number, one in ids.items()]
        connection.execute(messages.insert(), rows)
        connection.execute(recipients.insert(), [{**entry, "message": number} for number in numbers])
        if box.engine.dialect.name == "postgresql":  # its sequence knows nothing of these
            connection.execute(text("SELECT setval(pg_get_serial_sequence('gilmsg_outbox', 'id'), max(id)) FROM gilmsg_outbox"))


def application(box):
    """An application's own engine for the database of *box*."""
    return databases.engine(box.engine.url.render_as_string(False).replace("sqlite:///", ""))


def until(box, *msg_ids, state="delivered", limit=SOON):
    """Wait until all of these are in *state*; return the last."""
    for msg_id in msg_ids:
        until_seen(box, msg_id, lambda one: one.state == state, f"it is {state}", limit)
    return box.get(msg_ids[-1])


def until_seen(box, msg_id, condition, what, limit=SOON):
    wait_for(lambda: condition(box.get(msg_id)), f"{what}: {box.get(msg_id)}", limit)
    return box.get(msg_id)


def counted(bus, name):
    """How often *name* got each message of ours, by its id."""
    return collections.Counter(one["msg_id"] for one in bus.received(name) if one["topic"].endswith(".t"))


def change(box, **values):
    """Change all rows of the messages behind gilmsg's back."""
    with box.transaction() as connection:
        connection.execute(update(box.tables.messages).values(values))


def columns(box, *names):
    """What stands in these columns of the messages, in the order in which these were put."""
    has = box.tables.messages.c
    with box.transaction(reads=True) as connection:
        return connection.execute(select(*(has[name] for name in names)).order_by(has.id)).all()


@contextlib.contextmanager
def deliverer(place, config):
    """A process that delivers."""
    with Program(program_words("deliverer", place, config)) as program:
        program.wait_for("delivering as")
        yield program


def test_what_was_committed_is_confirmed(box, bus, config):
    """Before and after the deliverer starts, by every recipient; the ACKs are stored, and none is asked twice."""
    early = put(box, config, "alice", "bob")
    box.start(**config)
    late = put(box, config, "bob")
    found = until(box, late, early)
    assert found.attempts == 1 and set(found.acks) == {"alice", "bob"} and not found.missing
    assert found.next_attempt is None and found.created <= found.acks["alice"] <= found.ended
    [message] = [one for one in bus.received("alice") if one["msg_id"] == early]
    assert canonical(message).decode() == found.body
    assert counted(bus, "bob")[early] == counted(bus, "bob")[late] == 1


def test_what_is_rolled_back_is_never_sent(box, bus, config):
    """And a commit in the same process wakes the deliverer at once: it need not wait for its next look."""
    box.start(**config, **{"gilmsg.outbox.poll": 3600})
    until(box, put(box, config))  # it has looked, and found the recipient
    with application(box) as engine:
        with engine.connect() as one, one.begin() as transaction:
            undone = put(box, config, where=one)
            transaction.rollback()
        with engine.begin() as one:
            done = put(box, config, where=one)
    until(box, done)
    assert box.get(undone) is None and not counted(bus, "alice")[undone]


def test_a_recipient_that_comes_back_gets_what_waited(box, bus, config):
    """While it is away its messages wait for the longest pause; its appearance makes them due at once."""
    bus.dead("alice")
    ids = [put(box, config) for _ in range(3)]
    box.start(**config)
    waits = until_seen(box, ids[-1], lambda one: one.attempts and not one.under_way, "it waits")
    assert waits.missing["alice"].code in ("gone", "never_connected")
    assert waits.next_attempt - time.time() > 250
    bus.well("alice")
    assert until(box, *ids, limit=15).attempts == 2
    assert counted(bus, "alice") == dict.fromkeys(ids, 1)


def test_a_dead_recipient_does_not_hold_up_its_fellow(box, bus, config):
    """Of several recipients those that confirm are not waited for again; who hears a repetition acknowledges it."""
    bus.dead("bob")
    msg_id = put(box, config, "alice", "bob")
    box.start(**config)
    seen = until_seen(box, msg_id, lambda one: one.attempts, "an attempt is over")
    assert set(seen.acks) == {"alice"} and set(seen.missing) == {"bob"}
    bus.well("bob")
    assert set(until(box, msg_id).acks) == {"alice", "bob"}
    wait_for(lambda: counted(bus, "alice")[msg_id] == 2, "alice has heard the repetition")


def test_a_dead_recipient_does_not_slow_down_its_fellow(box, bus, config):
    """Those who are there get the messages that name it too as fast as ever: more are under way than its window lets through."""
    bus.dead("bob")
    put_many(box, config, 200, "bob", "alice")
    box.start(**{**config, "gilmsg.outbox.window": 5})
    one = box.tables.messages.c

    def under_way():
        with box.transaction(reads=True) as connection:
            return connection.scalar(select(func.count()).where(one.lease.is_not(None)))

    wait_for(lambda: under_way() > 20, "many are under way", SOON)


def test_one_of_a_group_is_enough(box, bus, config):
    """Whoever of it is there confirms; while nobody is, each member's reason is told."""
    bus.dead("alice")
    msg_id = put(box, config, "alice,bob")
    box.start(**config)
    found = until(box, msg_id)
    assert set(found.acks) == {"bob"} and found.recipients == ("alice,bob",)


@pytest.mark.slow
def test_each_attempt_sends_the_same_message(box, bus, config):
    """The id and the digest never change, so an ACK for any attempt counts; pauses double, from one second."""
    bus.silent("alice")
    msg_id = put(box, config)
    box.start(**{**config, "gilmsg.outbox.ack_timeout": 0.5})
    wait_for(lambda: counted(bus, "alice")[msg_id] >= 3, "three attempts")
    assert box.get(msg_id).missing["alice"].code == "silent"
    bus.well("alice")
    until(box, msg_id)
    digests = {canonical(one) for one in bus.received("alice") if one["msg_id"] == msg_id}
    assert digests == {box.get(msg_id).body.encode()}


def test_a_late_ack_counts(box, bus, config):
    """An ACK that comes after its attempt has ended, and before the next begins, is as good."""
    box.start(**{**config, "gilmsg.outbox.ack_timeout": 1.5})
    until(box, put(box, config))  # they have found each other
    bus.slow("alice", 2.0)
    msg_id = put(box, config)
    found = until(box, msg_id)
    assert found.attempts == 1 and counted(bus, "alice")[msg_id] == 1


def test_many_for_a_dead_recipient_do_not_hold_up_another(box, bus, config):
    """Claims take turns among recipients: far more rows than its window lets through do not come before another's one."""
    bus.dead("alice")
    multiply(box, put(box, config), 10_000)
    late = put(box, config, "bob")
    box.start(**config)
    assert until(box, late, limit=15).attempts == 1


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_slow_handlers_do_not_make_it_collapse(box, bus, config):
    """A recipient that takes 0.1 s for each message gets none more than twice: the window adapts."""
    bus.slow("alice", 0.1)
    ids = put_many(box, config, 150)
    box.start(**{**config, "gilmsg.outbox.ack_timeout": 5.0})
    until(box, *ids, limit=120)
    assert max(counted(bus, "alice").values()) <= 2
    assert max(box.get(one).attempts for one in ids) <= 2


@pytest.mark.slow
@pytest.mark.long
def test_another_takes_over_from_a_deliverer_that_was_killed(box, place, bus, config):
    """What it had in hand is free once its lease has ended; the time that an attempt takes, and 5 s."""
    bus.silent("alice")
    msg_id = put(box, config)
    with deliverer(place, config) as first:
        wait_for(lambda: counted(bus, "alice")[msg_id], "it is under way")
        assert box.get(msg_id).under_way
        first.kill()
    bus.well("alice")
    [[lease, leased_until]] = columns(box, "lease", "leased_until")
    assert lease and leased_until - time.time() < 1 + 2 + 5
    box.start(**config)
    until(box, msg_id)
    assert columns(box, "lease", "leased_until") == [(None, None)]
    assert counted(bus, "alice")[msg_id] == 2


@pytest.mark.slow
def test_deliverers_share_the_work(box, place, bus, config):
    """Two of them deliver everything, and send nothing more than twice."""
    with deliverer(place, config), deliverer(place, config):
        ids = put_many(box, config, 300)
        until(box, *ids)
    assert max(counted(bus, "alice").values()) <= 2
    assert not any(lease for lease, in columns(box, "lease"))


def test_sigterm_gives_back_what_has_not_left(box, place, bus, config):
    """It ends with status 0, within ack_timeout and a second; no attempt is counted, the row is free at once."""
    bus.dead("alice")
    msg_id = put(box, config)
    with deliverer(place, {**config, "gilmsg.head_start": 3600.0}) as program:
        until_seen(box, msg_id, lambda one: one.under_way, "it waits for its head start")
        begun = time.monotonic()
        program.send(signal.SIGTERM)
        assert program.end() == 0
        assert time.monotonic() - begun < 3 + 15  # and the end of the process, on a busy machine
        assert "ended" in program.out()
    assert columns(box, "lease", "leased_until", "attempts") == [(None, None, 0)]
    assert box.get(msg_id).next_attempt <= time.time()


def test_a_stop_waits_for_what_is_under_way(box, bus, config):
    """Its ACK is stored; what comes to nothing is noted. A stopped outbox can be started again."""
    bus.slow("alice", 1.0)
    bus.silent("bob")
    ids = [put(box, config), put(box, config, "bob")]
    box.start(**config)
    wait_for(lambda: counted(bus, "alice")[ids[0]] and counted(bus, "bob")[ids[1]], "both are under way")
    begun = time.monotonic()
    box.stop()
    assert time.monotonic() - begun < 3 + 15
    box.stop()
    assert box.get(ids[0]).state == "delivered"
    seen = box.get(ids[1])
    assert (seen.state, seen.under_way, seen.attempts, seen.missing["bob"].code) == ("waiting", False, 1, "silent")
    bus.well("bob")
    box.start(**config)
    with pytest.raises(gilmsg.ConfigurationError, match="delivers already"):
        box.start(**config)
    until(box, ids[1])


def test_the_end_of_a_process_gives_back_what_it_has(box, place, bus, config, tmp_path):
    """Without any stop() of its own: nothing is left leased, and no alert is logged."""
    bus.dead("alice")
    waits = put(box, config)
    done = python(ENDS, tmp_path, place, json.dumps({**config, "gilmsg.head_start": 3600.0}), waits)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "delivering as" in done.stderr and "mended" not in done.stderr and "ERROR" not in done.stderr
    assert columns(box, "lease", "leased_until", "attempts") == [(None, None, 0)]


#: Starts a deliverer, and ends while it has a message in hand.
ENDS = """
import json, logging, sys, time
import gilmsg.outbox
logging.basicConfig(level=logging.INFO)
place, config, waits = sys.argv[1:]
box = gilmsg.outbox.Outbox(place)
box.start(**json.loads(config))
until = time.monotonic() + 60
while not box.get(waits).under_way and time.monotonic() < until:
    time.sleep(0.01)
"""


def test_what_expires_fails(box, bus, config, caplog):
    """After its attempts, or its time: it is kept, with its reason, and one line in the log names it."""
    bus.silent("alice")
    ids = [
        put(box, config, expires=gilmsg.outbox.attempts(2)), put(box, config, expires=1.0),
        put(box, config, "bob", expires=gilmsg.outbox.attempts(1)),
    ]  # fmt: skip
    box.start(**{**config, "gilmsg.outbox.ack_timeout": 0.4})
    until(box, *ids[:2], state="failed")
    until(box, ids[2])
    failed = [box.get(one) for one in ids[:2]]
    assert [one.attempts for one in failed] == [2, 1] or failed[1].attempts == 0
    assert all("expired" in one.reason and "alice" in one.reason and one.next_attempt is None for one in failed)
    box.stop()
    lines = [record for record in caplog.records if record.name == "gilmsg.outbox" and record.levelno == logging.ERROR]
    assert {record.msg_id for record in lines} == set(ids[:2])


def test_what_waits_behind_others_expires_in_time(box, bus, config, caplog):
    """A message for one who is away fails at its time, however many wait before it; that one was not sent is told, too."""
    bus.dead("alice")
    multiply(box, put(box, config), 500)
    msg_id = put(box, config, expires=1.0)
    box.start(**{**config, "gilmsg.outbox.window": 1})
    found = until(box, msg_id, state="failed", limit=15)
    assert found.attempts == 0 and found.reason == "it expired after 0 attempts; not confirmed by: alice"
    wait_for(lambda: any(getattr(one, "msg_id", None) == msg_id for one in caplog.records), "it is logged")
    assert not counted(bus, "alice")


BODIES = {"text": "rubbish", "empty": "{}", "deep": '{"a":' * 100_000, "bytes": b"\xff\xfe", "topic": "topic"}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_corrupt_row_fails_alone(box, bus, config, body):
    """With its reason; those after it are delivered."""
    if isinstance(body, bytes) and box.engine.dialect.name == "postgresql":
        body = "\ufeff"  # PostgreSQL stores no bytes that are no text
    bad = put(box, config)
    if body == "topic":  # half of a surrogate pair, which JSON can express
        body = box.get(bad).body.replace("org.example", "\\ud800")
    change(box, body=body if isinstance(body, str) else "later")
    if isinstance(body, bytes):
        with contextlib.closing(sqlite3.connect(box.engine.url.database)) as raw, raw:
            raw.execute("UPDATE gilmsg_outbox SET body = CAST(? AS TEXT)", [body])
    good = put(box, config)
    box.start(**config)
    until(box, good)
    [[state, reason, attempts], _] = columns(box, "state", "reason", "attempts")
    assert (state, attempts) == ("failed", 0) and "cannot be sent" in reason, bad


def test_a_row_of_another_bus_is_not_sent(box, bus, config, caplog):
    """As in a copied database: that is told once, and those of this bus are delivered."""
    foreign = [put(box, {**config, "environment": "prod"}) for _ in range(2)]
    ours = put(box, config)
    box.start(**config)
    until(box, ours)
    wait_for(lambda: all(due - time.time() > 200 for due, state in columns(box, "due", "state") if state == "waiting"), "they wait")
    box.stop()
    assert all(box.get(one).attempts == 0 and not box.get(one).under_way for one in foreign)
    assert [one for one in caplog.messages if "copied database" in one and "org.example.dev." in one] != []
    assert len([one for one in caplog.messages if "copied database" in one]) == 1


def test_a_clock_that_was_set_back_holds_up_nobody(box, bus, config):
    """A due time, or a lease, that is further ahead than any can be counts as passed."""
    ids = [put(box, config), put(box, config)]
    change(box, due=time.time() + 3600, lease="somebody's", leased_until=time.time() + 3600)
    box.start(**config)
    until(box, *ids)


def test_delivered_rows_go(box, bus, config):
    """With ``gilmsg.outbox.keep`` of 0 at once, else when they are old; and what belongs to them."""
    old = put(box, config)
    box.start(**config)
    until(box, old)
    box.stop()
    change(box, ended=time.time() - 8 * 86400)
    box.start(**config)
    wait_for(lambda: box.get(old) is None, "the old one is gone")
    box.stop()
    box.start(**config, **{"gilmsg.outbox.keep": 0})
    young = put(box, config)
    wait_for(lambda: box.get(young) is None, "the new one is gone")
    assert counted(bus, "alice")[young] == 1
    box.stop()
    with box.transaction(reads=True) as connection:
        for table in (box.tables.messages, box.tables.recipients, box.tables.acks):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_database_that_is_locked_is_waited_for(box, bus, config, caplog):
    """Another writer for a while costs time, and nothing else; a stop meanwhile does not wait for it."""
    box.start(**config)
    until(box, put(box, config))
    msg_id = put(box, config)
    with contextlib.closing(sqlite3.connect(box.engine.url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        box.stop()
        assert time.monotonic() - begun < 2 + 1 + 15
        other.execute("ROLLBACK")
    box.start(**config)
    until(box, msg_id)


@pytest.mark.slow
@pytest.mark.long
def test_a_database_that_goes_is_waited_for(bus, config, caplog):
    """It is told once a minute; when it is back everything goes on."""
    if databases.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with databases.Postgres() as server, contextlib.closing(gilmsg.outbox.Outbox(server.url())) as box:
        box.start(**config)
        until(box, put(box, config))
        server.stop(signal.SIGQUIT)
        wait_for(lambda: any("database of the outbox fails" in one for one in caplog.messages), "it is told")
        server.start()
        msg_id = put(box, config)
        until(box, msg_id)
        box.stop()
    assert len([one for one in caplog.messages if "database of the outbox fails" in one]) == 1


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_must_be_mended_costs_no_attempt(box, bus, config, caplog, tmp_path):
    """A CA that goes, for longer than is bridged, is told once; when it is back that is told too, and everything goes on."""
    caplog.set_level(logging.INFO, "gilmsg.outbox")
    file, elsewhere = tmp_path / "ca.crt", tmp_path / "elsewhere"
    shutil.copy(config["ca_cert_location"], file)
    box.start(**{**config, "ca_cert_location": str(file)})
    until(box, put(box, config))
    for count in (1, 2):
        file.rename(elsewhere)
        wait_for(lambda count=count: told(caplog, "until this is mended") == count, "it is told")
        msg_id = put(box, config)
        until_seen(box, msg_id, lambda one: one.created < time.time() - 2, "there were more looks")
        assert box.get(msg_id).attempts == 0 and not box.get(msg_id).under_way
        assert told(caplog, "that is mended") == count - 1
        elsewhere.rename(file)
        assert until(box, msg_id).attempts == 1
        assert (told(caplog, "until this is mended"), told(caplog, "that is mended")) == (count, count)


def told(caplog, words):
    """How many lines hold these *words*."""
    return len([one for one in caplog.messages if words in one])


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_what_is_no_text_hides_nothing_else(box, bus, config):
    """Where somebody has damaged topic, turn and recipient of a row the others are sent, and each can be listed."""
    bad = put(box, config)
    with contextlib.closing(sqlite3.connect(box.engine.url.database)) as raw, raw:
        raw.execute("UPDATE gilmsg_outbox SET topic = CAST(x'ff' AS TEXT), turn = CAST(x'ff' AS TEXT)")
        raw.execute("UPDATE gilmsg_outbox_recipients SET entry = CAST(x'ff' AS TEXT)")
    box.start(**config)
    bus.dead("alice")
    good = put(box, config)
    bus.well("alice")  # who appears is looked for among all recipients
    until(box, good)
    assert [(one.msg_id, one.topic) for one in box.list()] == [(bad, "\ufffd")]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_deliverer_that_cannot_start_keeps_no_port(box, bus, config, tmp_path):
    """What it has opened by then is closed."""
    with pytest.raises(gilmsg.ConfigurationError, match="ca_cert_location"):
        box.start(**{**config, "ca_cert_location": str(tmp_path / "none")})
    port = int(config["endpoints"][config["name"]][0].rpartition(":")[2])
    with contextlib.closing(socket.create_server(("127.0.0.1", port))):
        pass


def test_bad_settings_are_told_at_once(box, bus, config):
    """By start and run, before anything is opened."""
    for changes, words in (
        ({"gilmsg.outbox.window": 0}, "gilmsg.outbox.window must be a whole number of at least 1; it is 0"),
        ({"gilmsg.outbox.pol": 1}, "there is no setting 'gilmsg.outbox.pol'"), ({"name": "nobody"}, "the name 'nobody'"),
    ):  # fmt: skip
        for begin in (box.start, box.run):
            with pytest.raises(gilmsg.ConfigurationError, match=words):
                begin(**{**config, **changes})
