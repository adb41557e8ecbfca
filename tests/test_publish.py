"""publish: the Receipt, the Timeout, and everything that is refused before anything is sent."""

import gc
import os
import pickle
import signal
import socket
import threading
import time
import weakref

import fedmsg
import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .conftest import own_config
from .helpers import (
    Inbox,
    Tailer,
    in_a_child,
    in_threads,
    lost,
    publish,
    publish_async,
    received,
    sign,
    write_config,
)  # fmt: skip
from .processes import port_of, program, wait_for

TOPIC = "org.example.dev.tests.t"


def test_every_recipient_confirms(bus, config):
    """publish returns a Receipt that says when each recipient's ACK came."""
    receipt = publish(["bob", "alice"], msg={"a": 1}, **config)
    assert sorted(receipt.acks) == ["alice", "bob"]
    assert all(0 < seconds < 5.0 for seconds in receipt.acks.values())
    assert receipt.topic == TOPIC
    for name in ("alice", "bob"):
        assert received(bus, name, receipt.msg_id)["msg"] == {
            "a": 1,
            "gilmsg": {"version": gilmsg.__version__, "recipients": ["bob", "alice"]},
        }


def test_a_dead_recipient_is_a_timeout(bus, config):
    """A killed recipient never counts; the Timeout, which can be pickled, carries what is known of every one."""
    bus.dead("bob")
    timeout = lost(["alice", "bob"], **dict(config, ack_timeout=2.5))
    assert list(timeout.acks) == ["alice"] and list(timeout.missing) == ["bob"]
    assert (timeout.ack_timeout, timeout.topic) == (2.5, TOPIC)
    for part in (timeout.topic, timeout.msg_id, "1 of 2", "bob"):
        assert part in str(timeout)
    copy = pickle.loads(pickle.dumps(timeout))
    assert vars(copy) == vars(timeout) and str(copy) == str(timeout)


def test_a_silent_recipient_may_have_received(bus, config):
    """A recipient that gets the message and does not answer is neither delivered nor lost."""
    bus.silent("bob")
    timeout = lost("bob", **config)
    assert "may have received" in timeout.missing["bob"]
    assert received(bus, "bob", timeout.msg_id)


def test_results_are_not_shared_between_calls(bus, config):
    """A recipient that confirmed one message and died does not confirm the next one."""
    publish(["bob"], **config)
    bus.dead("bob")
    for _ in range(3):
        lost(["bob"])


def test_recipients_collapse_and_may_be_any_iterable(config):
    """Duplicates count once, order does not matter, a generator will do."""
    assert sorted(publish((n for n in ("bob", "bob", "alice")), **config).acks) == ["alice", "bob"]


def test_of_a_group_one_is_enough(bus, config):
    """A group, any_of() or a plain string, is satisfied by the member that answers; the Receipt says who it was."""
    bus.dead("alice")
    group = gilmsg.any_of("alice", "bob")
    assert group == "alice,bob"
    assert list(publish([group], **config).acks) == ["bob"]
    bus.dead("bob")
    assert list(lost(["alice,bob"]).missing) == ["alice,bob"]


