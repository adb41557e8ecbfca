"""publish: the Receipt, the Timeout, and everything that is refused before anything is sent."""

import gc
import getpass
import json
import os
import threading
import time
import weakref

import fedmsg
import pytest

import gilmsg
from gilmsg import _listener, _listeners, _message, _outlets, _wakeup
from gilmsg._keypair import KeyPair
from gilmsg.sandbox import Sandbox

from .conftest import own_config
from .helpers import Inbox, received, write_config
from .processes import python
from .talking import wait_for

TOO_SHORT = 1e-6


def test_every_recipient_confirms(bus, config):
    """publish returns a Receipt that says when each recipient's ACK came."""
    receipt = gilmsg.publish(topic="hello", msg={"a": 1}, recipients=["bob", "alice"], **config)
    assert sorted(receipt.acks) == ["alice", "bob"]
    assert all(0 < seconds < 5.0 for seconds in receipt.acks.values())
    assert receipt.topic == "org.example.dev.tests.hello"
    for name in ("alice", "bob"):
        assert received(bus, name, receipt.msg_id)["msg"] == {
            "a": 1,
            "gilmsg": {"version": gilmsg.__version__, "recipients": ["bob", "alice"]},
        }


def test_a_dead_recipient_is_a_timeout(bus, config):
    """A killed recipient never counts; the Timeout carries what is known of every one."""
    bus.dead("bob")
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="hello", msg={}, recipients=["alice", "bob"], ack_timeout=2.5, **config)
    timeout = raised.value
    assert list(timeout.acks) == ["alice"] and list(timeout.missing) == ["bob"]
    assert timeout.ack_timeout == 2.5
    assert timeout.topic == "org.example.dev.tests.hello"
    for part in (timeout.topic, timeout.msg_id, "1 of 2", "bob"):
        assert part in str(timeout)


def test_a_silent_recipient_may_have_received(bus, config):
    """A recipient that gets the message and does not answer is neither delivered nor lost."""
    bus.silent("bob")
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="hello", msg={}, recipients="bob", ack_timeout=0.25, **config)
    assert "may have received" in raised.value.missing["bob"]
    assert received(bus, "bob", raised.value.msg_id)


def test_results_are_not_shared_between_calls(bus, config):
    """A recipient that confirmed one message and died does not confirm the next one."""
    gilmsg.publish(topic="hello", msg={}, recipients=["bob"], **config)
    bus.dead("bob")
    for _ in range(3):
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(topic="hello", msg={}, recipients=["bob"], ack_timeout=0.1)


def test_recipients_collapse_and_may_be_any_iterable(bus, config):
    """Duplicates count once, order does not matter, a generator will do."""
    receipt = gilmsg.publish(
        topic="hello", msg={}, recipients=(n for n in ("bob", "bob", "alice")), **config
    )
    assert sorted(receipt.acks) == ["alice", "bob"]


def test_of_a_group_one_is_enough(bus, config):
    """A group is satisfied by the member that answers, and the Receipt says who it was."""
    bus.dead("alice")
    group = gilmsg.any_of("alice", "bob")
    assert group == "alice,bob"
    assert list(gilmsg.publish(topic="t", msg={}, recipients=[group], **config).acks) == ["bob"]
    bus.dead("bob")
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=[group], ack_timeout=0.1)
    assert list(raised.value.missing) == ["alice,bob"]


