"""acknowledge="after": real tails and a real fedmsg-hub whose handlers return, fail, leave, and die half-way."""

import contextlib
import json

import fedmsg.encoding
import pytest

import gilmsg

from .conftest import own_config
from .helpers import Hub, acked, announcement, digest, lost, publish, publish_async, received, sampled, subscriber
from .processes import Program, program_words, wait_for

FAILED = "it received the message, and its handler failed, as its NACK says"

#: What a publish waits for an ACK that must come, and one for an ACK that must not.
LONG, SHORT = {"ack_timeout": 60.0, "gilmsg.head_start": 60.0}, {"ack_timeout": 2.0, "gilmsg.head_start": 60.0}


class Handling(Program):
    """A process that tails as carol; see tests/programs/handling.py."""

    def __init__(self, bus, folder):
        super().__init__(program_words("handling", own_config(bus, name="carol")), folder)

    def wait_until_ready(self):
        self.wait_for("up\n")


def rejected(config, what, **options):
    """Publish what carol's handler rejects: under fail_fast her NACK ends the wait long before its time; its id."""
    timeout = lost(["carol"], msg={"do": what}, **{**config, **LONG, "fail_fast": True, **options})
    assert 1.0 <= timeout.ack_timeout < 30.0 and timeout.acks == {}
    assert timeout.missing == {"carol": FAILED} and timeout.missing["carol"].code == "nacked"
    return timeout.msg_id


def test_the_ack_leaves_when_the_next_message_is_asked_for(bus, config, tmp_path):
    """Not while the message is handled; not for a message that was rejected, of which the log tells why."""
    config.update(LONG)
    with Handling(bus, tmp_path) as tail:
        assert list(publish(["carol"], **config).acks) == ["carol"]  # nothing comes after it
        waiting = publish_async(["carol"], msg={"do": "wait"}, **config)
        tail.wait_for("wait ")
        assert lost(["carol"], **{**config, **SHORT}).missing["carol"].code != "nacked"
        assert not waiting.done()
        (tmp_path / "go on").touch()
        assert list(waiting.result(60).acks) == ["carol"]
        msg_id = rejected(config, "reject")
        wait_for(lambda: f"rejected {msg_id}: too hot" in tail.err(), "it is logged")
        assert publish(["alice"], msg={"do": "reject"}, **config)  # owes no ACK: it is none of our business
        assert list(publish(["carol,alice", "carol"], msg={"do": "change"}, **config).acks)
    assert tail.err().count("rejected") == 1


@pytest.mark.parametrize("how", sampled(["kill", "break", "close", "collect", "exit"]))
def test_who_leaves_has_acknowledged_nothing(bus, config, tmp_path, how):
    """By break, close(), garbage collection, the end of the process, kill -9: a Timeout, never a Receipt, and no NACK."""
    with Handling(bus, tmp_path) as tail:
        publish(["carol"], **{**config, **LONG})
        timeout = lost(["carol"], msg={"do": how}, **{**config, **SHORT})
        tail.wait_for(how)
        assert timeout.missing["carol"].code != "nacked"
        if how in ("exit", "kill"):
            assert tail.end() == {"exit": 7, "kill": -9}[how]
    assert "rejected" not in tail.err()


def test_throw_is_a_nack(bus, config, tmp_path):
    """The exception comes out of throw() as of a generator, and the log names it."""
    with Handling(bus, tmp_path) as tail:
        msg_id = rejected(config, "throw")
        tail.wait_for("thrown")
        wait_for(lambda: f"rejected {msg_id}: ValueError('too hot')" in tail.err(), "it is logged")


def test_a_nack_leaves_before_the_process_ends(bus, config, tmp_path):
    """As of a handler that rejects what it cannot do, and ends the service at once."""
    with Handling(bus, tmp_path) as tail:
        rejected(config, "reject and exit")
        assert tail.end() == 7


def answers(reader, number):
    """The next *number* answers that *reader* gets: (topic, what is signed of it)."""
    got = []
    while len(got) < number:
        assert reader.poll(20_000), got
        parts = reader.recv_multipart()
        got.append((parts[0].decode().rpartition(".")[2], acked(parts)))
    return got


