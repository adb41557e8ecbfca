"""Our sockets, one by one: closed by somebody at the worst moment, out of bounds, out of descriptors."""

import logging
import os
import signal
import socket
import time
import types
import weakref

import pytest
import zmq

import gilmsg
from gilmsg import (
    _ack_socket,
    _acknowledge,
    _bus,
    _inherited_sockets,
    _listeners,
    _message,
    _outlets,
    _registry,
    _sockets,
    _subscriptions,
)  # fmt: skip
from gilmsg._acknowledge import Acknowledger
from gilmsg._directory import Bus
from gilmsg._links import Links
from gilmsg._outlet import Address, Outlet
from gilmsg._rate_limit import RateLimitedLog
from gilmsg._wakeup import Wakeup

from .talking import wait_for


@pytest.fixture
def outlet(bus, config):
    """An outlet that nobody else knows, not opened yet."""
    outlet = Outlet(Address("publisher", (bus.ports.endpoint(),), False), config)
    yield outlet
    outlet.close()


def test_an_outlet_that_was_closed_cannot_be_opened(outlet, config):
    """Whoever opens an outlet that destroy() has closed meanwhile is told so."""
    outlet.close()
    with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\)"):
        outlet.open(config, "")


def test_destroy_while_we_wait_for_our_port(outlet, config, monkeypatch):
    """A signal handler that closes the outlet while it tries again and again to bind ends that."""

    def interrupted(_):
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(_sockets, "time", types.SimpleNamespace(monotonic=time.monotonic, sleep=interrupted))
    endpoint = outlet.address.endpoints[0]

    def close(*_):
        outlet.close()

    former = signal.signal(signal.SIGALRM, close)
    try:
        with socket.create_server(("", int(endpoint.rpartition(":")[2]))):
            with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\)"):
                outlet.open(config, endpoint)
    finally:
        signal.signal(signal.SIGALRM, former)


def test_an_outlet_that_is_closed_while_somebody_waits_at_it(outlet, config):
    """Whoever waits for peers is let go when the outlet is closed, be it in the midst of a look."""
    outlet.open(config, "")
    looks = []

    def ready(peers):
        looks.append(peers)
        outlet.close()

    outlet.wait_until(ready, 60)
    assert len(looks) == 1


def test_an_outlet_that_is_closed_while_it_is_drained(outlet, config, monkeypatch):
    """destroy() in a signal handler, between two subscriptions that are taken in, is no error there."""
    outlet.open(config, "")
    with zmq.Context() as context, context.socket(zmq.SUB) as peer:
        peer.linger = 0
        peer.subscribe(b"")
        peer.connect(outlet.endpoint)
        # As the handler would, at just that place.
        monkeypatch.setattr(outlet._subscriptions.peers, "note", lambda *_: outlet.close())

        def closed():
            with outlet.look():
                return outlet.closed

        wait_for(closed, "a subscription has come")


def test_an_outlet_that_fails_is_given_up(outlet, config, monkeypatch):
    """Any other failure of the socket is told, and the next use opens another."""
    outlet.open(config, "")

    def fail():
        raise zmq.ZMQError(zmq.EFSM)

    # A mock: libzmq has no reason to fail here.
    monkeypatch.setattr(outlet._subscriptions, "take", fail)
    with pytest.raises(gilmsg.ListenerError, match="the publisher failed .*nothing was sent"):
        with outlet.look():
            pass
    assert outlet.closed


def test_a_closed_publisher_says_so(config):
    """What sat in context.publisher, and was closed, publishes nothing and says why."""
    publisher = gilmsg.init(**config).publisher
    gilmsg.destroy()
    with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\) for example; nothing was sent"):
        publisher.send_multipart([b"a", b"{}"])


def test_destroy_while_a_plain_message_waits_for_its_head_start(config, monkeypatch):
    """A plain message that is held back while destroy() closes the socket is a ListenerError, not lost in silence."""
    publisher = gilmsg.init(**config).publisher
    # Another thread's destroy() comes during this sleep.
    monkeypatch.setattr(_outlets, "wait_for_age", lambda *_: _outlets.close_all())
    with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\)"):
        publisher.send_multipart([b"a", b"{}"])


def test_a_publisher_that_destroy_has_taken_away(config):
    """Between two steps of a publish a signal handler may destroy(): that is said, and nothing sent."""
    context = gilmsg.init(**config)
    gilmsg.destroy()
    with pytest.raises(gilmsg.ListenerError, match="nothing was sent"):
        _bus.publisher(context)