BAD = [
    (dict(recipients=["alice", ""]), "recipients"),
    (dict(recipients=[b"alice"]), "alice"),
    (dict(recipients=b"alice"), "alice"),
    (dict(recipients=[None]), "None"),
    (dict(recipients=7), "7"),
    (dict(recipients=["alice,"]), "alice,"),
    (dict(ack_timeout=0), "0"),
    (dict(ack_timeout=-1), "-1"),
    (dict(ack_timeout=float("inf")), "inf"),
    (dict(ack_timeout=float("nan")), "nan"),
    (dict(ack_timeout="1"), "'1'"),
    (dict(ack_timeout=True), "True"),
    (dict(topic=5), "5"),
    (dict(modname=5), "modname"),
    (dict(pre_fire_hook="no"), "'no'"),
    (dict(msg={1: 2, "x": 1}), "keys text"),
    ({"gilmsg.ack_timout": 3}, "'gilmsg.ack_timout'"),
    (dict(topic=b"\xff"), "b'\\xff'"),
    (dict(msg=["a"]), "dict"),
    (dict(msg="a"), "dict"),
    (dict(msg={"gilmsg": 1}), "gilmsg"),
    (dict(msg={"a": object()}), "JSON"),
    ({"gilmsg.ack_timeout": 0}, "gilmsg.ack_timeout"),
    ({"gilmsg.head_start": -1}, "gilmsg.head_start"),
    ({"gilmsg.recipients": {"another.topic": [""]}}, "another.topic"),
    ({"gilmsg.recipients": ["alice"]}, "gilmsg.recipients"),
    (dict(crypto_backend="gpg"), "crypto_backend"),
    (dict(zmq_enabled=False), "zmq_enabled"),
    (dict(mute=True), "mute"),
    (dict(name="nobody"), "nobody"),
    (dict(certnames={}), "certnames"),
    (dict(ssldir="/nonexistent"), "ssldir"),
    (dict(ca_cert_location=None), "ca_cert_location"),
    (dict(ca_cert_location="https://example.com/ca"), "ca_cert_location"),
    (dict(ca_cert_location="/nonexistent"), "ca_cert_location"),
    (dict(ca_cert_location=os.devnull), "ca_cert_location"),
    (dict(crl_location="/nonexistent"), "crl_location"),
    (dict(crl_location=os.devnull), "crl_location"),
    (dict(active=True, relay_inbound=None, name=None), "relay_inbound"),
]


@pytest.mark.parametrize("wrong, named", BAD, ids=[str(list(w)) + n for w, n in BAD])
def test_bad_input_is_refused_before_anything_is_sent(bus, config, wrong, named):
    """Unusable input is a ConfigurationError that names it, and nobody receives anything."""
    inbox = Inbox(bus, "refused")
    call = dict(dict(config, topic="refused", msg={}, recipients=["alice"]), **wrong)
    with pytest.raises(gilmsg.ConfigurationError) as raised:
        gilmsg.publish(**call)
    assert isinstance(raised.value, ValueError)
    assert named in str(raised.value)
    gilmsg.destroy()
    receipt = gilmsg.publish(topic="after.refused", msg={}, recipients=["alice"], **own_config(bus))
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


def nested(depth):
    inner = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("way", ["msg", "hook", "unsigned"])
def test_what_is_nested_as_deeply_as_can_be_is_sent_or_refused(way):
    """What can be encoded by itself, but not in its message, or not once more, is refused like what cannot at all."""
    with Sandbox(["alice"]) as own_bus:  # one that is received can hardly be shown
        outermost_refused(own_config(own_bus), way)


def outermost_refused(config, way):
    """Look for the depth from which on publish refuses, and never see another error than its own."""

    def refusal(depth):
        deep = {"deep": nested(depth)}
        call = dict(config, topic="t", msg=deep, recipients=["alice"], ack_timeout=0.01)
        call["sign_messages"] = way != "unsigned"
        if way == "hook":
            call.update(msg={}, pre_fire_hook=lambda message: message.update(msg=deep))
        try:
            gilmsg.publish(**call)
        except gilmsg.Timeout:
            return None
        except gilmsg.ConfigurationError as error:
            return error
        return None

    sent, refused = 1, 200_000
    while refused - sent > 1:
        middle = (sent + refused) // 2
        sent, refused = (sent, middle) if refusal(middle) else (middle, refused)
    assert refusal(sent) is None and refusal(refused)