BAD = [
    ({"recipients": ["alice", ""]}, "recipients"),
    ({"recipients": [b"alice"]}, "alice"),
    ({"recipients": b"alice"}, "alice"),
    ({"recipients": [None]}, "None"),
    ({"recipients": 7}, "7"),
    ({"recipients": ["alice,"]}, "alice,"),
    ({"ack_timeout": 0}, "0"),
    ({"ack_timeout": -1}, "-1"),
    ({"ack_timeout": float("inf")}, "inf"),
    ({"ack_timeout": float("nan")}, "nan"),
    ({"ack_timeout": "1"}, "'1'"),
    ({"ack_timeout": True}, "True"),
    ({"ack_timeout": 2 * threading.TIMEOUT_MAX}, "ack_timeout"),
    ({"topic": 5}, "5"),
    ({"topic": b"\xff"}, "b'\\xff'"),
    ({"topic": "a\udcff"}, "is not valid text"),
    ({"modname": 5}, "modname"),
    ({"pre_fire_hook": "no"}, "'no'"),
    ({"msg": {1: 2, "x": 1}}, "keys text"),
    ({"msg": ["a"]}, "dict"),
    ({"msg": "a"}, "dict"),
    ({"msg": {"gilmsg": 1}}, "gilmsg"),
    ({"msg": {"a": object()}}, "JSON"),
    ({"gilmsg.ack_timout": 3}, "'gilmsg.ack_timout'"),
    ({"gilmsg.ack_timeout": 0}, "gilmsg.ack_timeout"),
    ({"gilmsg.head_start": -1}, "gilmsg.head_start"),
    ({"gilmsg.recipients": {"another.topic": [""]}}, "another.topic"),
    ({"gilmsg.recipients": ["alice"]}, "gilmsg.recipients"),
    ({"crypto_backend": "gpg"}, "crypto_backend"),
    ({"zmq_enabled": False}, "zmq_enabled"),
    ({"mute": True}, "mute"),
    ({"name": "nobody"}, "nobody"),
    ({"certnames": {}}, "certnames"),
    ({"ssldir": "/nonexistent"}, "ssldir"),
    ({"ca_cert_location": None}, "ca_cert_location"),
    ({"ca_cert_location": "https://example.com/ca"}, "ca_cert_location"),
    ({"ca_cert_location": "/nonexistent"}, "ca_cert_location"),
    ({"ca_cert_location": os.devnull}, "ca_cert_location"),
    ({"crl_location": "/nonexistent"}, "crl_location"),
    ({"crl_location": os.devnull}, "crl_location"),
    ({"active": True, "relay_inbound": None, "name": None}, "relay_inbound"),
    ({"zmq_tcp_keepalive": 99}, "the socket for the name 'publisher' cannot be set up"),
]


@pytest.mark.parametrize("wrong, named", BAD, ids=[str(list(w)) + n for w, n in BAD])
def test_bad_input_is_refused_before_anything_is_sent(bus, config, wrong, named):
    """Unusable input is a ConfigurationError that names it, from the call itself, and nobody receives anything."""
    inbox = Inbox(bus, "refused")
    call = dict(dict(config, topic="refused", recipients=["alice"]), **wrong)
    for function in (publish, publish_async):
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            function(**call)
        assert isinstance(raised.value, ValueError)
        assert named in str(raised.value)
        gilmsg.destroy()
    receipt = publish(["alice"], topic="after.refused", **own_config(bus))
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


@pytest.mark.parametrize("way", ["msg", "hook", "unsigned"])
def test_what_is_nested_as_deeply_as_can_be_is_sent_or_refused(way):
    """What can be encoded by itself, but not in its message, or not once more, is refused like what cannot at all."""
    with Sandbox(["alice"]) as own_bus:  # one that is received can hardly be shown
        config = own_config(own_bus, sign_messages=way != "unsigned", ack_timeout=0.01)
        sent, refused = 1, 200_000
        while refused - sent > 1:
            middle = (sent + refused) // 2
            sent, refused = (sent, middle) if refusal(middle, way, config) else (middle, refused)
        assert refusal(sent, way, config) is None and refusal(refused, way, config)


def refusal(depth, way, config):
    """The ConfigurationError of what is nested so deeply, None if it is sent; no other error will do."""
    deep = []
    for _ in range(depth):
        deep = [deep]
    hook = {"pre_fire_hook": lambda message: message.update(msg={"deep": deep})} if way == "hook" else {}
    try:
        publish(["alice"], msg={} if hook else {"deep": deep}, **hook, **config)
    except gilmsg.Timeout:
        return None
    except gilmsg.ConfigurationError as error:
        return error
    return None


def test_a_user_without_a_name_is_one_all_the_same(config):
    """Where the user has no name, as in a container, its number is one."""
    done = program("nameless", dict(config, topic="t", msg={}, recipients=["alice"]))
    assert done.stdout == "alice True\n", done.stderr


def test_no_free_port_is_an_ioerror_too(bus, config):
    """Where another process holds every declared port, publish says so, as an IOError as well."""
    port = bus.ports.take()
    with socket.create_server(("", port)):
        config["endpoints"]["publisher"] = [f"tcp://127.0.0.1:{port}"]
        with pytest.raises(gilmsg.ConfigurationError, match="publisher.*in use") as raised:
            publish(["alice"], **config)
    assert isinstance(raised.value, IOError)


