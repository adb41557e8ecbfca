"""A deliverer's statements, on each database: turns, leases, results, and how they find their rows."""

import contextlib
import threading
import time

import pytest
from sqlalchemy import event, insert, select, text, update

from gilmsg.errors import Reason
from gilmsg.outbox import rows
from gilmsg.outbox.attempts import End, Ledger
from gilmsg.outbox.claims import Claimer

FAR = 400.0


@pytest.fixture
def claim(box):
    """Claims what is due for one recipient, as another deliverer each time; returns the claims, those that are over first."""

    def claimed(window=100, lease=10.0, claimer=None, most=1000):
        found = []
        with box.transaction() as connection:
            chosen = claimer or Claimer(window, lease)
            over = chosen.claim(connection, box.now(connection), most, found)
        return over + [one for one, _ in found]

    return claimed


@pytest.fixture
def store(box):
    """Stores what a ledger that *fill* has filled holds; returns what has failed."""

    def stored(fill):
        ledger = Ledger()
        fill(ledger)
        with box.transaction() as connection:
            return ledger.store(connection, box.now(connection))

    return stored


def table(box, name="messages", *columns):
    with box.transaction(reads=True) as connection:
        one = getattr(box.tables, name)
        return connection.execute(select(*(one.c[column] for column in columns))).all()


def change(box, **values):
    with box.transaction() as connection:
        connection.execute(update(box.tables.messages).values(values))


def test_turns(box, put):
    """Each set of recipients with rows that wait has one, with its first and last due time; what has ended has none."""
    put("b"), put("a"), put("a"), put("c,d"), put("b", "a"), put("a", "b")
    done = put("e")
    with box.transaction() as connection:
        one = box.tables.messages
        connection.execute(update(one).where(one.c.msg_id == done).values(state="delivered"))
        connection.execute(update(one).where(one.c.turn == "b").values(due=7.0))
        found = rows.turns(connection)
    assert [turn.whose for turn in found] == ["a", "a\nb", "b", "c,d"]
    assert found[2] == ("b", 7.0, 7.0) and found[0].first < found[0].last and found[1].first < found[1].last


def test_a_lease_keeps_others_away_until_it_ends(box, put, claim):
    """And no longer; one that ends later than any can, after the clock was set back, counts as ended."""
    msg_id = put("a", "b")
    [first] = claim()
    assert (first.msg_id, first.missing, first.attempts) == (msg_id, ("a", "b"), 0)
    assert not claim()
    change(box, leased_until=time.time() - 1)
    [second] = claim()
    assert first.token != second.token and table(box, "messages", "lease") == [(second.token,)]
    change(box, leased_until=time.time() + 3600, due=time.time() + 3600)
    [third] = claim()
    assert third.token not in (first.token, second.token)
    change(box, lease=None, leased_until=None, due=time.time() + 60)
    assert not claim()


def test_claims_take_turns(put, claim):
    """A recipient's window bounds what is claimed for it, and no one else; the oldest first."""
    ids = [put("a") for _ in range(10)]
    other = put("b")
    assert [one.msg_id for one in claim(window=4)] == [*ids[:4], other]


def test_claims_take_turns_where_few_may_be_under_way(put, claim):
    """Whoever gets nothing, because others have taken all places, is the first when a place is free."""
    for name in "abB":
        for _ in range(4):
            put(name)
    claimer, served = Claimer(100, 10.0), []
    for _ in range(6):
        [one] = claim(claimer=claimer, most=1)
        claimer.release(one)
        served += one.entries
    assert served == ["B", "a", "b"] * 2


def test_one_that_can_take_no_more_holds_up_only_what_names_it(put, claim):
    """Those that it shares messages with get all others."""
    put("a", "b"), put("a")
    claimer = Claimer(2, 10.0)
    claimer.windows["b"].under_way = 2
    [one] = claim(claimer=claimer)
    assert one.entries == ("a",)
    claimer.windows["b"].under_way = 1
    [one] = claim(claimer=claimer)
    assert one.entries == ("a", "b") and claimer.windows["a"].under_way == claimer.windows["b"].under_way == 2
    claimer.confirm(one, "b")
    claimer.release(one)
    claimer.release(one)
    assert claimer.windows["a"].under_way == claimer.windows["b"].under_way == 1


