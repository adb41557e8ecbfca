"""The checker of an outbox's history can fail: histories made by hand, each breaking one rule; and short real runs."""

import os
import tempfile

import pytest

from ... import databases
from ...processes import module
from .history import OPEN, ROLLED_BACK, Done, Handed, History, Put, Stored, check

GOOD = History(
    put=[Put("k1", ("a", "b,c"), msg_id="1"), Put("k2", ("b",), ROLLED_BACK, "2"), Put("k3", ("b",), OPEN)],
    stored=[Stored("k1", "1", "d1", acks=("a", "c"))],
    handed=[Handed("a", "k1", "1", "d1"), Handed("a", "k1", "1", "d1"), Handed("c", "k1", "1", "d1")],
    done=[Done("c", "1")],
    work=["k1"],
    inboxes=("c",),
)


def violations(**changes):
    return check(GOOD._replace(**changes))[1]


def only(text, **changes):
    """Assert that there are violations, and that each says *text*."""
    found = violations(**changes)
    assert found and all(text in one for one in found), found


def test_a_good_history_passes():
    """What was committed is everywhere, what was rolled back or broken off is nowhere; and the figures are right."""
    figures, found = check(GOOD)
    assert found == []
    assert figures == {
        "put: committed": 1, "put: rolled back": 1, "put: open": 1, "put: open, and committed": 0, "failed": 0, "swept": 0,
        "handed over": 3, "handed over again": 1, "rows of handlers": 1,
    }  # fmt: skip


def test_what_is_lost_is_found():
    """A recipient, or each member of a group, that was never handed a message; a message that is not in the outbox."""
    only("never handed to a", handed=GOOD.handed[2:], stored=[GOOD.stored[0]._replace(acks=("c",))])
    only("never handed to b,c", handed=GOOD.handed[:2], stored=[GOOD.stored[0]._replace(acks=("a",))])
    only("committed and not in the outbox", stored=[], done=[], work=[], inboxes=(), put=[GOOD.put[0]._replace(works=False)])


def test_what_was_rolled_back_and_is_there_is_found():
    """In the outbox, with a recipient, or in the application's table."""
    two = Stored("k2", "2", "d2")
    given = Handed("b", "k2", "2", "d2")
    plain = GOOD.put[:1] + [GOOD.put[1]._replace(works=False)]
    only("rolled back, and in the outbox", put=plain, stored=GOOD.stored + [two], handed=GOOD.handed + [given])
    only("never committed, and handed to b", handed=GOOD.handed + [given])
    found = violations(work=["k1", "k2"])
    assert len(found) == 2 and "NOT ATOMIC" in found[0] and "application's row is there" in found[1]


def test_a_broken_off_commit_is_one_or_the_other():
    """With its row, the message is everywhere; without it, nowhere: nothing in between."""
    three, given = Stored("k3", "3", "d3"), Handed("b", "k3", "3", "d3")
    assert violations(stored=GOOD.stored + [three], handed=GOOD.handed + [given], work=["k1", "k3"]) == []
    only("NOT ATOMIC", work=["k1", "k3"])
    only("NOT ATOMIC", stored=GOOD.stored + [three], handed=GOOD.handed + [given])
    only("never handed to b", stored=GOOD.stored + [three], work=["k1", "k3"])
    only("never committed, and handed to b", handed=GOOD.handed + [given])


def test_what_is_left_is_found():
    """A message that still waits, has failed, or is leased."""
    only("left waiting", stored=[GOOD.stored[0]._replace(state="waiting")])
    only("left failed", stored=[GOOD.stored[0]._replace(state="failed")])
    only("left leased", stored=[GOOD.stored[0]._replace(leased=True)])


def test_what_may_fail_may_be_missing():
    """What expires or is dropped; but it is in the outbox, and if it counts as delivered everybody has it."""
    put = [GOOD.put[0]._replace(may_fail=True), *GOOD.put[1:]]
    failed = GOOD.stored[0]._replace(state="failed", acks=())
    assert violations(put=put, stored=[failed], handed=[], done=[]) == violations(put=put, stored=[failed]) == []
    only("never handed to b,c", put=put, handed=GOOD.handed[:2], done=[], stored=[GOOD.stored[0]._replace(acks=("a",))])
    only("committed and not in the outbox", stored=[], inboxes=(), done=[], work=[], put=[put[0]._replace(works=False)])
    only("left leased", put=put, stored=[failed._replace(leased=True)])
    only("left waiting", put=put, stored=[failed._replace(state="waiting")])