@pytest.mark.parametrize("mode", ["before", "after"])
def test_what_is_on_the_wire_is_the_same(bus, config, tmp_path, mode):
    """An ACK does not tell from which mode it comes; a NACK for a handler differs by its code from others."""
    program = Handling(bus, tmp_path) if mode == "after" else Program(
        program_words("tailer", own_config(bus, name="carol"), "org.example.dev.tests"), tmp_path)  # fmt: skip
    ear = subscriber(config["endpoints"]["carol"][0], topics=[b"org.example.dev.gilmsg", announcement("", "spy")])
    with ear as reader, program:
        receipt = publish(["carol", "alice"], **{**config, **LONG})
        message = received(bus, "alice", receipt.msg_id)
        own = {"ack_msg_id": receipt.msg_id, "ack_digest": digest(message)}
        wait_for(lambda: publish(["carol"], **{**config, **LONG}) and reader.poll(200), "the ear is connected")
        seen = answers(reader, 1)
        assert [set(body) for _, body in seen] == [set(own)]
        if mode == "after":
            nack_id = rejected(config, "reject")
            while seen[-1][0] != "nack":
                seen += answers(reader, 1)
            assert seen[-1][1] == {"ack_msg_id": nack_id, "ack_digest": seen[-1][1]["ack_digest"], "reason": "handler"}
        assert {kind for kind, _ in seen} <= {"ack", "nack"}


@contextlib.contextmanager
def hub(bus, folder, *consumers, **changes):
    """A fedmsg-hub as carol, and a function that waits for what its monitoring tells of a consumer's counters."""
    monitor = bus.ports.endpoint()
    config = own_config(bus, name="carol", **{"moksha.monitoring.socket": monitor, **changes})
    with Hub(folder / "hub", config, consumers) as process, subscriber(monitor) as reports:

        def told(**fields):
            def found():
                assert reports.poll(20_000), f"the hub does not report: {process}"
                [one, *_] = fedmsg.encoding.loads(reports.recv().decode())["consumers"]
                return fields.items() <= one.items()

            wait_for(found, f"the hub reports {json.dumps(fields)}")

        yield process, told


@pytest.mark.parametrize("blocking", sampled([False, True]))
def test_a_hub_acknowledges_what_consume_has_returned_from(bus, config, tmp_path, blocking):
    """Not before. What raises is a NACK, a line in the log and a count, and moksha goes on; kill -9 is a Timeout."""
    config.update(LONG, topic="after")
    changes = {"moksha.workers_per_consumer": 1, "moksha.blocking_mode": blocking}
    with hub(bus, tmp_path, "After", **changes) as (process, told):
        assert list(publish(["carol"], **config).acks) == ["carol"]
        waiting = publish_async(["carol"], msg={"do": "wait"}, **config)
        wait_for(lambda: len(process.consumed()) == 2, "consume() is called")
        assert lost(["carol"], **{**config, **SHORT}).missing["carol"].code != "nacked"
        assert not waiting.done()
        (process.folder / "go on").touch()
        assert list(waiting.result(60).acks) == ["carol"]
        msg_id = rejected(config, "raise")
        wait_for(lambda: f"rejected {msg_id}: consume() raised ValueError('too hot')" in process.out(), "it is logged")
        assert "ValueError: too hot" in process.out()  # moksha's own traceback
        assert list(publish(["carol"], **config).acks) == ["carol"]
        told(acks_sent=4, acks_failed=0, last_ack_error=None, handler_failures=1)
        timeout = lost(["carol"], msg={"do": "kill"}, **{**config, **SHORT})
        wait_for(lambda: process.consumed()[-1]["msg_id"] == timeout.msg_id, "consume() is called")
        assert process.end() == -9 and timeout.acks == {}
        assert timeout.missing["carol"].code != "nacked"


def test_a_hub_names_a_value_that_is_neither(bus, tmp_path):
    """Such a consumer is not started, as any whose configuration cannot be used; the others are."""
    with hub(bus, tmp_path, "Neither", "After") as (process, told):
        words = "ConfigurationError: Neither.acknowledge must be 'before' or 'after'; it is 'later'"
        assert words in process.out()
        told(name="After", handler_failures=0)


@pytest.mark.parametrize("value", ["later", None, True, "After", ["after"]])
def test_another_value_is_an_error_at_the_call(config, value):
    """The error names it; a misspelt keyword is one, too: it would silently be the default."""
    with pytest.raises(gilmsg.ConfigurationError, match="acknowledge must be 'before' or 'after'; it is "):
        gilmsg.tail_messages(acknowledge=value, **config)
    with pytest.raises(gilmsg.ConfigurationError, match="'acknowledge' is meant, most likely"):
        gilmsg.tail_messages(acknowlege="after", **config)


def test_before_is_the_default_and_cannot_be_rejected(bus, config):
    """The ACK has left by then, and the error says what to pass."""
    needs = pytest.raises(gilmsg.ConfigurationError, match=r"reject\(\) needs tail_messages\(..., acknowledge='after'\)")
    with gilmsg.tail_messages(**dict(config, name="carol")) as messages, needs:
        messages.reject("too hot")
    with pytest.raises(StopIteration):
        next(messages)
