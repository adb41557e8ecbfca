"""The first message of a fresh process arrives; see tests.coldstart for the hundreds."""

import json
import threading
import time
import uuid

import fedmsg
import pytest
import zmq

import gilmsg
from gilmsg import _acknowledge, _acks, _bus, _listeners, _message, _outlet, _outlets, _presence
from gilmsg._keypair import KeyPair

from . import coldstart
from .conftest import own_config
from .helpers import Tailer, bind, frames, visibility
from .talking import wait_for


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
    receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5.0, **config)
    assert list(receipt.acks) == ["alice"]
    assert time.monotonic() - began < 20


def test_a_message_without_recipients_keeps_its_head_start(config, monkeypatch):
    """A plain message, fedmsg's own publish included, leaves no earlier than post_init_sleep."""
    config["post_init_sleep"] = 1.0
    sent = []
    real = _outlet.Outlet.send
    # A spy, not a mock: the moment at which the message is handed to the socket.
    monkeypatch.setattr(
        _outlet.Outlet, "send", lambda self, parts: sent.append(self.age) or real(self, parts)
    )
    gilmsg.init(**config)
    fedmsg.publish(topic="t", msg={})
    gilmsg.publish(topic="t", msg={})
    assert len(sent) == 2 and sent[0] >= 1.0
    gilmsg.destroy()
    gilmsg.publish(topic="t", msg={}, **config)
    assert sent[2] >= 1.0


def test_head_start_ends_when_the_socket_is_that_old(config):
    """For a recipient that never comes a young publisher waits until that age, an old one not at all."""
    began = time.monotonic()
    for waits in (True, False):
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(
                topic="t", msg={}, recipients=["nobody"], ack_timeout=0.05,
                **dict(config, **{"gilmsg.head_start": 1.5})
            )
        if waits:
            assert 1.5 <= time.monotonic() - began < 10
            began = time.monotonic()
    assert time.monotonic() - began < 1.4


def test_a_young_publisher_sends_when_all_are_present(bus, config, tmp_path):
    """It waits for the one that comes late, and sends as soon as that one is there."""
    began, running = time.monotonic(), []

    def come():
        running.append(Tailer(own_config(bus, name="carol"), tmp_path))
        running[0].__enter__()

    thread = threading.Thread(target=come)
    thread.start()
    try:
        receipt = gilmsg.publish(
            topic="t", msg={}, recipients=["alice", "carol"], ack_timeout=5.0,
            **dict(config, **{"gilmsg.head_start": 60})
        )
        assert sorted(receipt.acks) == ["alice", "carol"] and time.monotonic() - began < 40
    finally:
        thread.join()
        running[0].__exit__()


def test_threads_that_wait_for_one_socket_all_see_it(bus, config, tmp_path):
    """Several threads wait on one young socket; each sees its own recipient come."""
    gilmsg.init(**config)
    receipts, failures = [], []

    def work(name):
        try:
            settings = own_config(bus, **{"gilmsg.head_start": 60})
            receipts.extend(
                gilmsg.publish(topic="t", msg={}, recipients=[name], ack_timeout=10.0, **settings).acks
            )
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ["carol"] * 4 + ["alice"] * 2]
    for thread in threads:
        thread.start()
    with Tailer(own_config(bus, name="carol"), tmp_path):
        for thread in threads:
            thread.join(60)
    assert failures == [] and sorted(receipts) == ["alice"] * 2 + ["carol"] * 4


def test_a_waiting_thread_sees_what_another_took(config):
    """The frame that one thread waits for is taken off the socket by another: it notices all the same."""
    gilmsg.init(**config)
    outlet = _bus.publisher(_bus.current()).outlet()
    seen = []

    def ready(peers):
        seen.append(peers.listens("late", ""))
        return seen[-1]

    thread = threading.Thread(target=outlet.wait_until, args=(ready, 60))
    thread.start()
    with zmq.Context() as context, context.socket(zmq.SUB) as late:
        late.linger = 0
        for endpoint in config["endpoints"]["publisher"]:
            late.connect(endpoint)
        late.subscribe(_presence.announcement("", "late"))

        def taken():
            with outlet.look() as peers:
                return peers.listens("late", "")

        wait_for(taken, "this thread takes the frame")
        thread.join(10)
    assert not thread.is_alive() and seen[-1]


def test_destroy_ends_the_wait_for_recipients(config):
    """A thread that waits for recipients hears of destroy at once, not when its head start is over."""
    caught = []

    def work():
        try:
            gilmsg.publish(
                topic="t", msg={}, recipients=["nobody"], ack_timeout=0.05,
                **dict(config, **{"gilmsg.head_start": 600})
            )
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: [o for o in _outlets._outlets.values() if not o.closed], "its socket is open")
    wait_for(lambda: _listeners._listeners, "its listener runs")
    gilmsg.destroy()
    thread.join(30)
    assert not thread.is_alive() and isinstance(caught[0], gilmsg.ListenerError)


