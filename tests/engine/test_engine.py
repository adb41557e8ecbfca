"""The engine on real sockets: order, head starts, ends, and who is told what when the thread dies."""

from __future__ import annotations

import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zmq

from gilmsg import _engine
from gilmsg._engine import CallbackFuture, loop, mailbox
from gilmsg._engine.operations import Acknowledgement, Ask
from gilmsg._protocol import announcement, nack_topic
from gilmsg.errors import ConfigurationError, ListenerError, Timeout

from .conftest import ACKS, CONFIG, LIMIT, TOPIC, Bus, until


def test_a_message_leaves_when_its_recipient_is_present_and_ends_with_the_ack(bus: Bus) -> None:
    """A held message leaves at the announcement, and its ACK settles it."""
    port = bus.port()
    message = bus.message(port, "1")
    port.publish(message)
    bus.recipient.announce()
    assert bus.recipient.received() == "1"
    bus.recipient.heard(port.origin)
    bus.recipient.acknowledge("1", message.digest)
    receipt = port.result_of(message.outcome, LIMIT)
    assert receipt.msg_id == "1"
    assert set(receipt.acks) == {"backend01"}


def test_acks_of_many_futures_are_taken_in_batches(bus: Bus) -> None:
    """While no thread waits for one of many the engine is patient; with one that waits it is not; all are settled."""
    port = bus.port()
    bus.recipient.announce()
    bus.recipient.heard(port.origin)
    futures = {str(number): bus.message(port, str(number), urgent=False, outcome=CallbackFuture()) for number in range(8)}
    waited = bus.message(port, "waited")
    for message in futures.values():
        port.publish(message)
    assert sorted(bus.recipient.received() for _ in futures) == sorted(futures)
    assert port.look(port._engine._is_patient)
    port.publish(waited)
    assert bus.recipient.received() == "waited"
    assert not port.look(port._engine._is_patient)
    for msg_id, message in {**futures, "waited": waited}.items():
        bus.recipient.acknowledge(msg_id, message.digest)
    assert port.result_of(waited.outcome, LIMIT).msg_id == "waited"
    assert {msg_id: message.outcome.result(LIMIT).msg_id for msg_id, message in futures.items()} == {one: one for one in futures}


@pytest.mark.parametrize(
    ("asleep", "dozing", "urgent", "woken"),
    [
        (True, False, [False], [True]), (True, True, [False] * 5, [False] * 3 + [True] * 2),
        (True, True, [False, True], [False, True]), (False, False, [False, True], [False, False]),
    ],
)  # fmt: skip
def test_the_thread_is_woken_where_it_would_not_look_soon_enough(asleep, dozing, urgent, woken, monkeypatch):
    """An engine thread that sleeps is woken for each operation; one that dozes for what is waited for, and for four."""
    wakes: list[None] = []
    box = mailbox.Mailbox()
    monkeypatch.setattr(box, "_wake", lambda: wakes.append(None))
    box._asleep, box._dozing = asleep, dozing
    found = []
    for hurry in urgent:
        wakes.clear()
        box.put(types.SimpleNamespace(urgent=hurry))
        found.append(bool(wakes))
    box.forget()
    assert found == woken


def test_a_thread_keeps_its_order_and_holds_back_no_other(bus: Bus) -> None:
    """What one thread hands over leaves behind its held message; another thread's message leaves at once."""
    bus.recipient.announce("org.example.dev.b")
    port = bus.port()
    until(lambda: port.look(lambda: port.way("org.example.dev.b").ready(["backend01"])), "presence")
    port.publish(bus.message(port, "held", head_start=LIMIT, recipients=["nobody"]))
    with ThreadPoolExecutor(2) as other:
        mine = other.submit(port.plain, [b"org.example.dev.b", b'{"msg_id": "other"}'])
        mine.result(LIMIT)
        assert bus.recipient.received() == "other"
    done = threading.Event()

    def both() -> None:
        port.publish(bus.message(port, "first", recipients=["nobody"], topic="org.example.dev.b",
                                 parts=[b"org.example.dev.b", b'{"msg_id": "first"}']))  # fmt: skip
        port.publish(bus.message(port, "second", topic="org.example.dev.b", way=port.way("org.example.dev.b"),
                                 parts=[b"org.example.dev.b", b'{"msg_id": "second"}']))  # fmt: skip
        done.set()

    threading.Thread(target=both).start()
    assert done.wait(LIMIT)
    assert not bus.recipient.sub.poll(50), "the second message overtook the first"
    _engine.destroy()
    assert [bus.recipient.received(), bus.recipient.received()] == ["first", "second"]