@pytest.mark.parametrize("recipients", [["alice"], []])
def test_a_hook_that_destroys(bus, config, recipients):
    """A pre_fire_hook that calls destroy() is told that nothing was sent; the next publish works."""
    call = dict(config, topic="t", msg={}, recipients=recipients, ack_timeout=10.0)
    with pytest.raises(gilmsg.ListenerError, match="nothing was sent"):
        gilmsg.publish(pre_fire_hook=lambda message: gilmsg.destroy(), **call)
    gilmsg.publish(**call)


def test_the_publisher_is_closed_while_recipients_are_waited_for(config, monkeypatch):
    """Then nothing is sent, and the hook, which is called just before a message leaves, is not."""
    hooked = []
    gilmsg.init(**config)
    # As another thread's destroy() would, which has stopped the listener of before.
    monkeypatch.setattr(Outlet, "wait_until", lambda outlet, *_: outlet.close())
    with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\) for example; nothing was sent"):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], pre_fire_hook=hooked.append)
    assert hooked == []


@pytest.mark.parametrize("recipients", [["alice"], []])
def test_a_hook_that_fails(config, recipients):
    """What a pre_fire_hook raises comes out as it is, be it what fedmsg raises without a publisher."""
    error = AttributeError("the hook's own")

    def hook(message):
        raise error

    with pytest.raises(AttributeError) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=recipients, pre_fire_hook=hook, **config)
    assert raised.value is error


def test_a_context_that_was_destroyed_by_itself(config):
    """context.destroy() leaves a context without a publisher: the way out is named."""
    gilmsg.init(**config).destroy()
    with pytest.raises(gilmsg.ConfigurationError, match=r"call gilmsg.destroy\(\) and initialize it again"):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"])


def test_a_plain_context_whose_endpoint_is_gone(config):
    """A context of fedmsg.init cannot be taken over once its configuration has no endpoint for it: that is named."""
    import fedmsg

    setattr(fedmsg.config, "__cache", dict(config))
    context = fedmsg.init(post_init_sleep=0)
    context.c["endpoints"] = {}
    with pytest.raises(gilmsg.ConfigurationError, match="endpoints has no entry for the name 'publisher'"):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"])


@pytest.mark.parametrize(
    "wrong, named",
    [
        (dict(zmq_tcp_keepalive=99), "the socket for the name 'publisher' cannot be set up"),
        (
            dict(active=True, name="relay_inbound", relay_inbound="carrier-pigeon://127.0.0.1:1"),
            "relay_inbound: cannot connect",
        ),
    ],
)
def test_what_libzmq_does_not_take_is_named(config, wrong, named):
    """A setting that only libzmq finds to be wrong is a ConfigurationError that says where to look."""
    with pytest.raises(gilmsg.ConfigurationError, match=named):
        gilmsg.init(**dict(config, **wrong))


def test_acks_are_taken_in_batches(bus, config, monkeypatch):
    """However many frames have come, deadlines are looked at after a bounded number of them, and a bounded time."""
    monkeypatch.setattr(_ack_socket, "_BATCH", 1)
    monkeypatch.setattr(_ack_socket, "_BATCH_TIME", 60.0)
    endpoint = bus.ports.endpoint()
    with zmq.Context() as context, context.socket(zmq.XPUB) as peer:
        peer.linger = 0
        peer.bind(endpoint)
        acks = _ack_socket.AckSocket(context, Bus("acks", {"peer": [endpoint]}), "origin", config, Links())
        try:
            assert peer.poll(10000)
            for number in range(5):
                peer.send_multipart([b"acks", b"%d" % number])
            got = []
            while len(got) < 5:
                assert acks.socket.poll(10000)
                batch = [parts[1] for parts in acks.frames()]
                assert len(batch) == 1
                got += batch
            peer.send_multipart([b"acks", b"5"])
            monkeypatch.setattr(_ack_socket, "_BATCH_TIME", -1.0)
            assert acks.socket.poll(10000) and list(acks.frames()) == []
        finally:
            acks.close()
    assert got == [b"0", b"1", b"2", b"3", b"4"]


def test_buses_are_told_apart():
    """Equal is what has the same ACK topic and the same endpoints, in whatever order they were given."""
    one = Bus("acks", {"a": ["tcp://1"], "b": ["tcp://2"]})
    assert one == one and one == Bus("acks", {"b": ["tcp://2"], "a": ["tcp://1"]})
    assert hash(one) == hash(Bus("acks", {"b": ["tcp://2"], "a": ["tcp://1"]}))
    assert one != Bus("acks", {"a": ["tcp://1"]}) and one != Bus("other", dict(one.endpoints)) and one != "acks"


