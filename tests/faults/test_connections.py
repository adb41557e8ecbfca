"""Connections that libzmq gives up, and hosts whose names resolve late or never: nobody waits, and all are found."""

import time

import pytest
import zmq

import gilmsg

from .. import inside
from ..conftest import own_config
from ..helpers import ack_body, ack_topic, bound, frames, heard, signed
from ..processes import wait_for
from ..test_diagnosis import Forger
from .children import Child, run

#: Seconds from an oversize frame until whoever sent it is heard again: 2 or 3, and what a busy machine is forgiven. The
#: pauses themselves are tested without a clock; without them it would be half a minute.
HEARD_AGAIN = 12.0

#: Seconds from the moment in which a host's name resolves until the host is found: 5 to 10, and as many are forgiven.
FOUND = 20.0


def test_one_oversize_frame_deafens_nobody(bus, config):
    """A recipient's endpoint that sends more than 1 MiB is cut off; its next ACKs count, soon after."""

    def answer(message):
        if "too large" in message["msg"]:
            return [[ack_topic(config).encode(), b"x" * (1 << 21)]]
        return [frames(signed(config, "carol", ack_body(message)))]

    call = dict(config, topic="t", msg={}, recipients=["carol"], ack_timeout=0.3)
    [endpoint] = config["endpoints"]["carol"]

    def counts():
        try:
            return gilmsg.publish(**call)
        except gilmsg.Timeout:
            return False

    with Forger(config, "carol", answer):
        gilmsg.publish(**dict(call, ack_timeout=10.0, **{"gilmsg.head_start": 20.0}))
        for _ in range(2):  # the second time in a row it takes longer
            before = wait_for(lambda: inside.connected_since(endpoint), "the connection is known")
            sent = time.monotonic()
            late = gilmsg.publish_async(**dict(call, msg={"too large": True}))
            # Not that it is down: that lasts half a second, and may not be seen.
            wait_for(lambda before=before: inside.connected_since(endpoint) != before, "the connection ends", 30)
            wait_for(counts, "an ACK counts again", 30)
            assert time.monotonic() - sent < HEARD_AGAIN
            assert isinstance(late.exception(30), gilmsg.Timeout)


@pytest.mark.slow
def test_a_stranger_that_goes_on_so_is_tried_more_and_more_seldom(bus, config, caplog):
    """Oversize frames without end cost a connection a second, then less; one line a minute; others are heard."""
    [endpoint] = config["endpoints"]["hostile"]
    with bound(endpoint) as hostile:
        call = dict(config, topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **{"gilmsg.head_start": 20.0})
        gilmsg.publish(**call)
        topic = ack_topic(config).encode()
        times, until = 0, time.monotonic() + 5.0
        heard(hostile, topic)
        while time.monotonic() < until or times < 2:
            times += 1
            hostile.send_multipart([topic, b"x" * (1 << 21)])
            assert gilmsg.publish(**call).acks
            while time.monotonic() < until or times < 2:
                if hostile.poll(50) and hostile.recv(zmq.NOBLOCK) == b"\x01" + topic:
                    break
        assert times <= 5
    told = lambda: [one for one in caplog.records if "was ended for good" in one.getMessage()]
    lines = wait_for(told, "it is logged, by another thread", 30)
    assert len(lines) == 1 and lines[0].name == "gilmsg.endpoints"


@pytest.mark.parametrize("case", ["slow", "never"])
def test_nobody_waits_for_a_foreign_name(bus, tmp_path, case):
    """While a host name takes its time, publish and tail_messages do all that they do."""
    config = own_config(bus)
    config["endpoints"]["foreign"] = ["tcp://foreign.example:3000"]
    config["endpoints"]["carol"] = [bus.ports.endpoint()]
    status, lines, errors = run("naming", case, config, tmp_path)
    assert status == 0, errors
    assert lines == ["looked up", "['alice']", "yielded", "not yet"]
    assert "does not resolve" not in errors


@pytest.mark.long
def test_a_recipient_whose_name_resolves_later_is_found(bus, tmp_path):
    """Till then its Timeout says that the name does not resolve; soon after it counts."""
    config = own_config(bus)
    config["endpoints"]["alice"] = [one.replace("127.0.0.1", "alice.example") for one in config["endpoints"]["alice"]]
    status, lines, errors = run("naming", "recipient", config, tmp_path)
    assert status == 0, errors
    assert lines[0].startswith("unresolved: it is listening, but its endpoint tcp://alice.example:")
    assert "cannot be reached for the ACK: the host name does not resolve" in lines[0]
    assert lines[1] == "['alice']" and float(lines[2]) < FOUND
    assert errors.count("does not resolve; it is looked up again") == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_publisher_whose_name_resolves_later_is_tailed(bus, tmp_path):
    """tail_messages yields from it soon after."""
    own = own_config(bus, name="carol")
    own["endpoints"]["publisher"] = [one.replace("127.0.0.1", "news.example") for one in own["endpoints"]["publisher"]]
    with Child("naming", "tail", own, tmp_path) as child:
        child.wait_for("there")
        call = own_config(bus, topic="t", msg={}, recipients=["carol"], ack_timeout=1.0, **{"gilmsg.head_start": 0})
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(**dict(call, ack_timeout=0.1))
        child.send(10)  # SIGUSR1: it resolves
        since = time.monotonic()
        assert gilmsg.publish(**dict(call, ack_timeout=20.0, **{"gilmsg.head_start": 60.0})).acks
        assert time.monotonic() - since < FOUND
        assert child.end() == 0, child.err()
    assert child.lines[-1] == "org.example.dev.tests.t"