def test_payload_survives_the_encoder(bus, config):
    """A payload whose key order changes in the encoder is signed as it arrives, and stays as it was."""
    payload = {"n": {10: "a", 9: "b"}}
    receipt = publish(["alice"], msg=payload, **config)
    assert payload == {"n": {10: "a", 9: "b"}}
    assert received(bus, "alice", receipt.msg_id)["msg"]["n"] == {"9": "b", "10": "a"}


def test_hook_sees_the_signed_message_once(config):
    """pre_fire_hook gets the finished message, in this thread."""
    seen = []
    publish(["alice"], pre_fire_hook=lambda m: seen.append((threading.current_thread(), "signature" in m)), **config)
    assert seen == [(threading.current_thread(), True)]


@pytest.mark.parametrize("recipients", [["alice"], []])
@pytest.mark.parametrize("error", [AttributeError("the hook's own"), None], ids=["fails", "destroys"])
def test_a_hook_that_fails_or_destroys_sends_nothing(bus, config, recipients, error):
    """What a pre_fire_hook raises comes out as it is, destroy() is a ListenerError; nothing is sent, nothing stays."""
    inbox = Inbox(bus, "hooked")

    def hook(message):
        if error:
            raise error
        gilmsg.destroy()

    with pytest.raises(Exception) as raised:
        publish(recipients, topic="hooked", pre_fire_hook=hook, **config)
    if error:
        assert raised.value is error
    else:
        assert isinstance(raised.value, gilmsg.ListenerError) and "nothing was sent" in str(raised.value)
    assert inside.outstanding() == 0
    receipt = publish(["alice"], topic="after.hooked", **config)
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


def test_a_hook_that_leaves_no_message_is_told_so(config):
    """What the hook leaves must be a message that can be sent: nothing is, and the error says what it is."""
    for change, told in (({"msg_id": None}, "whose msg_id is None"), ({"x": object()}, "cannot be encoded")):
        with pytest.raises(gilmsg.ConfigurationError, match=told):
            publish(["alice"], pre_fire_hook=lambda message, change=change: message.update(change), **config)
    assert inside.outstanding() == 0


def test_a_hook_that_takes_an_id_that_still_waits(config):
    """One id cannot wait twice: the second message is refused with the id, and the first goes on."""
    call = dict(config, recipients=["nobody"], pre_fire_hook=lambda message: message.update(msg_id="2026-mine"))
    call["gilmsg.head_start"] = 0
    first = publish_async(ack_timeout=0.5, **call)
    for call_again in (lambda: publish(**call), lambda: publish_async(**call).result(30)):
        with pytest.raises(gilmsg.ConfigurationError, match="'2026-mine' still waits for its ACKs"):
            call_again()
    assert isinstance(first.exception(30), gilmsg.Timeout) and first.exception().msg_id == "2026-mine"


def test_hook_that_breaks_the_signature_is_a_timeout(config):
    """A message changed by the hook after signing is dropped by a validating recipient: Timeout."""
    lost(["alice"], pre_fire_hook=lambda m: m.update(i=77), **config)


def test_without_zeromq_a_message_without_recipients_is_fedmsgs_own_affair(config):
    """With zmq_enabled off it is not refused, but left to fedmsg, which passes it to the hub that there is not."""
    with pytest.raises(AttributeError, match="without moksha-hub"):
        publish([], **dict(config, zmq_enabled=False))


def test_a_topic_that_is_full_already(config):
    """A topic that begins with the prefix is left as it is, as in fedmsg."""
    assert publish(["alice"], modname="org.example.dev.m", **config).topic == "org.example.dev.m.t"
    assert publish(["alice"], modname="m").topic == "org.example.dev.m.t"


def test_unsigned_publisher_may_ask_for_acks(config, tmp_path):
    """A publisher that does not sign gets signed ACKs from a recipient that does not validate."""
    with Tailer(dict(config, name="carol", validate_signatures=False), tmp_path) as carol:
        unsigned = dict(config, sign_messages=False, **{"gilmsg.head_start": 30.0})
        assert list(publish(["carol"], **unsigned).acks) == ["carol"]
        carol.wait_for(TOPIC)