def test_one_that_is_away_holds_up_nobody_in_its_messages(put, claim):
    """However many wait for it alone: those who are there get as many as their own windows let through."""
    for _ in range(10):
        put("dead")
    for _ in range(10):
        put("dead", "b")
    claimer = Claimer(4, 10.0)
    claimer.windows["dead"].away = True
    claimer.windows["dead"].under_way = 4
    for _ in range(2):
        found = claim(claimer=claimer)
        assert [one.entries for one in found] == [("dead", "b")] * 4
        for one in found:
            claimer.confirm(one, "b")
    assert claimer.windows["dead"].under_way == 12


def test_messages_for_many(put, claim):
    """They take turns by as many names as an index takes; one that is not among these holds them up all the same."""
    names = [f"{number:03}.example.com" for number in range(200)]
    put(*names), put("other")
    claimer = Claimer(2, 10.0)
    claimer.windows[names[-1]].under_way = 2
    [one] = claim(claimer=claimer)
    assert one.entries == ("other",)
    claimer.windows[names[-1]].under_way = 1
    [one] = claim(claimer=claimer)
    assert one.entries == tuple(names)


def test_acks_count_whoever_holds_the_lease(box, put, claim, store):
    """The entry is met by them; the row is ended only under the lease, or where nobody has one."""
    put("a", "b")
    [old] = claim()
    change(box, leased_until=time.time() - 1)
    [new] = claim()

    def heard(ledger):
        ledger.acks.add((old.msg_id, "a"))
        ledger.met.add((old.id, old.msg_id, "a"))
        ledger.ends.append(End(old, 1))
        ledger.ends.append(End(old, why="it cannot be"))
        ledger.ends.append(End(old))
        ledger.ends.append(End(old, 1, 1.0, {"b": Reason("gone", "gone")}))

    assert store(heard) == [] and store(heard) == []
    assert table(box, "acks", "msg_id", "signer") == [(old.msg_id, "a")]
    assert table(box, "messages", "state", "lease", "attempts") == [("waiting", new.token, 0)]
    found = sorted((entry, met is not None, code) for entry, met, code in table(box, "recipients", "entry", "met", "code"))
    assert found == [("a", True, None), ("b", False, None)]
    store(lambda ledger: ledger.ends.append(End(new)))
    store(lambda ledger: ledger.met.add((old.id, old.msg_id, "b")))
    assert table(box, "messages", "state", "lease", "attempts") == [("delivered", None, 0)]
    store(lambda ledger: ledger.ends.append(End(new, why="delivered is final")))
    assert table(box, "messages", "state") == [("delivered",)]


def test_an_attempt_without_all_acks(box, put, claim, store):
    """It is counted, its reasons are kept, and it takes its next turn with what those who are missing have not confirmed."""
    put("a", "b")
    [one] = claim()
    reason = Reason("listening, but silent", "silent")

    def heard(ledger):
        ledger.met.add((one.id, one.msg_id, "a"))
        ledger.ends.append(End(one, 1, 60.0, {"a": reason, "b": reason}))

    store(heard)
    [[turn, due, attempts, lease]] = table(box, "messages", "turn", "due", "attempts", "lease")
    assert (turn, attempts, lease) == ("b", 1, None) and 55 < due - time.time() < 61
    assert dict(table(box, "recipients", "entry", "code")) == {"a": None, "b": "silent"}


@pytest.mark.parametrize("what", ["returned", "unanswered"])
def test_the_acks_of_another_deliverer_count(box, put, claim, store, what):
    """Whoever stored them: the row is delivered at the end of an attempt, or without another one."""
    put("a")
    [one] = claim()
    store(lambda ledger: ledger.met.add((one.id, one.msg_id, "a")) or ledger.acks.add((one.msg_id, "a")))
    if what == "unanswered":
        store(lambda ledger: ledger.ends.append(End(one, 1, 1.0, {"a": Reason("silent", "silent")})))
        assert table(box, "messages", "state", "attempts") == [("delivered", 1)]
    else:
        store(lambda ledger: ledger.ends.append(End(one)))
        assert table(box, "messages", "state", "attempts") == [("delivered", 0)]


