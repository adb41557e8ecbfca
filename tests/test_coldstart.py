"""Cold and warm publishers: head starts, and Timeouts in time; the rest is in tests/benchmarks."""

import time

from .benchmarks import warm
from .helpers import lost, publish
from .processes import wait_for


def test_no_fixed_sleep_before_a_message_with_recipients(config):
    """However long post_init_sleep and head_start are, a present recipient is not kept waiting."""
    config.update({"post_init_sleep": 60, "gilmsg.head_start": 60})
    began = time.monotonic()
    assert list(publish(["alice"], **config).acks) == ["alice"]
    assert time.monotonic() - began < 20


def test_head_start_ends_when_the_socket_is_that_old(config):
    """For a recipient that never comes a young publisher waits until that age, an old one not at all."""
    config["gilmsg.head_start"] = 0.7

    def taken():
        began = time.monotonic()
        lost(["nobody"], **dict(config, ack_timeout=0.05))
        return time.monotonic() - began

    assert 0.7 <= taken() < 20
    wait_for(lambda: taken() < 0.6, "an old one does not wait", 20)  # a busy machine may hold it up, not each time


def test_a_timeout_comes_in_time(bus):
    """A recipient that has gone costs an old publisher ack_timeout: never less, and little more."""
    late = warm.overruns(bus, 30)
    assert len(late) == 30
    assert min(late) > -0.001 and sorted(late)[15] < 0.5