def test_an_abandoned_message_never_leaves(bus: Bus) -> None:
    """A message whose caller has gone is not sent when its recipient comes."""
    port = bus.port()
    gone = bus.message(port, "gone")
    port.publish(gone)
    port.forget(gone)
    bus.recipient.announce()
    until(lambda: port.look(lambda: port.way(TOPIC).ready(["backend01"])), "presence")
    port.publish(bus.message(port, "next"))
    assert bus.recipient.received() == "next"


def test_destroy_lets_leave_what_is_held_and_tells_who_waits(bus: Bus) -> None:
    """At destroy() a held message leaves, its waiter is told that delivery is unknown, and the port is free."""
    bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, TOPIC.encode())  # plain: no announcement
    port = bus.port()
    message = bus.message(port, "held")
    port.publish(message)
    until(lambda: port.look(lambda: port.way(TOPIC).peers.subscribed(TOPIC)), "the subscription")
    _engine.destroy()
    assert bus.recipient.received() == "held"
    with pytest.raises(ListenerError, match="stopped by destroy.*unknown"):
        port.result_of(message.outcome, LIMIT)
    with pytest.raises(_engine.Gone, match="nothing was sent"):
        port.publish(message)
    again = bus.port()
    assert again.endpoint == bus.ours
    assert again.origin != port.origin


def test_what_is_put_when_the_thread_has_just_ended_is_settled(bus: Bus) -> None:
    """An operation put after the last drain is refused by its own caller: nobody waits for ever."""
    port = bus.port()
    engine = _engine._engine
    assert engine is not None
    _engine.destroy()
    message, future = bus.message(port, "late"), CallbackFuture()
    engine.put(message)
    engine.put(bus.message(port, "late", outcome=future))  # no round comes that would hand it over
    for wait in (lambda: port.result_of(message.outcome, 0.0), lambda: future.result(LIMIT)):
        with pytest.raises(ListenerError, match="nothing was sent"):
            wait()


def test_the_same_id_twice_is_refused(bus: Bus) -> None:
    """A second message of an id that is still on its way is a ConfigurationError, and the first goes on."""
    port = bus.port()
    first, second = (bus.message(port, "1") for _ in range(2))
    port.publish(first)
    port.publish(second)
    bus.recipient.announce()
    with pytest.raises(ConfigurationError, match="still waits"):
        port.result_of(second.outcome, LIMIT)
    assert bus.recipient.received() == "1"
    bus.recipient.heard(port.origin)
    bus.recipient.acknowledge("1", first.digest)
    assert port.result_of(first.outcome, LIMIT).msg_id == "1"


def test_an_ack_waits_for_its_listener_and_leaves_at_last(bus: Bus) -> None:
    """An ACK of a young socket waits for the listener's announcement; in vain it leaves all the same."""
    port = _engine.publisher(bus.address, None, CONFIG)
    bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, ACKS.encode())
    until(lambda: port.look(lambda: port.way(ACKS).peers.subscribed(ACKS)), "the subscription")
    port.acknowledge([ACKS.encode(), b'{"msg_id": "ack"}'], "0123456789ab")
    assert port.age >= Acknowledgement.YOUNG
    assert bus.recipient.received() == "ack"
    began = time.monotonic()
    for _ in range(200):  # a few more wait a tenth of a second each, then no more: 20 s, if all did
        port.acknowledge([ACKS.encode(), b'{"msg_id": "ack"}'], "0123456789ab")
    assert 0.2 < time.monotonic() - began < 19


