"""Many publishes leave nothing behind; nothing that is remembered grows without end."""

import gc

import pytest

import gilmsg

from .. import inside
from ..conftest import own_config
from ..helpers import in_threads
from ..processes import wait_for
from . import leftovers


@pytest.mark.slow
def test_nothing_is_left_of_many_publishes(bus):
    """Of 96 publishes from 4 threads, half of them timing out, no thread, socket or memory is left."""
    before, after, wrong, counts = leftovers.in_a_process(own_config(bus), 96, threads=4)
    assert wrong == []
    assert leftovers.grown(before, after) == []
    assert counts["confirmed"] >= 48 and counts["timeout"] >= 48


def test_the_measure_sees_what_grows():
    """The figures of the test above are compared: one more of anything is told."""
    before = dict.fromkeys(leftovers.EXACT + tuple(leftovers.FORGIVEN), 5)
    assert leftovers.grown(before, dict(before)) == []
    for key in leftovers.EXACT:
        assert leftovers.grown(before, dict(before, **{key: 6}))
    for key, forgiven in leftovers.FORGIVEN.items():
        assert leftovers.grown(before, dict(before, **{key: 6 + forgiven}))


def test_topics_warned_of_are_bounded(config, monkeypatch, caplog):
    """However many topics go out without recipients, a bounded number of them is remembered."""
    inside.bound_warnings(monkeypatch, 3)
    for number in range(8):
        gilmsg.publish(topic=f"t{number}", msg={}, recipients=[], **dict(config, post_init_sleep=0))
        assert inside.warnings() <= 3
    assert sum("without recipients" in record.getMessage() for record in caplog.records) == 8


def test_threads_that_come_and_go_leave_no_context(config):
    """A publisher used by ever new threads keeps one handle for each living thread, not for all."""
    call = {**config, "topic": "t", "msg": {}, "recipients": ["alice"], "ack_timeout": 10, "gilmsg.head_start": 20.0}
    for _ in range(5):
        [receipt] = in_threads(lambda: gilmsg.publish(**call))
        assert receipt.acks

    def handles():
        gc.collect()
        return inside.sizes()["handles"]

    # The engine thread may have the last message still in its hands.
    wait_for(lambda: handles() == 0, "no handle is left", 20)
    assert inside.running() == (1, 1)