def test_init_then_publish(config):
    """After gilmsg.init a publish needs no configuration; a second init in one thread raises what fedmsg raises."""
    context = gilmsg.init(**config)
    assert getattr(fedmsg, "__local").__dict__["__context"] is context
    assert publish(["alice"]).acks
    with pytest.raises(ValueError, match="already initialized"):
        gilmsg.init(**config)


def test_configuration_comes_from_fedmsg_d(config, tmp_path):
    """Without any configuration in the call, that of fedmsg.d is used."""
    write_config(tmp_path, config)
    assert publish(["alice"]).acks


def test_takes_over_a_plain_fedmsg_context(config, tmp_path):
    """A context of plain fedmsg.init keeps its port; both libraries publish by it afterwards."""
    write_config(tmp_path, config)
    port = port_of(fedmsg.init(**config).publisher.LAST_ENDPOINT.decode())
    assert sorted(publish(["alice", "bob"]).acks) == ["alice", "bob"]
    assert port_of(inside.endpoint()) == port
    fedmsg.publish(topic="plain", msg={})


def test_a_plain_context_whose_endpoint_is_gone(config):
    """A context of fedmsg.init cannot be taken over once its configuration has no endpoint for it: that is named."""
    setattr(fedmsg.config, "__cache", dict(config))
    fedmsg.init(post_init_sleep=0).c["endpoints"] = {}
    with pytest.raises(gilmsg.ConfigurationError, match="endpoints has no entry for the name 'publisher'"):
        publish(["alice"])


def test_a_context_that_was_destroyed_by_itself(config):
    """context.destroy() leaves a context without a publisher: the way out is named."""
    gilmsg.init(**config).destroy()
    with pytest.raises(gilmsg.ConfigurationError, match=r"call gilmsg.destroy\(\) and initialize it again"):
        publish(["alice"])


def test_destroy_then_publish(config):
    """After destroy nothing is open, the former publisher says so, and the next publish uses the same single port."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]
    for _ in range(3):
        publisher = gilmsg.init(**config).publisher
        assert publish(["alice"]).acks
        gilmsg.destroy()
        assert not any(inside.running())
        with pytest.raises(gilmsg.ListenerError, match=r"closed, by destroy\(\) for example; nothing was sent"):
            publisher.send_multipart([b"a", b"{}"])


def test_many_threads_share_one_port(bus, config):
    """Eight threads publish at once with one declared port; each gets its own confirmations."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]

    def work():
        ours = own_config(bus, endpoints=config["endpoints"])
        return {publish(["alice", "bob"], msg={"n": number}, **ours).msg_id for number in range(10)}

    ids = set().union(*in_threads(*[work] * 8))
    assert len(ids) == 80 and ids <= {message["msg_id"] for message in bus.received("alice")}


@pytest.mark.parametrize("held_back", [True, False])
def test_destroy_tells_waiters_at_once(bus, config, held_back):
    """Who waits in another thread, for an ACK or for recipients, while destroy is called gets a ListenerError."""
    bus.silent("alice")
    name = "nobody" if held_back else "alice"
    began = []

    def destroy():
        wait_for(inside.held if held_back else inside.outstanding, "it waits")
        began.append(time.monotonic())
        gilmsg.destroy()

    waiting = dict(config, ack_timeout=60.0, **{"gilmsg.head_start": 600.0})
    with pytest.raises(gilmsg.ListenerError, match="destroy"):
        in_threads(lambda: publish([name], **waiting), destroy)
    assert time.monotonic() - began[0] < 5
    bus.well("alice")
    assert publish(["alice"], **config).acks


def test_a_listener_that_dies_tells_its_waiters(config, monkeypatch):
    """If what hears ACKs fails, the waiter hears of it at once with the cause; the next publish works."""
    fault = OSError("injected")
    with monkeypatch.context() as patch:
        inside.break_engine(patch, fault)
        with pytest.raises(gilmsg.ListenerError) as raised:
            publish(["alice"], ack_timeout=60, **config)
    assert raised.value.__cause__ is fault
    assert publish(["alice"]).acks


