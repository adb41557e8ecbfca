"""Many publishes leave nothing behind; nothing that is remembered grows without end."""

import gc
import threading

import gilmsg
from gilmsg import _outlets, _presence, _publish

from ..conftest import own_config
from . import leftovers


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
    monkeypatch.setattr(_publish, "_MOST_WARNED", 3)
    for number in range(8):
        gilmsg.publish(topic="t%d" % number, msg={}, recipients=[], **dict(config, post_init_sleep=0))
        assert len(_publish._warned) <= 3
    assert sum("without recipients" in record.getMessage() for record in caplog.records) == 8


def test_names_seen_are_bounded(monkeypatch):
    """A peer that announces ever new names makes the socket remember a bounded number, the newest."""
    monkeypatch.setattr(_presence, "_MOST", 10)
    peers = _presence.Peers()
    for number in range(100):
        for kind in (b"\x01", b"\x00"):
            peers.note(kind + _presence.announcement("t", "name%d" % number))
    assert len(peers._ended) == 10 and not peers._announced and not peers._subscriptions
    assert peers.ended("name99") is not None and peers.ended("name0") is None


def test_threads_that_come_and_go_leave_no_context(config):
    """A publisher used by ever new threads keeps one handle for each living thread, not for all."""
    def work():
        assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10, **config).acks

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    gc.collect()
    assert sum(map(len, _outlets._handles.values())) == 0
    assert len(_outlets._outlets) == 1