def test_a_wakeup_is_for_anybody_at_any_time():
    """Any number of wake-ups is cleared at once; to clear none, or to wake what is closed, does nothing."""
    wakeup = Wakeup()
    wakeup.clear()
    for _ in range(10000):  # more than the pipe holds
        wakeup.wake()
    wakeup.clear()
    wakeup.close()
    wakeup.wake()
    assert wakeup.fileno() == -1


def test_a_child_of_a_process_that_holds_nothing_keeps_what_is_the_users(monkeypatch):
    """Where gilmsg has opened no socket, a fork closes none."""
    monkeypatch.setattr(_inherited_sockets, "_claims", weakref.WeakKeyDictionary())
    with socket.create_server(("127.0.0.1", 0)) as own:
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if own.getsockname()[1] else 2)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_closed_outlet_is_replaced(config):
    """Whatever has closed it, the next use opens another; to close the former again takes nothing from that."""
    publisher = gilmsg.init(**config).publisher
    former = publisher.outlet()
    former.close()
    now = publisher.outlet()
    assert now is not former and not now.closed
    _outlets._outlets.end(former.address, former)
    assert publisher.outlet() is now and not now.closed


def test_a_thing_that_a_handler_ends_while_it_is_forgotten():
    """A handler's destroy(), between the look at what is known and its removal, is no error."""
    ended = []

    class Interrupted(_registry.Registry):
        def get(self, key):
            found = super().get(key)
            self.clear()  # as the handler would, just then
            return found

    known = Interrupted(ended.append)
    thing = known.new("key", object)
    known.end_all()
    assert ended == [thing] and not known


def test_destroy_in_two_threads_at_once(bus, config, monkeypatch):
    """What another thread's destroy() has stopped and forgotten meanwhile is no error."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    [listener] = _listeners._listeners.values()
    plain = listener.stop

    def stop():
        plain()
        _listeners._listeners.clear()  # as the other thread would, just then

    monkeypatch.setattr(listener, "stop", stop)
    _listeners.stop_all()
    assert not listener.alive and not _listeners._listeners


def test_who_interrupts_a_send_of_its_own_thread_is_refused(outlet, config):
    """A signal handler, or a __del__, that publishes in the midst of a send would wait for itself: it is told so."""
    outlet.open(config, "")
    with outlet.look():
        with pytest.raises(gilmsg.ConfigurationError, match="do it on another thread"):
            outlet.send([b"a", b"{}"])
    assert not outlet.closed


def test_a_crowd_of_subscriptions_is_taken_in_bit_by_bit(outlet, config, monkeypatch):
    """At each look at most so many are taken in: a peer that sends them without end holds up no message."""
    monkeypatch.setattr(_subscriptions, "_AT_ONCE", 2)
    outlet.open(config, "")
    with zmq.Context() as context, context.socket(zmq.SUB) as peer:
        peer.linger = 0
        for number in range(5):
            peer.subscribe(b"%d" % number)
        peer.connect(outlet.endpoint)
        marks = [0]
        while marks[-1] < 5:
            outlet.send([b"a", b"{}"])
            marks.append(outlet.mark)
    assert max(after - before for before, after in zip(marks, marks[1:])) <= 2


def test_to_catch_up_takes_a_moment_once(outlet, config):
    """Many looks that shall find out who has gone wait for that once; at a closed outlet nothing is waited for."""
    outlet.open(config, "")
    assert outlet._subscriptions.behind() is not None and outlet._subscriptions.behind() is None
    outlet.catch_up()
    outlet._subscriptions._caught_up = 0.0
    outlet.catch_up()
    outlet.close()
    outlet.catch_up()


def test_lines_that_strangers_cause_are_few(caplog):
    """Of many at once the first is written; the next one, a while later, says how many were left out."""
    limited = RateLimitedLog(logging.getLogger("gilmsg.tested"))
    for number in range(3):
        limited.warning("dropped %d", number)
    limited._next = 0.0  # a second later
    limited.warning("dropped %d", 3)
    assert [record.getMessage() for record in caplog.records] == [
        "dropped 0", "dropped 3 (and 2 more like it in the meantime)"
    ]


def test_a_listener_that_never_comes_is_not_waited_for_again_and_again(config):
    """An old publisher holds an ACK back for a listener it does not know, once in a while; a young one longer."""
    acknowledger = Acknowledger(config, gilmsg.init(**config).publisher)
    publisher = _bus.current().publisher
    body = {"ack_msg_id": "2026-a-b-c-d-" + _message.new_origin(), "ack_digest": "0"}
    publisher.outlet().born -= 100
    for _ in range(_acknowledge.IN_VAIN):
        acknowledger.send(body)
    held = list(acknowledger._in_vain)
    assert len(held) == _acknowledge.IN_VAIN
    acknowledger.send(body)
    assert list(acknowledger._in_vain) == held  # it did not wait
