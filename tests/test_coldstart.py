"""Cold and warm publishers: head starts, the first message of a fresh process, recipients that restart."""

import time

import pytest

from .benchmarks import coldstart, warm
from .helpers import lost, publish


@pytest.mark.slow
def test_fresh_processes_reach_consumers_that_have_backed_off():
    """A fresh publisher's first message is confirmed by a tail, by a hub, and through the relay."""
    found = coldstart.measure(3, ack_timeout=10.0)
    assert [errors for runs in found.values() for seconds, errors in runs if seconds is None] == []
    assert [len(found[way]) for way in coldstart.WAYS] == [3, 3, 3]


def test_no_fixed_sleep_before_a_message_with_recipients(config):
    """However long post_init_sleep and head_start are, a present recipient is not kept waiting."""
    config.update({"post_init_sleep": 60, "gilmsg.head_start": 60})
    began = time.monotonic()
    assert list(publish(["alice"], **config).acks) == ["alice"]
    assert time.monotonic() - began < 20


def test_head_start_ends_when_the_socket_is_that_old(config):
    """For a recipient that never comes a young publisher waits until that age, an old one not at all."""
    config["gilmsg.head_start"] = 0.7
    for least, most in ((0.7, 10), (0.0, 0.6)):
        began = time.monotonic()
        lost(["nobody"], **dict(config, ack_timeout=0.05))
        assert least <= time.monotonic() - began < most


def test_a_timeout_comes_in_time(bus):
    """A recipient that has gone costs an old publisher ack_timeout: never less, and little more."""
    late = warm.overruns(bus, 30)
    assert len(late) == 30
    assert min(late) > -0.001 and sorted(late)[15] < 0.5


@pytest.mark.slow
def test_a_recipient_that_restarts_is_usable_again(bus):
    """Killed and restarted, it gets every message once its presence is seen, and none before."""
    for _, failures, away in warm.restarts(bus, 3, ack_timeout=5.0):
        assert (failures, away) == (0, 5)