def test_a_user_without_a_name_is_one_all_the_same(bus, config, monkeypatch):
    """Where the user has no name, as in a container, its number is one. (Patched: only root can become such a user.)"""

    def nobody():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nobody)
    _message._login.cache_clear()
    try:
        receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config)
    finally:
        _message._login.cache_clear()
    assert received(bus, "alice", receipt.msg_id)["username"] == str(os.getuid())


def test_async_raises_bad_input_from_the_call(config):
    """publish_async refuses bad input itself, never on its Future."""
    with pytest.raises(gilmsg.ConfigurationError):
        gilmsg.publish_async(topic="t", msg={}, recipients=[""], **config)


def test_no_free_port_is_an_ioerror_too(bus, config):
    """Where another process holds every declared port, publish says so, as an IOError as well."""
    import socket

    port = bus.ports.take()
    with socket.create_server(("", port)):
        config["endpoints"]["publisher"] = ["tcp://127.0.0.1:%d" % port]
        with pytest.raises(gilmsg.ConfigurationError, match="publisher.*in use") as raised:
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config)
    assert isinstance(raised.value, IOError)


def test_payload_survives_the_encoder(bus, config):
    """A payload whose key order changes in the encoder is signed as it arrives, and stays as it was."""
    payload = {"n": {10: "a", 9: "b"}}
    receipt = gilmsg.publish(topic="t", msg=payload, recipients=["alice"], **config)
    assert payload == {"n": {10: "a", 9: "b"}}
    assert received(bus, "alice", receipt.msg_id)["msg"]["n"] == {"9": "b", "10": "a"}


def test_hook_sees_the_signed_message_once(config):
    """pre_fire_hook gets the finished message, in this thread, the listener already listening."""
    seen = []

    def hook(message):
        alive = [listener.alive for listener in _listeners._listeners.values()]
        seen.append((threading.current_thread(), "signature" in message, alive))

    gilmsg.publish(topic="t", msg={}, recipients=["alice"], pre_fire_hook=hook, **config)
    assert seen == [(threading.current_thread(), True, [True])]


def test_hook_that_raises_sends_nothing(bus, config):
    """If the hook raises, nothing is sent and nothing stays registered."""
    inbox = Inbox(bus, "hooked")
    with pytest.raises(ZeroDivisionError):
        gilmsg.publish(
            topic="hooked", msg={}, recipients=["alice"], pre_fire_hook=lambda m: 1 / 0, **config
        )
    assert [len(listener._ledger) for listener in _listeners._listeners.values()] == [0]
    receipt = gilmsg.publish(topic="after.hooked", msg={}, recipients=["alice"])
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


def test_a_hook_that_leaves_no_message_is_told_so(config):
    """What the hook leaves must be a message that can be sent: nothing is, and the error says what it is."""
    call = dict(config, topic="t", msg={}, recipients=["alice"])
    for change, told in (({"msg_id": None}, "whose msg_id is None"), ({"x": object()}, "cannot be encoded")):
        with pytest.raises(gilmsg.ConfigurationError, match=told):
            gilmsg.publish(pre_fire_hook=lambda message: message.update(change), **call)
    assert [len(listener._ledger) for listener in _listeners._listeners.values()] == [0]


def test_a_hook_that_takes_an_id_that_still_waits(config):
    """One id cannot wait twice: the second call is refused with the id, by publish_async too, and the first goes on."""
    call = dict(config, topic="t", msg={}, recipients=["nobody"], **{"gilmsg.head_start": 0})

    def hook(message):
        message["msg_id"] = "2026-mine"

    first = gilmsg.publish_async(pre_fire_hook=hook, ack_timeout=0.5, **call)
    for publish in (gilmsg.publish, gilmsg.publish_async):
        with pytest.raises(gilmsg.ConfigurationError, match="'2026-mine' still waits for its ACKs"):
            publish(pre_fire_hook=hook, **call)
    assert isinstance(first.exception(30), gilmsg.Timeout) and first.exception().msg_id == "2026-mine"


def test_async_without_recipients(config):
    """publish_async without recipients sends as fedmsg does, and its Future is done at once, with None."""
    future = gilmsg.publish_async(topic="t", msg={}, recipients=[], **dict(config, post_init_sleep=0))
    assert future.done() and future.result() is None


