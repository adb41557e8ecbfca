"""The checker can fail: histories made by hand, each breaking one rule; and one short real run."""

import os

import pytest

from ..processes import module
from .history import EVERYBODY, LATE_END, MARGIN, RECOVERY, Call, Fault, Noted, check
from .plan import PARTITIONS, plan

GOOD = Call("p", 100.0, 100.1, ("a", "b,c"), "success", "1", acks=("a", "c"))
TIMEOUT = Call("p", 100.0, 101.0, ("a",), "timeout", "1", missing=("a",))


def received(*pairs, at=100.05):
    """The notes of recipients that acknowledged, and then were handed, each of (recipient, msg_id)."""
    return [Noted(name, what, msg_id, at) for name, msg_id in pairs for what in ("ack", "handed")]


HANDED = received(("a", "1"), ("c", "1"))


def violations(calls, noted=(), faults=()):
    return check(list(calls), list(noted), list(faults)).violations


def one_violation(text, *history):
    found = violations(*history)
    assert len(found) == 1 and text in found[0], found


def test_a_good_history_passes():
    """Successes that are in the logs, a Timeout with a fault: no violation, and right figures."""
    faults = [Fault("stop", "a", 200.0, 201.0)]
    late = TIMEOUT._replace(began=200.5, ended=201.5, msg_id="2")
    verdict = check([GOOD, late], HANDED, faults)
    assert verdict.violations == []
    assert verdict.figures == {
        "publishes": 2, "outcome: success": 1, "outcome: timeout": 1, "timeouts explained": 1,
        "faults: stop": 1, "ACKs sent": 2, "handed over": 2,
    }


def test_success_without_an_ack():
    """A success needs an ACK of each entry; of a group, of a member."""
    one_violation("without an ACK of a", [GOOD._replace(acks=("c",))], HANDED)
    one_violation("without an ACK of b,c", [GOOD._replace(acks=("a",))], HANDED)
    assert violations([GOOD._replace(acks=("a", "b"))], received(("a", "1"), ("b", "1"))) == []


def test_ack_of_somebody_who_was_not_named():
    """An ACK of a stranger must not be counted."""
    stranger = GOOD._replace(acks=("a", "c", "d"))
    one_violation("d acknowledged and was not named", [stranger], HANDED + received(("d", "1")))


@pytest.mark.parametrize("outcome", ["success", "timeout"])
def test_an_ack_that_nobody_sent(outcome):
    """An ACK, even in a call that failed for another recipient, must be one that its recipient noted."""
    call = Call("p", 100.0, 100.1, ("a",), outcome, "1", acks=("a",), missing=())
    if outcome == "timeout":
        call = call._replace(recipients=("a", "b"), missing=("b",))
    fault = [Fault("stop", "b", 99.0, 101.0), Fault("kill", "a", 100.05, 103.0, dead=100.06)]
    one_violation("that it did not send", [call], received(("a", "2"), ("b", "1")), fault)
    assert violations([call], received(("a", "1")), fault) == []


def test_ack_without_hand_over():
    """What a recipient acknowledges is what its thread is handed next, even if no publisher got the ACK."""
    ack, handed = received(("a", "1"))
    other = received(("a", "2"))
    one_violation("not handed over", [], [ack])
    one_violation("not handed over", [], [ack] + other)
    one_violation("not handed over", [], [ack, ack, handed])
    assert len(violations([], [ack, handed._replace(thread="another")])) == 2
    interleaved = [note._replace(thread="another") for note in other]
    assert violations([], [ack, interleaved[0], handed, interleaved[1]]) == []


def test_hand_over_without_an_ack():
    """The ACK comes first, and each hand-over has one of its own."""
    ack, handed = received(("a", "1"))
    one_violation("without an ACK before", [], [handed])
    one_violation("without an ACK before", [], [ack, handed, handed])
    assert len(violations([], [handed, ack])) == 2