def test_late_acks_may_come_to_different_deliverers(box, put, claim, store):
    """Each knows of one only; whoever stores the last ends the row, if nobody has it in hand."""
    put("a", "b")
    for entry, state in ("a", "waiting"), ("b", "delivered"):
        [one] = claim()
        store(lambda ledger, one=one: ledger.ends.append(End(one, 1, -1.0)))
        change(box, lease="somebody's", leased_until=time.time() + 5) if entry == "a" else None

        def heard(ledger, one=one, entry=entry):
            ledger.acks.add((one.msg_id, entry))
            ledger.met.add((one.id, one.msg_id, entry))

        store(heard)
        assert table(box, "messages", "state") == [(state,)]
        change(box, lease=None, leased_until=None)


def test_two_deliverers_store_one_after_the_other(box, put, claim, monkeypatch):
    """One notes the last ACK while the other gives its lease back for want of it: the row is delivered all the same."""
    put("a")
    [old] = claim()
    change(box, leased_until=time.time() - 1)
    [new] = claim()
    mine, theirs = Ledger(), Ledger()
    mine.ends.append(End(new, 1, 300.0, {"a": Reason("silent", "silent")}))
    theirs.acks.add((old.msg_id, "a"))
    theirs.met.add((old.id, old.msg_id, "a"))
    theirs.ends.append(End(old))

    def store(ledger):
        with box.transaction() as connection:
            ledger.store(connection, box.now(connection))

    other, each = threading.Thread(target=store, args=(theirs,)), rows.each

    def between(connection, statement, values):
        if statement is rows.EXPLAIN and values:
            other.start()
            other.join(0.5)  # it has to wait; were it not so, it would be through by then
        each(connection, statement, values)

    monkeypatch.setattr(rows, "each", between)
    store(mine)
    other.join(30)
    assert table(box, "messages", "state") == [("delivered",)]


def test_the_number_of_a_row_may_be_another_messages(box, put, claim, store):
    """SQLite gives it again when the last row was removed: an ACK that comes late must not confirm that one."""
    put("a")
    [old] = claim()
    with box.transaction() as connection:
        connection.execute(box.tables.recipients.delete())
        connection.execute(box.tables.messages.delete())
    put("a")
    [new] = claim()
    if box.engine.dialect.name == "sqlite":
        assert new.id == old.id

    def heard(ledger):
        ledger.acks.add((old.msg_id, "a"))
        ledger.met.add((old.id, old.msg_id, "a"))
        ledger.ends.append(End(old))

    store(heard)
    change(box, lease=None)
    store(lambda ledger: ledger.ends.append(End(old)))
    assert table(box, "recipients", "met") == [(None,)]
    assert table(box, "messages", "state") == [("waiting",)] and table(box, "acks", "msg_id") == []


def test_expiry(box, put, claim, store):
    """The last attempt, or the time, ends it; until then the next attempt comes no later than the time."""
    put("a", expires=30.0)
    [one] = claim()
    silent = {"a": Reason("silent", "silent")}
    assert store(lambda ledger: ledger.ends.append(End(one, 1, 300.0, silent))) == []
    [[due, expires_at]] = table(box, "messages", "due", "expires_at")
    assert due == expires_at
    change(box, due=0.0, expires_at=time.time() - 1)
    [one] = claim()
    [(msg_id, told)] = store(lambda ledger: ledger.ends.append(End(one, 1, 300.0, silent)))
    assert msg_id == one.msg_id and told == "it expired after 2 attempts; not confirmed by: a"
    assert table(box, "messages", "state", "attempts", "reason") == [("failed", 2, told)]


def test_what_has_expired_is_found_whoever_it_waits_for(box, put):
    """Due or not, with room or without; not what is leased, and no more than a batch: of it nothing is lost."""
    put("a"), put("a", expires=3600)
    late, leased = put("a", expires=30.0), put("b", "a", expires=30.0)
    claimer, one = Claimer(1, 10.0), box.tables.messages
    claimer.windows["a"].under_way = 1
    change(box, due=time.time() + 100)

    def found():
        with box.transaction() as connection:
            now = box.now(connection)
            return claimer.finds(connection, now, False), claimer.claim(connection, now, 0, [])

    assert found() == (False, [])
    with box.transaction() as connection:
        connection.execute(update(one).where(one.c.msg_id.in_([late, leased])).values(expires_at=time.time() - 1))
        connection.execute(update(one).where(one.c.msg_id == leased).values(lease="x", leased_until=time.time() + 5))
    finds, [claim] = found()
    assert finds and claim.msg_id == late and claim.missing == ("a",)
    assert found() == (True, [])
    with box.transaction() as connection:
        connection.execute(update(one).where(one.c.lease.is_not(None)).values(leased_until=time.time() - 1))
    assert [claim.msg_id for claim in found()[1]] == [late, leased]