def test_a_young_consumer_waits_for_the_listener_not_for_a_reader(bus, config, tmp_path):
    """A new consumer to whom others already listen still gives our ACK listener time to find it."""
    gilmsg.init(**config)
    visibility()  # our listener has been trying carol's port in vain
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger = 0
        reader.setsockopt(zmq.RECONNECT_IVL, 5)
        reader.subscribe(b"")
        reader.connect(bus.config["endpoints"]["carol"][0])
        with Tailer(own_config(bus, name="carol"), tmp_path):
            # As soon as she hears us, and no matter whether our listener has found her yet.
            outlet = _bus.publisher(_bus.current()).outlet()
            outlet.wait_until(lambda peers: peers.listens("carol", ""), 60)
            receipt = gilmsg.publish(
                topic="t", msg={}, recipients=["carol"], ack_timeout=10.0, **{"gilmsg.head_start": 0}
            )
            assert list(receipt.acks) == ["carol"]
            assert reader.poll(5000)
            assert json.loads(reader.recv_multipart()[1])["msg"]["ack_msg_id"] == receipt.msg_id


def test_an_origin_is_found_in_its_own_ids_only():
    """A message's id tells its listener; ids of others, and rubbish, tell none."""
    origin = _message.new_origin()
    msg_id = _message.compose("t", {}, 1, origin)["msg_id"]
    assert _message.origin_of(msg_id) == origin
    assert uuid.UUID(msg_id.partition("-")[2]).version == 4
    others = [_message.compose("t", {}, 1)["msg_id"] for _ in range(100)]
    odd = ["", "-", "2026-", "x" * 12, "\ud800" * 12, "é" * 12, msg_id[:-1], msg_id + "0"]
    # One in 65536 of the others would do so by chance.
    assert sum(_message.origin_of(one) is not None for one in others) <= 1
    assert [_message.origin_of(one) for one in odd] == [None] * len(odd)


@pytest.fixture
def consumer(bus, monkeypatch):
    """carol tails in a thread, her socket no longer young; gives a function that sends to her."""
    monkeypatch.setattr(_acknowledge, "YOUNG", 0.0)
    settings = own_config(bus, name="carol")
    with zmq.Context() as context, context.socket(zmq.XPUB) as sender:
        sender.linger = 0
        bind(sender, settings["endpoints"]["hostile"][0])
        tail = gilmsg.tail_messages(topic="org.example.dev.held", **settings)

        def work():
            for *_, message in tail:
                if message["msg"].get("last"):
                    return

        def send(origin, **body):
            message = _message.compose("org.example.dev.held", _acks.marked(body, ["carol"]), 1, origin)
            signed = KeyPair(settings["ssldir"], "alice").sign(message)
            sender.send_multipart(frames(signed))
            return signed["msg_id"]

        thread = threading.Thread(target=work)
        while b"held" not in sender.recv():
            pass  # others subscribe here too
        thread.start()
        yield settings, send
        monkeypatch.setattr(_acknowledge, "HOLD", 0.0)
        send(None, last=True)
        thread.join(30)
        tail.close()
        assert not thread.is_alive()


def acks(config):
    """A socket that subscribes to the ACKs of *config*'s name, announced as nobody."""
    listener = zmq.Context.instance().socket(zmq.SUB)
    listener.linger = 0
    listener.subscribe(_acks.ack_topic(config).encode())
    listener.connect(config["endpoints"][config["name"]][0])
    return listener


def test_an_ack_waits_for_the_listener_that_awaits_it(consumer, monkeypatch):
    """While only other listeners hear it, an ACK does not leave; it does once the right one does."""
    monkeypatch.setattr(_acknowledge, "HOLD", 60.0)
    config, send = consumer
    origin = _message.new_origin()
    with acks(config) as listener:
        msg_id = send(origin)
        # No evidence can be had of something that does not happen: it would take some 2 ms.
        assert not listener.poll(500)
        listener.subscribe(_presence.announcement(_acks.ack_topic(config), origin))
        assert listener.poll(30000)
        assert json.loads(listener.recv_multipart()[1])["msg"]["ack_msg_id"] == msg_id


def test_a_listener_that_never_comes_holds_up_little(consumer, monkeypatch):
    """After some waits in vain the following ACKs leave at once, whoever is to hear them."""
    monkeypatch.setattr(_acknowledge, "HOLD", 1.0)
    monkeypatch.setattr(_acknowledge, "IN_VAIN_SECONDS", 1000.0)
    config, send = consumer
    with acks(config) as listener:
        # It must be connected before the first wait ends.
        wait_for(lambda: _hears(config), "the listener is connected")
        ids = [send(_message.new_origin()) for _ in range(20)]
        began = time.monotonic()
        got = []
        while len(got) < 20:
            assert listener.poll(30000)
            got.append(json.loads(listener.recv_multipart()[1])["msg"]["ack_msg_id"])
        assert got == ids and time.monotonic() - began < 15


def _hears(config):
    [outlet] = [o for o in _outlets._outlets.values() if o.address.name == config["name"]]
    with outlet.look() as peers:
        return peers.asked_for(_acks.ack_topic(config))