def test_without_zeromq_a_message_without_recipients_is_fedmsgs_own_affair(config):
    """With zmq_enabled off it is not refused, but left to fedmsg, which passes it to the hub that there is not."""
    with pytest.raises(AttributeError, match="without moksha-hub"):
        gilmsg.publish(topic="t", msg={}, recipients=[], **dict(config, zmq_enabled=False))


def test_a_topic_that_is_full_already(config):
    """A topic that begins with the prefix is left as it is, as in fedmsg."""
    assert _message.full_topic("t", "org.example.dev.m", config) == "org.example.dev.m.t"
    assert _message.full_topic("t", "m", config) == "org.example.dev.m.t"


def test_hook_that_breaks_the_signature_is_a_timeout(config):
    """A message changed by the hook after signing is dropped by a validating recipient: Timeout."""
    with pytest.raises(gilmsg.Timeout):
        gilmsg.publish(
            topic="t",
            msg={},
            recipients=["alice"],
            pre_fire_hook=lambda m: m.update(i=77),
            ack_timeout=0.25,
            **config
        )


def test_unsigned_publisher_may_ask_for_acks(bus, config):
    """A publisher that does not sign gets signed ACKs from a recipient that does not validate."""
    code = (
        "import gilmsg, json, sys\n"
        "config = json.loads(sys.argv[1])\n"
        "tail = gilmsg.tail_messages(**config)\n"
        "print('ready', flush=True)\n"
        "print(next(tail)[2])\n"
    )
    import json

    theirs = dict(config, name="carol", validate_signatures=False)
    result = []
    child = threading.Thread(target=lambda: result.append(python(code, ".", json.dumps(theirs))))
    child.start()
    receipt = gilmsg.publish(
        topic="t", msg={}, recipients=["carol"], **dict(config, sign_messages=False,
        **{"gilmsg.head_start": 30.0})
    )
    child.join()
    assert list(receipt.acks) == ["carol"]
    assert "org.example.dev.tests.t" in result[0].stdout


def test_init_then_publish(config):
    """After gilmsg.init a publish needs no configuration."""
    context = gilmsg.init(**config)
    assert getattr(fedmsg, "__local").__dict__["__context"] is context
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"]).acks


def test_init_twice_is_refused_as_in_fedmsg(config):
    """A second init in one thread raises what fedmsg raises."""
    gilmsg.init(**config)
    with pytest.raises(ValueError, match="already initialized"):
        gilmsg.init(**config)


def test_configuration_comes_from_fedmsg_d(config, tmp_path):
    """Without any configuration in the call, that of fedmsg.d is used."""
    write_config(tmp_path, config)
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"]).acks


def test_takes_over_a_plain_fedmsg_context(config, tmp_path):
    """A context of plain fedmsg.init keeps its port; both libraries publish by it afterwards."""
    write_config(tmp_path, config)
    context = fedmsg.init(**config)
    port = context.publisher.LAST_ENDPOINT.decode().rpartition(":")[2]
    receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice", "bob"])
    assert sorted(receipt.acks) == ["alice", "bob"]
    assert context.publisher.outlet().endpoint.endswith(":" + port)
    fedmsg.publish(topic="plain", msg={})


def test_destroy_then_publish(config):
    """After destroy the next publish starts anew, on the same single port."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    for _ in range(3):
        assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config).acks
        gilmsg.destroy()
        assert not _outlets._outlets and not _listeners._listeners


def test_many_threads_share_one_port(bus, config):
    """Eight threads publish at once with one declared port; each gets its own confirmations."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    failures, receipts = [], []

    def work():
        try:
            for number in range(10):
                receipts.append(
                    gilmsg.publish(
                        topic="t", msg={"n": number}, recipients=["alice", "bob"],
                        ack_timeout=5.0, **own_config(bus, endpoints=config["endpoints"])
                    )
                )
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len({receipt.msg_id for receipt in receipts}) == 80
    got = {message["msg_id"] for message in bus.received("alice")}
    assert {receipt.msg_id for receipt in receipts} <= got


