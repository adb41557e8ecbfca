"""publish: the Receipt, the Timeout, and everything that is refused before anything is sent."""

import logging
import os
import pickle
import threading

import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from . import inside
from .conftest import own_config
from .helpers import (
    Inbox,
    Tailer,
    in_threads,
    lost_when,
    publish,
    publish_async,
    received,
    sign,
    until_present,
    write_config,
)  # fmt: skip

TOPIC = "org.example.dev.tests.t"


def test_every_recipient_confirms(bus, config):
    """publish returns a Receipt that says when each recipient's ACK came."""
    receipt = publish((name for name in ("bob", "alice", "bob")), msg={"a": 1}, **config)
    assert sorted(receipt.acks) == ["alice", "bob"]
    assert all(0 < seconds < 5.0 for seconds in receipt.acks.values())
    assert receipt.topic == TOPIC
    marker = {"version": gilmsg.__version__, "recipients": ["bob", "alice"]}
    for name in ("alice", "bob"):
        assert received(bus, name, receipt.msg_id)["msg"] == {"a": 1, "gilmsg": marker}


def test_a_dead_recipient_is_a_timeout(bus, config):
    """A killed recipient never counts; the Timeout, which can be pickled, carries what is known of every one."""
    bus.dead("bob")
    gilmsg.init(**dict(config, **{"gilmsg.head_start": 0}))
    until_present("alice")
    timeout = lost_when(lambda one: one.acks, ["alice", "bob"])
    assert list(timeout.acks) == ["alice"] and list(timeout.missing) == ["bob"]
    assert timeout.ack_timeout in (0.5, 3.0, 20.0) and timeout.topic == TOPIC
    for part in (timeout.topic, timeout.msg_id, "1 of 2", "bob"):
        assert part in str(timeout)
    copy = pickle.loads(pickle.dumps(timeout))
    assert vars(copy) == vars(timeout) and str(copy) == str(timeout)


def test_a_log_handler_may_publish(config):
    """Called for the WARNING of a message that names nobody, it publishes on the same topic; that is not warned of again."""

    class Publisher(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())
            gilmsg.publish(topic="by_a_handler", msg={}, recipients=[], **config)

    told, log, publisher = [], logging.getLogger("gilmsg.publish"), Publisher(logging.WARNING)
    log.addHandler(publisher)
    try:
        gilmsg.publish(topic="by_a_handler", msg={}, recipients=[], **config)
    finally:
        log.removeHandler(publisher)
    assert len(told) == 1 and "by_a_handler is published without recipients" in told[0]


#: One of each kind: the tables in tests/settings, tests/protocol, tests/trust and tests/client have the others.
BAD = [
    ({"recipients": ["alice", ""]}, "recipients"), ({"ack_timeout": 0}, "0"), ({"topic": 5}, "5"),
    ({"msg": ["a"]}, "dict"),
    ({"msg": {"a": [float("nan")]}}, "msg['a'][0] is a float"), ({"pre_fire_hook": "no"}, "'no'"), ({"gilmsg.ack_timout": 3}, "'gilmsg.ack_timout'"),
    ({"recipients": None, "recipient": ["alice"]}, "'recipient'; 'recipients' is meant"), ({"ack_timout": 3}, "'ack_timout'"),
    ({"recipients": None, "gilmsg.required": True}, "org.example.dev.tests.refused would be published without recipients"),
    ({"recipients": [], "gilmsg.required": True}, "gilmsg.required forbids"), ({"gilmsg.required": 1}, "it is 1"),
    ({"gilmsg.head_start": -1}, "gilmsg.head_start"), ({"gilmsg.recipients": {"another": [""]}}, "another"),
    ({"crypto_backend": "gpg"}, "crypto_backend"), ({"zmq_enabled": False}, "zmq_enabled"), ({"mute": True}, "mute"),
    ({"certnames": {}}, "certnames"), ({"ssldir": "/nonexistent"}, "ssldir"),
    ({"ca_cert_location": None}, "ca_cert_location"), ({"crl_location": os.devnull}, "crl_location"),
    ({"zmq_tcp_keepalive": 99}, "the socket for the name 'publisher' cannot be set up"),
    ({"active": True, "name": "relay_inbound", "relay_inbound": "pigeon://a:1"}, "relay_inbound: cannot connect"),
]  # fmt: skip