def test_rousing_makes_due_all_that_wait_for_an_entry(box, put, monkeypatch):
    """Whoever's turn it is, in batches; nothing that is met, ended, or due already."""
    monkeypatch.setattr("gilmsg.outbox.rows.BATCH", 2)
    ids = [put("a"), put("b", "a"), put("b"), put("a"), put("a"), put("a")]
    change(box, due=time.time() + 100)
    with box.transaction() as connection:
        one = box.tables.messages
        connection.execute(update(one).where(one.c.msg_id == ids[3]).values(state="failed"))
        assert connection.scalars(rows.UNMET).all() == ["a", "b"]
        last, batches = 0, 0
        while last is not None:
            last, batches = rows.rouse(connection, "a", last, box.now(connection)), batches + 1
        due = dict(connection.execute(select(one.c.msg_id, one.c.due)).all())
    assert batches == 3 and [due[one] <= time.time() for one in ids] == [True, True, False, False, True, True]


def test_sweeping_leaves_what_waits_or_failed(box, put):
    """Only what was delivered before then goes, and all that belongs to it."""
    ids = [put("a") for _ in range(4)]
    with box.transaction() as connection:
        one = box.tables.messages
        for msg_id, state, ended in zip(ids, ["delivered", "delivered", "failed"], [5, 50, 5]):
            connection.execute(update(one).where(one.c.msg_id == msg_id).values(state=state, ended=ended))
        connection.execute(insert(box.tables.acks), [{"msg_id": msg_id, "signer": "a", "at": 1.0} for msg_id in ids])
        assert rows.sweep(connection, "delivered", 10.0) == 1
    assert sorted(table(box, "messages", "msg_id")) == sorted((one,) for one in ids[1:])
    assert len(table(box, "acks", "msg_id")) == len(table(box, "recipients", "entry")) == 3


@contextlib.contextmanager
def recorded(engine):
    """Give the list of what is executed on *engine*."""
    seen = []

    def note(connection, cursor, statement, parameters, context, many):
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def test_what_is_asked_at_each_look_is_found_by_an_index(box, put):
    """However many rows there are: turns, what is due, who is missing, what is old."""
    put("a")
    with box.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        with recorded(box.engine) as asked:
            rows.turns(connection)
            rows.reset(connection, "a", 1.0, 1e12)
            rows.due(connection, "a", time.time(), FAR, 10)
            connection.scalar(rows.FIRST_EXPIRY)
            rows.expired(connection, time.time(), FAR)
            connection.scalars(rows.UNMET).all()
            rows.rouse(connection, "a", 0, 1.0)
            rows.sweep(connection, "delivered", 1.0)
        plans = [plan(connection, *one) for one in asked]
    told = "\n".join(f"{statement}\n{found}" for (statement, _), found in zip(asked, plans))
    for statement, found in zip([one for one, _ in asked], plans):
        assert "Seq Scan" not in found and "SCAN gilmsg" not in found.replace("SCAN gilmsg_outbox USING", ""), told
        assert "due" not in statement.partition("ORDER BY")[2] or "gilmsg_outbox_due" in found, told
        assert "min(expires_at)" not in statement or "gilmsg_outbox_expires" in found, told
        assert "expires_at" not in statement.partition("ORDER BY")[2] or "gilmsg_outbox_expires" in found, told
    assert plans[0].count("gilmsg_outbox_due") >= 3, told  # PostgreSQL shows the step of the recursion only when verbose
    assert any("gilmsg_outbox_unmet" in one for one in plans) and any("gilmsg_outbox_ended" in one for one in plans), told


def plan(connection, statement, parameters):
    """How the database would execute *statement*."""
    explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    found = connection.exec_driver_sql(explain + statement, parameters).all()
    return "\n".join(str(row[-1]) for row in found)


def test_a_claim_is_confirmed_entry_by_entry(put, claim):
    """A signer meets its own entry, and each group that it is in."""
    put("a", "a,b", "b,c")
    [one] = claim()
    claimer = Claimer(1, 10.0)
    claimer.release(one)
    assert claimer.confirm(one, "a") == ["a", "a,b"] and one.missing == ("b,c",)
    assert claimer.confirm(one, "a") == [] and claimer.confirm(one, "c") == ["b,c"] and not one.missing