def test_what_was_delivered_may_be_swept():
    """Then everybody has it; of what was rolled back nothing is anywhere all the same."""
    gone = {"stored": [], "sweeps": True}
    assert violations(**gone) == []
    only("never handed to a", handed=GOOD.handed[2:], **gone)
    only("NOT ATOMIC", work=[], **gone)
    given = Handed("b", "k3", "3", "d3")
    assert violations(handed=[*GOOD.handed, given], work=["k1", "k3"], **gone) == []
    only("NOT ATOMIC", handed=[*GOOD.handed, given], **gone)
    only("never handed to b", work=["k1", "k3"], **gone)
    only("never committed, and handed to b", handed=[*GOOD.handed, Handed("b", "k2", "2", "d2")], **gone)


def test_an_ack_of_somebody_who_has_nothing_is_found():
    """It would be a false positive."""
    only("FALSE POSITIVE, an ACK of b", stored=[GOOD.stored[0]._replace(acks=("a", "b"))])


def test_another_id_or_digest_is_found():
    """With a recipient, in the outbox, or in what the publisher was told; and an id, or a key, that stands for two."""
    for change in ({"digest": "other"}, {"msg_id": "9"}):
        found = violations(handed=[*GOOD.handed, GOOD.handed[0]._replace(**change)])
        assert any("more than one id or digest" in one for one in found), found
    only("told another id", put=[GOOD.put[0]._replace(msg_id="9")])
    only("stored 2 times", stored=GOOD.stored * 2)
    two = Put("k4", ("a",), msg_id="1"), Stored("k4", "1", "d1"), Handed("a", "k4", "1", "d1")
    only(
        "1 stands for several", put=GOOD.put + [two[0]], stored=GOOD.stored + [two[1]], handed=GOOD.handed + [two[2]],
        work=["k1", "k4"],
    )  # fmt: skip


def test_a_message_for_somebody_else_is_found():
    """One that nobody has put, or that does not name who was handed it."""
    only("nobody has put it", handed=[*GOOD.handed, Handed("a", "k9", "9", "d9")])
    only("handed to d, who is not named", handed=[*GOOD.handed, Handed("d", "k1", "1", "d1")])


def test_a_handler_that_worked_twice_or_not_at_all_is_found():
    """Each row exists once; and only of messages that were committed."""
    only("NOT ONCE, c has handled 1 2 times", done=GOOD.done * 2)
    only("LOST, c was handed 1", done=[])
    only("which is not in the outbox", done=[*GOOD.done, Done("c", "2")])
    assert violations(done=[*GOOD.done, Done("b", "1")]) == [], "killed between its commit and its note"


def run_for(seconds, database, *options):
    """Run it for so long; return what it said, and whether it kept its logs."""
    with tempfile.TemporaryDirectory(prefix="gilmsg-") as folder:
        os.chmod(folder, 0o755)  # PostgreSQL is another user
        words = ["--seconds", str(seconds), "--database", database, *options]
        done = module("tests.faults.outbox", *words, cwd=folder, env={"TMPDIR": folder}, limit=seconds + 520)
        return done, os.listdir(folder)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_short_run(database):
    """Four seconds of faults, among them partitions where there are hosts: the promise holds, and nothing is left behind."""
    if database == "postgresql" and databases.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    done, left = run_for(4, database)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(line.rsplit(None, 1) for line in done.stdout.splitlines() if line[-1].isdigit())
    assert int(figures["put: committed"]) > 0 and int(figures["put: rolled back"]) > 0
    assert int(figures["rows of handlers"]) > 0 and left == []


@pytest.mark.slow
@pytest.mark.long
def test_a_short_run_with_a_recipient_that_breaks_the_promise():
    """A recipient that acknowledges and loses messages is found, and the logs are kept."""
    done, left = run_for(3, "sqlite", "--forgetful")
    assert done.returncode == 1, done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("VIOLATION")]
    assert found and all("alice" in one for one in found) and len(left) == 1
