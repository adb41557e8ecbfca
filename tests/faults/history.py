"""The checker: is what happened allowed by what gilmsg promises? Pure functions over a history.

A history is three lists: the *calls* of publish, what each recipient *noted*, and the
*faults* that were injected; all times in seconds on one monotonic clock. What is checked:

1. A success has an ACK of each recipient (of a group: of a member). An ACK that a publisher got
   is one that its recipient noted: before it sent it, so that no crash makes a gap there.
2. By a recipient's own notes, whether or not its ACK reached anybody: in the thread that
   acknowledges a message, the hand-over of that message is what comes next. Only a crash of that recipient
   excuses that nothing came; it must have begun within ``HANDED_OVER`` s after the ACK (a crash that
   was preceded by a stop began with that stop). And nothing that names a recipient is handed
   over without an ACK before it.
3. A call ends: by its head start, its ack_timeout and ``MARGIN`` s, not counting the time for
   which the publisher, or the whole machine, stood still. Only a crash of the publisher excuses
   a call that never ended.
4. A Timeout has a fault in its window. A recipient may be missing if a fault of it, of the
   publisher, or between the two overlaps the call. A fault lasts from its beginning until
   the publisher next gets an ACK from that recipient for a message that it began to publish
   after the fault was mended (or the new process was ready); at most until ``RECOVERY`` s after that. Where
   processes and connections lived through it, it lasts ``LATE_END`` s past its mending at least.
   A group may be missing only if each member may be. Any other exception is a violation.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from typing import NamedTuple

#: Seconds. So long after a link is back a publish succeeds, without a restart of anything.
RECOVERY = 10.0

#: Seconds. The timer of a heartbeat that was not answered within a fault, and the kernel's for what was not
#: acknowledged, may end a connection so long after (gilmsg._sockets): by then an ACK may have come by it, and
#: the next one is lost with it.
LATE_END = 6.0

#: Seconds that a call may overrun on a machine that is busy with everything else here.
MARGIN = 5.0

#: Seconds from ACK to hand-over, at the very most.
HANDED_OVER = 1.0

#: Seconds after a stall of the whole machine in which everybody catches up.
_CATCH_UP = 3.0

#: ``Fault.who`` of a stall: everybody.
EVERYBODY = "*"


class Call(NamedTuple):
    """One call of publish, as its publisher logged it."""

    publisher: str
    began: float
    #: None: no end was logged.
    ended: float | None
    recipients: tuple[str, ...]
    #: success, timeout, error (with its text in ``error``), or open.
    outcome: str
    msg_id: str = ""
    acks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    error: str = ""
    ack_timeout: float = 1.0
    #: The most that it may have waited before it sent.
    head_start: float = 0.0


class Noted(NamedTuple):
    """What a recipient logged, in the order of its log."""

    recipient: str
    #: "ack": one is about to leave; "handed": its own code was given the message.
    what: str
    msg_id: str
    at: float
    #: In which process and thread.
    thread: str = ""


class Fault(NamedTuple):
    """Something that was done to *who*; where *peer* is set, only between the two."""

    kind: str
    who: str
    began: float
    #: When it was mended, or the new process was ready.
    ended: float
    #: Its process ended without warning, between ``began`` and then.
    dead: float | None = None
    #: Its process stood still.
    still: bool = False
    peer: str | None = None


class Verdict(NamedTuple):
    """What the checker found."""

    figures: dict[str, int]
    violations: list[str]
    #: The longest overrun of a deadline; for each kind of fault the longest time from its end to
    #: the first ACK after it, where no other fault came in between.
    seconds: dict[str, float]


def check(calls: list[Call], noted: list[Noted], faults: list[Fault]) -> Verdict:
    """Return the figures and every violation, in words."""
    return _Checker(calls, noted, faults).verdict()


class _Checker:
    def __init__(self, calls, noted, faults):
        self._calls = calls
        self._sent = {(note.recipient, note.msg_id) for note in noted if note.what == "ack"}
        self._threads = defaultdict(list)
        for note in noted:
            self._threads[note.recipient, note.thread].append(note)
        self._faults = defaultdict(list)
        for fault in faults:
            self._faults[fault.who].append(fault)
        self._figures = Counter("faults: " + fault.kind for fault in faults)
        self._seconds = {}
        self._answers = self._find_answers()

    def _find_answers(self):
        """Return (publisher, recipient) -> calls with its ACK, as sorted (began, ended)."""
        answers = defaultdict(list)
        for call in self._calls:
            for name in call.acks:
                answers[call.publisher, name].append((call.began, call.ended))
        return {pair: sorted(times) for pair, times in answers.items()}

    def verdict(self):
        violations = []
        for call in self._calls:
            self._figures["publishes"] += 1
            self._figures["outcome: " + call.outcome] += 1
            for rule in (self._proof, self._deadline, self._explanation):
                violations += [f"{problem}: {call}" for problem in rule(call)]
        for notes in self._threads.values():
            violations += [f"{problem}: {note}" for problem, note in self._hand_overs(notes)]
        return Verdict(dict(self._figures), violations, self._seconds)

    def _proof(self, call):
        """Rule 1."""
        named = {name for entry in call.recipients for name in entry.split(",")}
        for name in call.acks:
            if name not in named:
                yield f"{name} acknowledged and was not named"
            if (name, call.msg_id) not in self._sent:
                yield f"FALSE POSITIVE, an ACK of {name} that it did not send"
        if call.outcome == "success":
            for entry in call.recipients:
                if not set(entry.split(",")) & set(call.acks):
                    yield f"FALSE POSITIVE, success without an ACK of {entry}"

    def _hand_overs(self, notes):
        """Rule 2, for the notes of one thread."""
        for before, note, after in zip([None] + notes, notes, notes[1:] + [None]):
            if note.what == "ack":
                self._figures["ACKs sent"] += 1
                if not _same(note, after, "handed") and not self._died_after(note, after):
                    yield "FALSE POSITIVE, acknowledged and not handed over", note
            else:
                self._figures["handed over"] += 1
                if not _same(note, before, "ack"):
                    yield "handed over without an ACK before", note

    def _died_after(self, note, after):
        """Whether a crash excuses that nothing came after *note*."""
        until = note.at + HANDED_OVER
        stalls = [one for one in self._faults[EVERYBODY] if note.at <= one.ended and one.began <= until]
        until += sum(one.ended - one.began for one in stalls)
        if after is not None or not self._crashed(note.recipient, note.at, until):
            return False
        self._figures["ACKs before a crash, not handed over"] += 1
        return True

    def _crashed(self, name, since, until):
        return any(
            fault.dead is not None and fault.began <= until and since <= fault.dead
            for fault in self._faults[name]
        )

    def _deadline(self, call):
        """Rule 3."""
        if call.ended is None:
            if not self._crashed(call.publisher, call.began, float("inf")):
                yield "it never ended"
            return
        limit = call.head_start + call.ack_timeout + MARGIN
        late = call.ended - call.began - limit
        stood_still = self._stood_still(call)
        self._note("longest overrun", late + MARGIN - stood_still)
        if late > stood_still:
            yield f"it ended {late:.2f} s too late"

    def _note(self, what, seconds):
        self._seconds[what] = max(self._seconds.get(what, 0.0), seconds)

    def _stood_still(self, call):
        still = [f for f in self._faults[call.publisher] + self._faults[EVERYBODY] if f.still]
        return sum(max(0, min(f.ended, call.ended) - max(f.began, call.began)) for f in still)

    def _explanation(self, call):
        """Rule 4."""
        if call.outcome == "error":
            yield "an exception that nothing here can cause"
        if call.outcome != "timeout":
            return
        if not call.missing:
            yield "a Timeout that nobody is missing from"
        unexplained = [entry for entry in call.missing if not self._explained(call, entry)]
        for entry in unexplained:
            yield f"{entry} is missing without a fault in the window"
        self._figures[f"timeouts {'without a fault' if unexplained else 'explained'}"] += 1

    def _explained(self, call, entry):
        return all(self._may_be_missing(call, name) for name in entry.split(","))

    def _may_be_missing(self, call, name):
        pair = {call.publisher, name}
        affecting = self._faults[name] + self._faults[call.publisher] + self._faults[EVERYBODY]
        return any(
            fault.began <= call.ended and call.began <= self._over(fault, call.publisher, name)
            for fault in affecting
            if fault.peer is None or {fault.who, fault.peer} == pair
        )

    def _over(self, fault, publisher, name):
        """Return when *fault* no longer explains that *name* is missing from *publisher*'s calls."""
        if fault.who == EVERYBODY:
            return fault.ended + _CATCH_UP
        latest = fault.ended + RECOVERY
        answers = self._answers.get((publisher, name), [])
        after = _first_after(answers, fault.ended)
        if after is None or after > latest:
            return latest
        if self._alone(fault, after, (publisher, name)):
            self._note("longest recovery: " + fault.kind, after - fault.ended)
        lived_on = fault.dead is None and fault.kind != "start"
        return max(after, fault.ended + LATE_END) if lived_on else after

    def _alone(self, fault, after, names):
        """Whether nothing else befell either of *names* until *after*: then the figure means something."""
        others = [one for name in names for one in self._faults[name] if one is not fault]
        return not any(one.began <= after and fault.ended <= one.ended for one in others)


def _same(note, other, what):
    return other is not None and other.what == what and other.msg_id == note.msg_id


def _first_after(answers, moment):
    """Return when the first of *answers* that began at *moment* or later ended; None without one."""
    import bisect

    index = bisect.bisect_left(answers, (moment,))
    # The next to begin need not be the first to end: a publisher has several threads.
    return min((ended for _, ended in answers[index : index + 8]), default=None)