def test_ack_timeout_by_configuration(bus, config):
    """gilmsg.ack_timeout is the default, else 0.25 s; a keyword wins even over an existing context."""
    bus.dead("alice")
    del config["gilmsg.ack_timeout"]
    assert lost(["alice"], **dict(config, ack_timeout=None)).ack_timeout == 0.25
    gilmsg.destroy()
    gilmsg.init(**dict(config, **{"gilmsg.ack_timeout": 0.1}))
    assert lost(["alice"], ack_timeout=None).ack_timeout == 0.1
    assert lost(["alice"], ack_timeout=None, **{"gilmsg.ack_timeout": 0.05}).ack_timeout == 0.05


def test_an_interrupted_wait_leaves_nothing(bus, config):
    """KeyboardInterrupt during the wait forgets the message; the process stays usable."""
    bus.silent("alice")
    main = threading.main_thread().ident

    def interrupt():
        wait_for(inside.outstanding, "it waits")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            publish(["alice"], ack_timeout=30, **config)
    finally:
        thread.join()
    wait_for(lambda: not inside.outstanding(), "the message is forgotten", 5)
    bus.well("alice")
    assert publish(["alice"]).acks


def test_a_forked_child_publishes_by_a_port_of_its_own(config):
    """After a fork parent and child publish; the child does not keep the parent's port."""
    publish(["alice"], **config)

    def child():
        found = publish(["alice"]).acks
        gilmsg.destroy()
        return 7 if found else 8

    assert in_a_child(child) == 7
    assert publish(["alice"]).acks


def test_a_process_that_forks_during_a_publish(config):
    """The child's half of the publish is refused at once; the parent's goes on."""
    publish(["alice"], **config)
    children = []
    try:
        receipt = publish(["alice"], ack_timeout=30, pre_fire_hook=lambda message: children.append(os.fork()))
    except gilmsg.ListenerError as error:
        os._exit(7 if children == [0] and "forked" in str(error) else 8)
    except BaseException:  # noqa: BLE001  # the child must not go on as a test
        os._exit(9)
    if children == [0]:
        os._exit(10)
    assert list(receipt.acks) == ["alice"]
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7


@pytest.mark.parametrize("ack_timeout", [3e6, threading.TIMEOUT_MAX])
def test_a_long_ack_timeout_is_no_more_than_that(config, ack_timeout):
    """A wait of months or centuries is one."""
    assert publish(["alice"], ack_timeout=ack_timeout, **config).acks
    assert publish_async(["alice"], ack_timeout=ack_timeout).result(30).acks


@pytest.mark.parametrize("recipients", [[], ["alice"]])
def test_a_publish_at_the_very_end_hangs_nobody(config, tmp_path, recipients):
    """A module's object whose __del__ publishes while the interpreter shuts down: the process ends."""
    last = {"topic": "late", "msg": {}, "recipients": recipients}
    assert program("at_the_end", dict(config, topic="t", msg={}), last, cwd=tmp_path).returncode == 0


def test_what_a_store_makes_of_a_message_is_what_counts(bus, config):
    """A persistent_store that numbers messages changes what leaves, and its recipients confirm that."""

    class Store:
        def add(self, message):
            return sign(config, "publisher", dict(message, seq_id=7))

    receipt = publish(["alice"], **dict(config, persistent_store=Store()))
    assert received(bus, "alice", receipt.msg_id)["seq_id"] == 7


def test_a_store_that_returns_nothing_is_named(config):
    """A persistent_store whose add() forgets to return the message is told so; nothing is sent."""

    class Store:
        def add(self, message):
            pass

    with pytest.raises(gilmsg.ConfigurationError, match="persistent_store: add"):
        publish(["alice"], **dict(config, persistent_store=Store()))


def test_an_error_of_the_files_is_not_kept(config):
    """What publish raises because a file is not usable is gone with its last user, and the message in it, too."""
    gc.disable()
    try:
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            publish(["alice"], **dict(config, ca_cert_location="/nonexistent"))
        error = weakref.ref(raised.value)
        del raised
        assert error() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("function", ["publish", "publish_async"])
def test_a_timeout_leaves_nothing_to_the_collector(config, tmp_path, function):
    """Once nobody holds the exception it is gone, without the garbage collector."""
    call = dict(config, topic="t", msg={}, recipients=["nobody"], **{"gilmsg.head_start": 0})
    done = program("garbage", function, call, cwd=tmp_path)
    assert done.stdout == "[None, None]\n", done.stdout + done.stderr