def test_bad_input_is_refused_before_anything_is_sent(bus, config):
    """Unusable input is a ConfigurationError that names it, from the call itself, and nobody receives anything."""
    inbox = Inbox(bus, "refused")
    for wrong, named in BAD:
        call = dict(dict(config, topic="refused", recipients=["alice"]), **wrong)
        for function in (publish, publish_async):
            with pytest.raises(gilmsg.ConfigurationError) as raised:
                function(**call)
            assert isinstance(raised.value, ValueError) and named in str(raised.value)
            gilmsg.destroy()
    receipt = publish(["alice"], topic="after.refused", **config)
    assert [message["msg_id"] for message in inbox.messages()] == [receipt.msg_id]


@pytest.mark.parametrize("way", ["msg", "hook"])
def test_what_is_nested_as_deeply_as_can_be_is_sent_or_refused(way):
    """What can be encoded by itself, but not in its message, or not once more, is refused like what cannot at all."""
    with Sandbox([]) as own_bus:  # one that is received can hardly be shown
        config = own_config(own_bus, ack_timeout=0.01, **{"gilmsg.head_start": 0})
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


def test_a_hook_or_a_store_that_leaves_no_message_is_told_so(bus, config):
    """What they leave must be a message that can be sent, and that is confirmed; or the error says what it is."""

    class Store:
        def __init__(self, change):
            self.add = change

    for change, told in (({"msg_id": None}, "whose msg_id is None"), ({"x": object()}, "cannot be encoded")):
        with pytest.raises(gilmsg.ConfigurationError, match=told):
            publish(["alice"], pre_fire_hook=lambda message, change=change: message.update(change), **config)
    gilmsg.destroy()
    with pytest.raises(gilmsg.ConfigurationError, match="persistent_store: add"):
        publish(["alice"], **dict(config, persistent_store=Store(lambda message: None)))
    assert inside.outstanding() == 0
    gilmsg.destroy()
    store = Store(lambda message: sign(config, "publisher", dict(message, seq_id=7)))
    receipt = publish(["alice"], **dict(config, persistent_store=store))
    assert received(bus, "alice", receipt.msg_id)["seq_id"] == 7


def test_without_zeromq_a_message_without_recipients_is_fedmsgs_own_affair(config):
    """With zmq_enabled off it is not refused, but left to fedmsg, which passes it to the hub that there is not."""
    with pytest.raises(AttributeError, match="without moksha-hub"):
        publish([], **dict(config, zmq_enabled=False))


def test_unsigned_publisher_may_ask_for_acks(config, tmp_path):
    """A publisher that does not sign gets signed ACKs from a recipient that does not validate."""
    with Tailer(dict(config, name="carol", validate_signatures=False), tmp_path) as carol:
        unsigned = dict(config, sign_messages=False, **{"gilmsg.head_start": 30.0})
        assert list(publish(["carol"], **unsigned).acks) == ["carol"]
        carol.wait_for(TOPIC)


def test_many_threads_share_one_port(bus, config):
    """Eight threads publish at once with one declared port; each gets its own confirmations."""
    config["endpoints"]["publisher"] = config["endpoints"]["publisher"][:1]

    def work():
        ours = own_config(bus, endpoints=config["endpoints"], **{"gilmsg.ack_timeout": 20.0})
        return {publish(["alice", "bob"], msg={"n": number}, **ours).msg_id for number in range(10)}

    ids = set().union(*in_threads(*[work] * 8))
    assert len(ids) == 80 and ids <= {message["msg_id"] for message in bus.received("alice")}


def test_a_keyword_that_a_file_knows_is_somebody_elses(config, tmp_path):
    """However near it is to a name of ours; in a thread that has a context, one of that context's too."""
    write_config(tmp_path, dict(config, ack_timout=3))
    assert publish(["alice"], ack_timout=4).acks
    assert publish(["alice"], ack_timout=5, **{"gilmsg.required": True}).acks
    with pytest.raises(gilmsg.ConfigurationError, match="'recipient'; 'recipients' is meant"):
        publish(["alice"], recipient=["bob"])


def test_a_long_ack_timeout_is_no_more_than_that(config):
    """A wait of centuries is one."""
    assert publish(["alice"], ack_timeout=threading.TIMEOUT_MAX, **config).acks
    assert publish_async(["alice"], ack_timeout=threading.TIMEOUT_MAX).result(30).acks