def test_a_nack_waits_for_its_listener_and_leaves_to_nobody_else(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NACK leaves once its listener has announced itself, and holds up nothing; in vain it never leaves."""

    def refuse(msg_id: str, young: float) -> None:
        monkeypatch.setattr(Acknowledgement, "YOUNG", young)
        port.refuse([topic.encode(), f'{{"msg_id": "{msg_id}"}}'.encode()], "0123456789ab")

    topic, port = nack_topic(ACKS), _engine.publisher(bus.address, None, CONFIG)
    lines = port._sending().lines
    for wanted in (announcement(ACKS, "0123456789ab"), topic.encode()):  # the listener of 1.0.0 has the first one only
        bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, wanted)
    until(lambda: port.look(lambda: port.way(topic).peers.subscribed(topic)), "the subscription")
    refuse("in vain", 0.0)
    until(lambda: port.look(lambda: not lines), "the end of its time")
    refuse("in time", LIMIT)
    port.plain([topic.encode(), b'{"msg_id": "plain"}'])
    assert bus.recipient.received() == "plain"
    bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, announcement(topic, "0123456789ab"))
    assert bus.recipient.received() == "in time"


def test_the_last_handle_closes_the_socket(bus: Bus) -> None:
    """A socket lives as long as one handle of it does; then its port is free, and what waits there fails."""
    first, second = bus.port(), bus.port()
    assert (first.shared, second.shared, second.shared_listener) == (False, True, True)
    first.close()
    message = bus.message(second, "1")
    second.publish(message)
    other = zmq.Context()
    with pytest.raises(zmq.ZMQError):
        other.socket(zmq.PUB).bind(bus.ours.replace("127.0.0.1", "*"))
    second.close()
    with pytest.raises(ListenerError, match="nothing was sent"):
        second.result_of(message.outcome, LIMIT)
    until(lambda: _binds(other, bus.ours), "the port")
    other.destroy(linger=0)


def _binds(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> bool:
    try:
        context.socket(zmq.PUB).bind(endpoint)
    except zmq.ZMQError:
        return False
    return True


def test_a_handler_that_publishes_within_the_start_is_told(monkeypatch: pytest.MonkeyPatch, bus: Bus) -> None:
    """A signal handler that interrupts the very start of the engine gets a ListenerError at once."""
    told = []
    start = loop.Engine.start

    def interrupted(self: loop.Engine) -> None:
        try:
            bus.port()
        except ListenerError as error:
            told.append(str(error))
        start(self)

    monkeypatch.setattr(loop.Engine, "start", interrupted)
    bus.port()
    assert "nothing was sent" in told[0]


def test_what_is_held_while_its_listener_is_closed_is_told(bus: Bus) -> None:
    """A listener closes while a message that it was to await is still held: nobody would keep the deadline."""
    port = bus.port()
    message = bus.message(port, "1", recipients=["nobody"])
    port.publish(message)
    other = _engine.publisher(bus.address, None, CONFIG)
    port.close()
    other.look(lambda: _ripen(message))
    with pytest.raises(ListenerError, match="nothing was sent"):
        port.result_of(message.outcome, LIMIT)
    assert other.alive


def _ripen(message: _engine.Message) -> None:
    """End the head start of *message* now."""
    message.until = 0.0


@pytest.mark.parametrize("parts", [[], [b"topic", "text"]])
def test_frames_that_cannot_be_sent_are_the_callers_error(bus: Bus, parts: list[bytes]) -> None:
    """Whoever sends through ``context.publisher`` what is no message is told, and ends no engine."""
    port = bus.port()
    with pytest.raises(TypeError):
        port.plain(parts)
    assert port.alive
    port.plain([b"topic", b"bytes"])


def test_no_linger_is_for_ever(bus: Bus) -> None:
    """With libzmq's endless linger, and a peer that reads nothing, the engine ends all the same, and its port is free."""
    bus.recipient.sub.setsockopt(zmq.RCVHWM, 1)
    bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, b"x")
    port = _engine.publisher(bus.address, None, {**CONFIG, "zmq_linger": -1})
    until(lambda: port.look(lambda: port.way("x").peers.subscribed("x")), "the subscription")
    for _ in range(50):
        port.plain([b"x", bytes(1_000_000)])
    began = time.monotonic()
    _engine.destroy()
    assert time.monotonic() - began < LIMIT / 2
    assert "gilmsg-engine" not in [thread.name for thread in threading.enumerate()]
    assert bus.port().endpoint == bus.ours


