"""The first message of a fresh process arrives, without fixed sleeps; see tests.coldstart for the hundreds."""

import threading
import time
import uuid

import fedmsg
import pytest

import gilmsg

from . import coldstart, inside
from .conftest import own_config
from .helpers import (
    Tailer,
    ack_topic,
    acked,
    announcement,
    bound,
    frames,
    heard,
    in_threads,
    lost,
    marked,
    publish,
    received,
    signed,
    subscriber,
)  # fmt: skip
from .processes import wait_for


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


@pytest.mark.parametrize("function", [gilmsg.publish, fedmsg.publish])
def test_a_message_without_recipients_keeps_its_head_start(config, function):
    """A plain message, fedmsg's own publish included, leaves no earlier than post_init_sleep."""
    config["post_init_sleep"] = 1.0
    began = time.monotonic()
    gilmsg.init(**config)
    function(topic="t", msg={})
    assert time.monotonic() - began >= 1.0
    began = time.monotonic()
    function(topic="t", msg={})
    assert time.monotonic() - began < 0.9


def test_head_start_ends_when_the_socket_is_that_old(config):
    """For a recipient that never comes a young publisher waits until that age, an old one not at all."""
    config["gilmsg.head_start"] = 1.5
    began = time.monotonic()
    lost(["nobody"], **dict(config, ack_timeout=0.05))
    assert 1.5 <= time.monotonic() - began < 10
    began = time.monotonic()
    lost(["nobody"], ack_timeout=0.05)
    assert time.monotonic() - began < 1.4


def test_a_young_publisher_sends_when_all_are_present(bus, config, tmp_path):
    """Several threads wait at one young socket, each for the one that comes late, and send as soon as that is there."""
    gilmsg.init(**dict(config, **{"gilmsg.head_start": 60}))
    began = time.monotonic()
    tailer = Tailer(own_config(bus, name="carol"), tmp_path)

    def wait():
        settings = own_config(bus, **{"gilmsg.head_start": 60})
        return sorted(publish(["alice", "carol"], **settings).acks)

    try:
        assert in_threads(wait, wait, wait, lambda: tailer.__enter__() and None)[:3] == [["alice", "carol"]] * 3
        assert time.monotonic() - began < 40
    finally:
        tailer.__exit__()


def test_a_young_consumer_waits_for_the_listener_not_for_a_reader(bus, config, tmp_path):
    """A new consumer to whom others already listen still gives our ACK listener time to find it."""
    gilmsg.init(**config)
    inside.present(["carol"])  # our listener has been trying carol's port in vain
    with subscriber(bus.config["endpoints"]["carol"][0]) as reader, Tailer(own_config(bus, name="carol"), tmp_path):
        # As soon as she hears us, and no matter whether our listener has found her yet.
        wait_for(lambda: inside.listens("carol"), "carol hears us")
        receipt = publish(["carol"], ack_timeout=10.0, **{"gilmsg.head_start": 0})
        assert list(receipt.acks) == ["carol"]
        assert reader.poll(5000) and acked(reader.recv_multipart())["ack_msg_id"] == receipt.msg_id


def test_an_origin_is_no_more_than_a_uuid_to_others(bus, config):
    """The id of a message tells its listener, and is a UUID like any other to everybody else."""
    receipts = [publish(["alice"], **config) for _ in range(2)]
    year, first = receipts[0].msg_id.split("-", 1)
    assert int(year) >= 2026 and uuid.UUID(first).version == 4
    assert first[-12:] == receipts[1].msg_id[-12:] and first[:-12] not in receipts[1].msg_id
    assert received(bus, "alice", receipts[0].msg_id)["msg_id"] == receipts[0].msg_id


@pytest.fixture
def consumer(bus, monkeypatch):
    """carol tails in a thread, her socket no longer young; gives a function that sends to her."""
    inside.hold_acks(monkeypatch, 0.0)
    settings = own_config(bus, name="carol")
    topic = "org.example.dev.held"
    with bound(settings["endpoints"]["hostile"][0]) as sender:
        tail = gilmsg.tail_messages(topic=topic, **settings)

        def work():
            for *_, message in tail:
                if message["msg"].get("last"):
                    return

        def send(origin, **body):
            message = signed(settings, "alice", marked(body, ["carol"]), topic=topic, origin=origin)
            sender.send_multipart(frames(message))
            return message["msg_id"]

        thread = threading.Thread(target=work)
        heard(sender, announcement(topic, "carol"))
        thread.start()
        yield settings, send
        inside.hold_acks(monkeypatch, 0.0)
        send(None, last=True)
        thread.join(30)
        tail.close()
        assert not thread.is_alive()


def listener(config):
    """A listener to carol's ACKs that has not announced itself."""
    return subscriber(config["endpoints"]["carol"][0], topics=[ack_topic(config).encode()])


def test_an_ack_waits_for_the_listener_that_awaits_it(consumer, monkeypatch):
    """While only other listeners hear it, an ACK does not leave; it does once the right one does."""
    inside.hold_acks(monkeypatch, 60.0)
    config, send = consumer
    origin = inside.new_origin()
    with listener(config) as ours:
        msg_id = send(origin)
        # No evidence can be had of something that does not happen: it would take some 2 ms.
        assert not ours.poll(500)
        ours.subscribe(announcement(ack_topic(config), origin))
        assert ours.poll(30000) and acked(ours.recv_multipart())["ack_msg_id"] == msg_id


def test_a_listener_that_never_comes_holds_up_little(consumer, monkeypatch):
    """After some waits in vain the following ACKs leave at once, whoever is to hear them."""
    inside.hold_acks(monkeypatch, 1.0)
    config, send = consumer
    with listener(config) as ours:
        # It must be connected before the first wait ends.
        wait_for(lambda: inside.asked_for("carol", ack_topic(config)), "the listener is connected")
        ids = [send(inside.new_origin()) for _ in range(20)]
        began = time.monotonic()
        for msg_id in ids:
            assert ours.poll(30000) and acked(ours.recv_multipart())["ack_msg_id"] == msg_id
        assert time.monotonic() - began < 15