@pytest.mark.parametrize("began, dead, excused", [
    (100.06, 100.07, True),
    (100.9, 101.2, True),
    (99.0, 100.06, True),
    (98.0, 99.9, False),
    (101.2, 101.3, False),
    (100.06, None, False),
])
def test_a_crash_between_ack_and_hand_over(began, dead, excused):
    """Only a crash of that recipient right after its ACK excuses that nothing was handed over."""
    crash = Fault("kill", "a", began, 103.0, dead=dead)
    ack, _handed = received(("a", "1"))
    rest = received(("c", "1"))
    found = check([GOOD], [ack] + rest, [crash])
    assert bool(found.violations) != excused
    assert found.figures.get("ACKs before a crash, not handed over", 0) == excused
    one_violation("not handed over", [GOOD], [ack] + rest, [crash._replace(who="c")])
    # The same thread went on: so it was not the crash.
    one_violation("not handed over", [], [ack] + received(("a", "2")), [crash])


def test_a_stall_between_ack_and_crash():
    """While the whole machine stands still nothing can be handed over: that time does not count."""
    ack, _ = received(("a", "1"))
    crash = Fault("kill", "a", 103.2, 104.0, dead=103.3)
    stall = Fault("stall", EVERYBODY, 100.06, 103.0, still=True)
    one_violation("not handed over", [], [ack], [crash])
    one_violation("not handed over", [], [ack], [crash, stall._replace(began=98.0, ended=100.0)])
    assert violations([], [ack], [crash, stall]) == []


def test_a_call_that_never_ends():
    """Only the death of its publisher excuses a call without an end."""
    call = Call("p", 100.0, None, ("a",), "open")
    one_violation("never ended", [call])
    one_violation("never ended", [call], [], [Fault("stop", "p", 100.5, 101.0)])
    one_violation("never ended", [call], [], [Fault("kill", "a", 100.5, 101.0, dead=100.6)])
    one_violation("never ended", [call], [], [Fault("kill", "p", 98.5, 101.0, dead=98.6)])
    assert violations([call], [], [Fault("kill", "p", 100.5, 101.0, dead=100.6)]) == []


def test_a_call_that_ends_late():
    """Head start, ack_timeout and margin are the limit; a stopped publisher's time does not count."""
    call = GOOD._replace(began=90.0, ended=90.0 + 3.0 + MARGIN + 0.5, ack_timeout=1.0, head_start=2.0)
    one_violation("too late", [call], HANDED)
    stop = Fault("stop", "p", 91.0, 91.6, still=True)
    assert violations([call], HANDED, [stop]) == []
    assert violations([call], HANDED, [stop._replace(who=EVERYBODY)]) == []
    one_violation("too late", [call], HANDED, [stop._replace(who="a")])
    one_violation("too late", [call], HANDED, [stop._replace(still=False)])
    one_violation("too late", [call], HANDED, [stop._replace(ended=91.3)])


@pytest.mark.parametrize("fault, explained", [
    (Fault("stop", "a", 99.0, 99.5), True),
    (Fault("stop", "a", 100.9, 105.0), True),
    (Fault("stop", "a", 101.1, 105.0), False),
    (Fault("stop", "b", 99.0, 105.0), False),
    (Fault("stop", "p", 99.0, 99.5), True),
    (Fault("stop", "q", 99.0, 105.0), False),
    (Fault("stop", "a", 80.0, 100.1 - RECOVERY), True),
    (Fault("stop", "a", 80.0, 99.9 - RECOVERY), False),
    (Fault("stall", EVERYBODY, 99.0, 99.5), True),
    (Fault("stall", EVERYBODY, 80.0, 96.0), False),
    (Fault("partition from one peer", "a", 99.0, 105.0, peer="p"), True),
    (Fault("partition from one peer", "a", 99.0, 105.0, peer="q"), False),
    (Fault("partition from one peer", "p", 99.0, 105.0, peer="a"), True),
    (Fault("partition from one peer", "p", 99.0, 105.0, peer="b"), False),
])
def test_a_timeout_needs_a_fault_in_its_window(fault, explained):
    """A fault explains what overlaps it, at those whom it concerns, until RECOVERY after its end."""
    if explained:
        assert violations([TIMEOUT], [], [fault]) == []
    else:
        one_violation("a is missing without a fault", [TIMEOUT], [], [fault])


def test_an_ack_closes_the_window():
    """Once the publisher has an ACK for what it sent after a crash, the crash explains no more."""
    fault = Fault("kill", "a", 80.0, 95.0, dead=80.1)
    answered = Call("p", 96.0, 96.1, ("a",), "success", "0", acks=("a",))
    handed = received(("a", "0"))
    one_violation("without a fault", [answered, TIMEOUT], handed, [fault])
    one_violation("without a fault", [answered, TIMEOUT], handed, [Fault("start", "a", 80.0, 95.0)])
    before = answered._replace(began=94.0)
    assert violations([before, TIMEOUT], handed, [fault]) == []
    other = answered._replace(publisher="q")
    assert violations([other, TIMEOUT], handed, [fault]) == []