def test_an_engine_starts_when_the_one_before_has_given_its_ports_back(bus: Bus) -> None:
    """A call that comes while destroy() has not done its work finds the port free, a moment later."""
    bus.port()
    engine = _engine._engine
    assert engine is not None
    engine.put(Ask(lambda: time.sleep(0.3)))
    ending = threading.Thread(target=_engine.destroy)
    ending.start()
    until(lambda: engine.stopping, "the end begins")
    assert bus.port().endpoint == bus.ours
    ending.join(LIMIT)
    assert bus.port().alive


def test_an_engine_that_is_destroyed_while_it_starts_is_started_again(bus: Bus) -> None:
    """destroy() in another thread, between any two lines of the start, costs another attempt at most."""
    destroyed = []

    def at_each_line(frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and _engine._engine is not None and not destroyed:
            destroyed.append(frame.f_lineno)
            _engine.destroy()
        return at_each_line

    def start() -> _engine.Port:
        sys.settrace(lambda frame, *_: at_each_line if frame.f_code.co_name == "_running_engine" else None)
        try:
            return bus.port()
        finally:
            sys.settrace(None)

    with ThreadPoolExecutor(1) as other:
        assert other.submit(start).result(LIMIT).alive
    assert destroyed


def test_a_plain_message_is_abandoned_wherever_its_caller_is_interrupted(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler raises just after the hand-over: what waits behind a held message never leaves then."""
    bus.recipient.sub.setsockopt(zmq.SUBSCRIBE, b"")
    port, put = bus.port(), loop.Engine.put
    until(lambda: port.look(lambda: port.way("x").peers.subscribed("x")), "the subscription")

    def interrupted(self: loop.Engine, operation: Any) -> None:
        put(self, operation)
        raise KeyboardInterrupt

    port.publish(bus.message(port, "held"))
    monkeypatch.setattr(loop.Engine, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        port.plain([b"x", b'{"msg_id": "plain"}'])
    monkeypatch.undo()
    bus.recipient.announce()
    port.plain([b"x", b'{"msg_id": "next"}'])
    assert [bus.recipient.received(), bus.recipient.received()] == ["held", "next"]


def test_who_waits_behind_a_longer_head_start_keeps_patience(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message is held behind one of its thread's with a longer head start: its caller does not give the engine up."""
    port, engine = bus.port(), _engine._engine
    assert engine is not None
    monkeypatch.setattr(mailbox, "_GRACE", (0.05,))
    monkeypatch.setattr("gilmsg._engine.port._LONGEST_HOLD", 0.05)
    long, longer = (bus.message(port, one, recipients=["nobody"], outcome=CallbackFuture()) for one in ("long", "longer"))
    short = bus.message(port, "short", head_start=0.0, ack_timeout=0.1)

    def waits() -> None:
        port.publish(long)
        port.publish(short)
        with pytest.raises(Timeout):
            port.result_of(short.outcome, short.ack_timeout)
        port.publish(longer)
        port.plain([b"x", b"plain"])

    with ThreadPoolExecutor(1) as other:
        done = other.submit(waits)
        for held in (long, longer):
            until(lambda held=held: held.out.lines, "it is held")
            time.sleep(0.5)  # longer than anybody waits for what nothing holds back
            engine.put(Ask(lambda held=held: _ripen(held)))
            until(lambda held=held: held.sent_at, "it leaves")
        done.result(LIMIT)
    assert port.alive
