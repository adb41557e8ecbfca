"""A fedmsg-relay between publisher and recipient, which cannot reach each other without it."""

import time

import pytest

from .test_partitions import NO_ACK, NOTICED, UNKNOWN, UNREACHABLE, unproven

THERE = "the relay is there, behind it recipients cannot be seen"
NOT_THERE = "has gone; it may get the message when it is back"
SINCE = "has gone since the message left"


@pytest.fixture
def world(make_world):
    world = make_world("alice", relay=True)
    world.warm()
    return world


@pytest.mark.slow
def test_relay_killed(world):
    """A killed relay is named in the Timeout; restarted, it is found again by all."""
    world.kill_relay()
    world.until("alice", NOT_THERE, NOTICED)
    event = world.publish("alice", ack_timeout=0.3)
    assert event["event"] == "timeout"
    assert world["relay"].endpoint(9001) in event["missing"]["alice"]
    world.start_relay()
    world.recovers("alice", since=time.monotonic())


@pytest.mark.slow
def test_relay_killed_before_the_ack(world):
    """The relay dies when it has delivered the message: unknown, although consumed."""
    call = world.begin_unanswered("alice", ack_timeout=8.0)
    world.kill_relay()
    world.answers("alice")
    event = world.end(call)
    reason = unproven(event)
    # The latter, if libzmq has not told of it yet; see test_killed_while_the_ack_is_awaited.
    assert SINCE in reason or UNREACHABLE in reason
    assert world.got("alice", event)


@pytest.mark.slow
def test_host_of_the_relay_lost(world):
    """Silent loss of the relay: unknown until a heartbeat notices, then not there, then back."""
    world["relay"].isolate()
    for reason in world.until("alice", NOT_THERE, NOTICED):
        assert UNKNOWN in reason
    world.comes_back("alice", mended=world["relay"].mend)


@pytest.mark.slow
def test_recipient_behind_the_relay_lost(world):
    """The relay is there and the recipient is not: the reason claims nothing about the recipient."""
    world["alice"].isolate(world["relay"])
    reason = unproven(world.publish("alice", ack_timeout=0.3))
    assert THERE in reason and NO_ACK in reason