def test_a_connection_that_lived_through_a_fault_may_end_late():
    """After a partition or a stop an ACK closes the window only when no timer of that time can end a connection."""
    answered = Call("p", 96.0, 96.1, ("a",), "success", "0", acks=("a",))
    handed = received(("a", "0"))
    for kind in ("partition", "stop"):
        fault = Fault(kind, "a", 80.0, 100.1 - LATE_END)
        assert violations([answered, TIMEOUT], handed, [fault]) == []
        one_violation("without a fault", [answered, TIMEOUT], handed, [fault._replace(ended=99.9 - LATE_END)])


def test_figures_in_seconds():
    """Measured are the longest overrun and, undisturbed, the time from a fault to the first ACK after it."""
    fault = Fault("stop", "a", 80.0, 95.0)
    missed = TIMEOUT._replace(began=94.0, ended=95.25)
    answered = Call("p", 96.0, 96.5, ("a",), "success", "0", acks=("a",))
    verdict = check([missed, answered], received(("a", "0")), [fault])
    assert verdict.violations == []
    assert verdict.seconds == {"longest overrun": 0.25, "longest recovery: stop": 1.5}
    other = Fault("stop", "p", 95.5, 95.6)
    seconds = check([missed, answered], received(("a", "0")), [fault, other]).seconds
    assert "longest recovery: stop" not in seconds


def test_a_group_is_missing_only_if_each_member_may_be():
    """A group whose other member is well must have answered."""
    call = TIMEOUT._replace(recipients=("a,b",), missing=("a,b",))
    faults = [Fault("stop", "a", 99.0, 105.0), Fault("stop", "b", 99.0, 105.0)]
    one_violation("a,b is missing", [call], [], faults[:1])
    assert violations([call], [], faults) == []


def test_other_exceptions_are_violations():
    """Whatever else publish raises is wrong, fault or not; so is a Timeout of nobody."""
    error = TIMEOUT._replace(outcome="error", missing=(), error="ListenerError()")
    one_violation("ListenerError", [error], [], [Fault("stop", "a", 99.0, 105.0)])
    one_violation("nobody is missing", [TIMEOUT._replace(missing=())])


def test_the_plan_follows_from_the_seed():
    """The same seed gives the same faults; nobody suffers two at once; all kinds come up."""
    one, two = [plan(7, 3600, ["a", "b"], ["p"], True) for _ in range(2)]
    assert one == two != plan(8, 3600, ["a", "b"], ["p"], True)
    assert {fault.who for fault in one} == {"a", "b", "p"} and set(PARTITIONS) < {f.kind for f in one}
    for name in ("a", "b", "p"):
        mine = [fault for fault in one if fault.who == name]
        assert all(first.at + first.lasts < then.at for first, then in zip(mine, mine[1:]))
        assert mine[-1].at < 3600
    assert not set(PARTITIONS) & {fault.kind for fault in plan(7, 3600, ["a"], ["p"], False)}


def run_for(seconds, tmp_path, *options):
    words = ["--seconds", str(seconds), *options]
    return module("tests.faults", *words, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}, limit=110)


@pytest.mark.slow
@pytest.mark.long
def test_a_short_run(tmp_path):
    """Six seconds of faults, among them partitions where there are hosts: the promise holds."""
    done = run_for(6, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed ")
    figures = dict(line.rsplit(None, 1) for line in lines if line[-1].isdigit())
    assert int(figures["outcome: success"]) > 0 and int(figures["violations"]) == 0
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.long
def test_a_short_run_with_a_recipient_that_breaks_the_promise(tmp_path):
    """A recipient that acknowledges and loses messages is found, and the logs are kept."""
    for seconds in (3, 6, 12):  # in a short one alice may be cut off all the time
        done = run_for(seconds, tmp_path, "--forgetful")
        if done.returncode:
            break
    assert done.returncode == 1, done.stdout + done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("VIOLATION")]
    assert found and all("acknowledged and not handed over: Noted(recipient='alice'" in one for one in found)
    assert len(os.listdir(str(tmp_path))) == 1