def test_destroy_tells_waiters_at_once(bus, config):
    """Who waits in another thread while destroy is called gets a ListenerError, not a Timeout."""
    bus.silent("alice")
    caught, waiting = [], threading.Event()

    def work():
        try:
            gilmsg.publish(
                topic="t", msg={}, recipients=["alice"], ack_timeout=60,
                pre_fire_hook=lambda m: waiting.set(), **config
            )
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert waiting.wait(10)
    wait_for(lambda: any(len(one._ledger) for one in _listeners._listeners.values()), "it waits")
    began = time.monotonic()
    gilmsg.destroy()
    thread.join(10)
    assert time.monotonic() - began < 5
    assert isinstance(caught[0], gilmsg.ListenerError) and "destroy" in str(caught[0])
    bus.well("alice")
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config).acks


def test_a_listener_that_dies_tells_its_waiters(config, monkeypatch):
    """If the listener's loop fails, the waiter hears of it at once with the cause; the next works."""
    fault = OSError("injected")

    def broken(self, subscriber):
        raise fault

    with monkeypatch.context() as patch:
        # A mock: nothing from outside can make the loop fail, that is what it promises.
        patch.setattr(_listener.Listener, "_take_frames", broken)
        with pytest.raises(gilmsg.ListenerError) as raised:
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=60, **config)
    assert raised.value.__cause__ is fault
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"]).acks


def test_async_is_a_running_future(config):
    """publish_async returns a real Future of the Receipt that cannot be cancelled."""
    import concurrent.futures

    future = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], **config)
    assert isinstance(future, concurrent.futures.Future)
    assert not future.cancel()
    called = threading.Event()
    names = []
    future.add_done_callback(lambda f: (names.append(threading.current_thread().name), called.set()))
    assert list(future.result(10).acks) == ["alice"]
    assert called.wait(10) and names == ["gilmsg-callbacks"]


def test_async_times_out_on_its_future(bus, config):
    """A Timeout of publish_async is set on the Future at its deadline."""
    bus.dead("alice")
    future = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=0.1, **config)
    assert isinstance(future.exception(10), gilmsg.Timeout)


def test_with_asyncio(bus, config):
    """asyncio.wrap_future awaits it, and a wait_for that gives up harms nobody."""
    import asyncio

    async def main():
        future = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], **config)
        receipt = await asyncio.wrap_future(future)
        bus.silent("alice")
        late = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=0.5)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(late), 0.05)
        return receipt, late

    receipt, late = asyncio.run(main())
    assert receipt.acks
    assert isinstance(late.exception(10), gilmsg.Timeout)
    bus.well("alice")
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config).acks


def test_a_callback_that_fails_or_blocks_harms_no_ack(config):
    """While a callback blocks, other messages are still confirmed."""
    blocked = threading.Event()
    first = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], **config)
    first.add_done_callback(lambda f: 1 / 0)
    first.add_done_callback(lambda f: blocked.wait(30))
    try:
        assert first.result(10)
        assert gilmsg.publish(topic="t", msg={}, recipients=["alice"]).acks
    finally:
        blocked.set()


def test_recipients_by_configuration(config):
    """gilmsg.recipients gives recipients to a call that names none: the longest match counts."""
    table = {"org.example": ["nobody"], "org.example.dev.tests.t": ["alice"]}
    config["gilmsg.recipients"] = table
    assert list(gilmsg.publish(topic="t", msg={}, **config).acks) == ["alice"]
    assert list(gilmsg.publish(topic="t", msg={}, recipients=["bob"]).acks) == ["bob"]
    assert gilmsg.publish(topic="t", msg={}, recipients=[]) is None


