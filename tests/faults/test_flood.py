"""Junk ACKs without end, from a process of its own, while real publishes go on."""

import time

import pytest

import gilmsg

from ..helpers import sampled
from ..processes import wait_for
from . import flood
from .flood import KINDS, Flood, publish, run

#: Junk frames for each second of a flood that the listener must look at, however long that takes. On two
#: cores with little else to do it is 20,000 a second of each of the first three kinds; of the others, whose
#: signature or certificate has to be checked, 1,000 to 9,000.
FLOODED = {"suffix": 2000, "unknown": 2000, "digest": 1000, "signature": 300, "certificate": 100, "padded": 50}


@pytest.fixture
def field():
    with flood.direct() as (config, pid):
        yield config, pid


@pytest.mark.slow
@pytest.mark.parametrize("kind, seconds", sampled([(kind, 3.0) for kind in KINDS], brief=("digest", 0.5)))
def test_real_publishes_succeed_in_a_flood_of_junk(field, kind, seconds):
    """Each publish is confirmed, and memory stays, whatever the junk looks like."""
    figures = run(*field, kind, seconds, ack_timeout=20.0, least=seconds * FLOODED[kind])
    gilmsg.destroy()
    print(figures.HEADER, figures, sep="\n")
    assert not figures.failures and len(figures.took) >= 3
    # A queue without limit grows by 40 MB a second, where the listener does not keep up.
    assert figures.grown < 60


@pytest.mark.parametrize("kind, heard, failures, found", [
    ("digest", 10000, [], []),
    ("digest", 9999, [], ["no flood: heard 9999/s of 20000/s"]),
    ("padded", 10, [], []),
    ("padded", 10, ["alice is missing", "alice is missing"], ["alice is missing"]),
])
def test_what_the_exit_status_tells(kind, heard, failures, found):
    """A publish that failed is wrong, and so is a flood of cheap junk of which half did not arrive."""
    figures = flood.Figures(kind, 20000, 20000, heard, [0.01], failures, 0, 0)
    assert flood.wrong(figures, 20000) == [f"{kind}: {one}" for one in found]


@pytest.fixture
def behind_relay():
    with flood.relayed() as (config, pid):
        yield config, pid


@pytest.mark.slow
def test_what_the_relay_can_forward_does_no_harm(behind_relay):
    """With junk and real ACKs on one connection, publishes succeed as long as the relay keeps up."""
    figures = run(*behind_relay, "digest", seconds=3.0, ack_timeout=20.0, rate=200, relay=True, least=150)
    gilmsg.destroy()
    assert not figures.failures and len(figures.took) >= 3


@pytest.mark.slow
def test_a_flooded_relay_fails_loudly_and_recovers(behind_relay):
    """More than it can forward waits in the relay, before what is real: Timeout, and success after it.

    fedmsg-relay forwards some 3,000 frames a second and takes any number into its memory, in one
    queue: with 20,000 a second, what is real comes later and later. No consumer can mend that.
    """
    config, _ = behind_relay
    flood.warm(config)
    with Flood(config, "unknown", flood.RATE, relay=True) as attacker:
        with pytest.raises(gilmsg.Timeout) as raised:
            until = time.monotonic() + 60.0
            while time.monotonic() < until:
                publish(config, 0.5)
        taken = attacker.sent()["taken"]
    assert "the relay is there" in raised.value.missing["alice"]
    assert "its ACK did not come" in raised.value.missing["alice"]

    def succeeds():
        try:
            return publish(config, 5.0)
        except gilmsg.Timeout:
            return False

    # What it took, at the pace of a slow and busy machine.
    wait_for(succeeds, "publish succeeds again", 30.0 + taken / 300)
