"""What a tail answers to each of its messages, with a socket and an Acknowledger that a test holds."""

import json

import pytest

from gilmsg import ConfigurationError
from gilmsg._client import acknowledge, receive, tail

#: Messages by name: those in capitals owe an ACK.
OWED = "ABCD"


class Answers:
    """Takes what an Acknowledger is told."""

    def __init__(self):
        self.told = []

    def due(self, received, validated):
        name = received.message["msg_id"]
        return {"ack_msg_id": name} if name in OWED else None

    def acknowledge(self, body):
        self.told.append("+" + body["ack_msg_id"])

    def reject(self, body, reason):
        self.told.append(f"-{body['ack_msg_id']} {reason}")


class Receiving(receive.Tail):
    """A Tail whose messages are *several*: a text is one frame; a list one that a replay has completed."""

    def __init__(self, several, after, answers, monkeypatch):
        self._after, self._acknowledger, self._validates = after, answers, False
        self._asked, self._owed, self._sequence = lambda *_: True, None, {"replaying": 1}
        self._pid, self._config = receive.os.getpid(), {}
        self._several, self._patch = several, monkeypatch

    def run(self):
        yield None
        for one in self._several:
            *missed, last = one
            replayed = [{"topic": "t", "msg_id": name, "seq_id": n} for n, name in enumerate(missed)]
            last_of_all = {"topic": "t", "msg_id": last, "seq_id": 7}
            self._patch.setattr(receive, "check_for_replay", lambda *_, found=[*replayed, last_of_all]: found)
            frames = [b"t", json.dumps(last_of_all).encode()]
            yield from self.received(frames, "replaying" if missed else "plain", "tcp://x", None)


#: Messages, and what is done: ">" asks for the next, "r" rejects, "t" throws, "c" closes, "d" drops the last reference,
#: "f" finds itself in a forked child. What is answered before, and after, each handler.
CASES = {
    "asking acknowledges the last": ("AB", ">>>", "+A +B", "+A +B"),
    "not before": ("AB", ">>", "+A +B", "+A"),
    "what owes none has none": ("AbC", ">>>", "+A +C", "+A"),
    "asking for the last": ("Ab", ">>>", "+A", "+A"),
    "a rejected one is not acknowledged": ("AB", ">r>>", None, "-A hot +B"),
    "once": ("AB", ">rr>r", None, "-A hot -B hot"),
    "what owes none is not rejected": ("Ab", ">>r", None, "+A"),
    "nor what is not there yet": ("AB", "r>", None, ""),
    "throw": ("AB", ">t>", "+A", "-A KeyError('x')"),
    "throw at what owes none": ("bA", ">t>", "", ""),
    "throw after a rejection": ("AB", ">rt", None, "-A hot"),
    "throw before the first": ("AB", "t>", "", ""),
    "close": ("AB", ">>c>", "+A +B", "+A"),
    "close twice": ("AB", ">cc", "+A", ""),
    "rejected after close": ("AB", ">cr", None, "-A hot"),
    "garbage collection": ("AB", ">>d", "+A +B", "+A"),
    "a replay": ([["b", "A", "c", "B"], "C"], ">>>>>", "+A +B +C", "+A +B"),
    "a rejected one of a replay": ([["A", "B"], "C"], ">r>>", None, "-A hot +B"),
    "a forked child": ("AB", ">f>", "+A", ""),
    "a forked child that throws": ("AB", ">ft", "+A", ""),
    "a forked child that rejects": ("AB", ">fr", None, ""),
}


@pytest.mark.parametrize(
    ("case", "after"), [(case, after) for case in CASES for after in (False, True) if after or CASES[case][2] is not None]
)
def test_each_message_has_its_answer(monkeypatch, case, after):
    """ACK or NACK, once, where one is owed; what does not ask for the next message leaves the last without."""
    several, steps, before, then = CASES[case]
    answers = Answers()
    held = [tail.Messages(Receiving(several, after, answers, monkeypatch))]
    for step in steps:
        take(held, step)
    assert " ".join(answers.told) == (then if after else before)


def take(held, step):
    """Take one step; what it raises is of no interest here."""
    if step == ">":
        try:
            next(held[0])
        except (StopIteration, ConfigurationError):
            pass
    elif step == "r":
        try:
            held[0].reject("hot")
        except ConfigurationError as error:
            assert "belongs to process" in str(error)
    elif step == "t":
        with pytest.raises(KeyError):
            held[0].throw(KeyError("x"))
    elif step == "f":
        held[0]._tail._pid += 1
    elif step == "c":
        held[0].close()
    else:
        held.clear()


def test_without_signatures_there_is_nothing_to_answer(monkeypatch):
    """Who cannot acknowledge may ask for "after" and reject all the same."""
    messages = tail.Messages(Receiving("AB", True, None, monkeypatch))
    assert next(messages)[3]["msg_id"] == "A"
    messages.reject("hot")
    assert messages.send(None)[3]["msg_id"] == "B"


def test_a_stand_in_may_withhold(monkeypatch):
    """What *asked* refuses has neither ACK nor NACK, in either mode."""
    for after in (False, True):
        answers = Answers()
        receiving = Receiving("AB", after, answers, monkeypatch)
        receiving._asked = lambda envelope, message, due: message["msg_id"] == "B"
        assert [item[3]["msg_id"] for item in tail.Messages(receiving)] == ["A", "B"]
        assert answers.told == ["+B"]


@pytest.mark.parametrize("value", ["before", "after"])
def test_two_values_are_known(value):
    """Any other is refused: tests/test_after.py."""
    assert acknowledge.is_after(value, "x") is (value == "after")