def test_ack_timeout_by_configuration(bus, config):
    """gilmsg.ack_timeout is the default, else 0.25 s; a keyword wins even over an existing context."""
    bus.dead("alice")
    del config["gilmsg.ack_timeout"]
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config)
    assert raised.value.ack_timeout == 0.25
    gilmsg.destroy()
    gilmsg.init(**dict(config, **{"gilmsg.ack_timeout": 0.1}))
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"])
    assert raised.value.ack_timeout == 0.1
    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], **{"gilmsg.ack_timeout": 0.05})
    assert raised.value.ack_timeout == 0.05


def test_a_timeout_can_be_pickled(bus, config):
    """Timeout crosses a process border with all that it carries."""
    import pickle

    with pytest.raises(gilmsg.Timeout) as raised:
        gilmsg.publish(topic="t", msg={}, recipients=["x"], ack_timeout=0.05, **config)
    copy = pickle.loads(pickle.dumps(raised.value))
    assert vars(copy) == vars(raised.value) and str(copy) == str(raised.value)


def test_an_interrupted_wait_leaves_nothing(bus, config, monkeypatch):
    """KeyboardInterrupt during the wait forgets the message; the process stays usable."""
    import signal

    bus.silent("alice")
    main = threading.main_thread().ident

    def interrupt():
        wait_for(lambda: any(len(one._ledger) for one in _listeners._listeners.values()), "it waits")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30, **config)
    finally:
        thread.join()
    assert [len(listener._ledger) for listener in _listeners._listeners.values()] == [0]
    bus.well("alice")
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"]).acks


def test_a_forked_child_publishes_by_a_port_of_its_own(bus, config):
    """After a fork parent and child publish; the child does not keep the parent's port."""
    gilmsg.publish(topic="parent", msg={}, recipients=["alice"], **config)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            acks = gilmsg.publish(topic="child", msg={}, recipients=["alice"]).acks
            os.write(writing, b"ok" if acks else b"no")
            os.close(writing)
            gilmsg.destroy()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "ok"
    os.waitpid(child, 0)
    assert gilmsg.publish(topic="parent", msg={}, recipients=["alice"]).acks


def test_the_listener_is_woken_only_by_what_ends_earlier(bus, config, monkeypatch):
    """It sleeps through publishes whose deadlines are later than one that it knows, and misses no earlier one."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30, **config)
    (listener,) = _listeners.started()
    # One whose ACK is there before the listener has come round to it leaves no deadline behind.
    wait_for(
        lambda: listener._wakes_at or gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30) is None,
        "the listener knows a deadline",
    )
    woken, wake = [], _wakeup.Wakeup.wake
    # A spy: it counts, and wakes.
    monkeypatch.setattr(_wakeup.Wakeup, "wake", lambda self: woken.append(self) or wake(self))
    for _ in range(20):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30)
    assert not woken
    bus.silent("alice")
    later = gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=60)
    begin = time.monotonic()
    with pytest.raises(gilmsg.Timeout):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=0.2)
    assert time.monotonic() - begin < 15 and len(woken) == 1 and not later.done()


def test_an_interrupt_before_the_wakeup_leaves_no_promise(bus, config, monkeypatch):
    """Ctrl-C between an entry and its wake-up: the next publish, that the listener does not know of, ends in time."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30, **config)
    gilmsg.destroy()
    bus.silent("alice")
    wake, struck = _wakeup.Wakeup.wake, []

    def strike(wakeup):
        if not struck:
            struck.append(wakeup)
            raise KeyboardInterrupt
        wake(wakeup)

    # Not a mock: what a signal handler raises, put where it does most harm.
    monkeypatch.setattr(_wakeup.Wakeup, "wake", strike)
    with pytest.raises(KeyboardInterrupt):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=0.2, **config)
    with pytest.raises(gilmsg.Timeout):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=0.3)


