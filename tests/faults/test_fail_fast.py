"""The end of a wait in vain, on a real bus: what ends it, and the stranger who cannot."""

import time

import pytest
import zmq

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import make_room, own_config
from ..helpers import ack_body, bind, frames, lost, publish, publish_async, signed
from ..processes import wait_for
from .test_frames import raw_subscriber


@pytest.fixture(scope="module")
def field():
    bus = Sandbox(["alice"])
    make_room(bus, "hostile")
    bus.authority.revoke(bus.authority.issue("old", common_names=["alice"]))
    with bus:
        yield bus


@pytest.fixture
def config(field):
    field.well("alice")
    return own_config(field, **{"gilmsg.ack_timeout": 60.0, "gilmsg.head_start": 20.0})


@pytest.mark.slow
def test_a_stranger_ends_no_wait(field, config):
    """He ends alice's announcement, again and again, and replays her revoked certificate: she is confirmed nevertheless."""
    publish(["alice"], **config)
    field.slow("alice", 3.0)
    left = []
    stranger, context = raw_subscriber(inside.endpoint()), zmq.Context()
    try:
        mouth = context.socket(zmq.XPUB)
        bind(mouth, config["endpoints"]["hostile"][0])
        wait_for(lambda: inside.connected(config["endpoints"]["hostile"][0]), "the stranger is heard")
        future = publish_async(["alice"], fail_fast=True, pre_fire_hook=left.append, **config)
        while not future.done():
            stranger.sendall(b"\0\7\0\0alice")  # an unsubscription that this peer never had
            mouth.send_multipart(frames(signed(config, "old", ack_body(left[0]))))
            time.sleep(0.1)  # not a flood
            wait_for(lambda: future.done() or not inside.listens("alice"), "her announcement has ended")
        assert future.result().acks["alice"] > 2.5
    finally:
        stranger.close()
        context.destroy(linger=0)


def test_who_is_gone_is_not_waited_for(field, config):
    """Killed while its ACK is awaited, or known to be gone before: a Timeout in a second or two, and not in 60."""
    publish(["alice"], **config)
    field.silent("alice")
    future = publish_async(["alice"], **{**config, "gilmsg.fail_fast": True})
    time.sleep(1.5)  # silence is none: she may answer
    assert not future.done()
    killed = time.monotonic()  # before it is known here: the first wait may end while we are told
    field.dead("alice")
    with pytest.raises(gilmsg.Timeout) as raised:
        future.result(30)
    # Without a head start: a young publisher would wait for her to come.
    after = lost(["alice"], **{**config, "ack_timeout": 60.0, "fail_fast": True, "gilmsg.head_start": 0})
    assert 2.0 < time.monotonic() - killed < 20
    assert (raised.value.missing["alice"].code, after.missing["alice"].code) == ("gone", "gone")
    assert raised.value.missing["alice"].startswith("it has gone since the message left")
    assert 2.0 < raised.value.ack_timeout < 20 and 1.0 < after.ack_timeout < 10
    field.well("alice")  # here: what a test starts anew must not be left behind by the next one