@pytest.mark.parametrize("ack_timeout", [3e6, threading.TIMEOUT_MAX])
def test_a_long_ack_timeout_is_no_more_than_that(config, ack_timeout):
    """A wait of months or centuries is one; more than the system can wait is refused before anything is sent."""
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=ack_timeout, **config).acks
    assert gilmsg.publish_async(topic="t", msg={}, recipients=["alice"], ack_timeout=ack_timeout).result(30).acks
    with pytest.raises(gilmsg.ConfigurationError, match="ack_timeout"):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=2 * threading.TIMEOUT_MAX)


def test_a_process_that_forks_during_a_publish(config):
    """The child's half of the publish is refused at once; the parent's goes on."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30, **config)
    children = []

    def fork(message):
        children.append(os.fork())

    try:
        receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=30, pre_fire_hook=fork)
    except gilmsg.ListenerError as error:
        os._exit(7 if children == [0] and "forked" in str(error) else 8)
    except BaseException:
        os._exit(9)
    if children == [0]:
        os._exit(10)
    assert list(receipt.acks) == ["alice"]
    assert os.waitpid(children[0], 0)[1] >> 8 == 7


AT_THE_END = """
import json, sys, gilmsg

class Late:
    def __del__(self):
        try:
            gilmsg.publish(topic="late", msg={}, recipients=json.loads(sys.argv[2]))
        except Exception:
            pass

gilmsg.publish(topic="t", msg={}, **json.loads(sys.argv[1]))
late = Late()
"""


@pytest.mark.parametrize("recipients", [[], ["alice"]])
def test_a_publish_at_the_very_end_hangs_nobody(config, tmp_path, recipients):
    """A module's object whose __del__ publishes while the interpreter shuts down: the process ends."""
    done = python(AT_THE_END, tmp_path, json.dumps(config), json.dumps(recipients))
    assert done.returncode == 0


def test_what_a_store_makes_of_a_message_is_what_counts(bus, config):
    """A persistent_store that numbers messages changes what leaves, and its recipients confirm that."""

    class Store:
        def add(self, message):
            return KeyPair(config["ssldir"], "publisher").sign(dict(message, seq_id=7))

    config["persistent_store"] = Store()
    receipt = gilmsg.publish(topic="t", msg={}, recipients=["alice"], **config)
    assert received(bus, "alice", receipt.msg_id)["seq_id"] == 7


def test_a_store_that_returns_nothing_is_named(config):
    """A persistent_store whose add() forgets to return the message is told so; nothing is sent."""

    class Store:
        def add(self, message):
            pass

    with pytest.raises(gilmsg.ConfigurationError, match="persistent_store: add"):
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], **dict(config, persistent_store=Store()))


def test_an_error_of_the_files_is_not_kept(config):
    """What publish raises because a file is not usable is gone with its last user, and the message in it, too."""
    gc.disable()
    try:
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], **dict(config, ca_cert_location="/nonexistent"))
        error = weakref.ref(raised.value)
        del raised
        assert error() is None
    finally:
        gc.enable()


HELD = """
import gc, json, sys, time, gilmsg

def silence():
    call = dict(json.loads(sys.argv[1]), topic="t", msg={}, recipients=["nobody"], ack_timeout=0.05)
    try:
        %s
    except gilmsg.Timeout:
        pass

def held():
    kinds = [type(one).__name__ for one in gc.get_objects()]
    return [one for one in kinds if one in ("Outcome", "CallbackFuture", "Pending", "Timeout")]

silence()
gc.collect()
gc.disable()
silence()
silence()
end = time.monotonic() + 10
while held() and time.monotonic() < end:  # the threads that told us have not let go of it yet
    time.sleep(0.01)
print(held())
"""


@pytest.mark.parametrize("call", ["gilmsg.publish(**call)", "gilmsg.publish_async(**call).result(10)"])
def test_a_timeout_leaves_nothing_to_the_collector(config, tmp_path, call):
    """Once nobody holds the exception, all that belonged to the message is gone, without the garbage collector."""
    # Not in here: pytest keeps the log record, and with it the exception.
    done = python(HELD % call, tmp_path, json.dumps(dict(config, **{"gilmsg.head_start": 0})))
    assert done.stdout == "[]\n", done.stdout + done.stderr
