"""tail_messages: ACK, then yield; what is not for us, what is no message, what cannot work."""

import json

import psutil
import pytest
import zmq

import gilmsg
from gilmsg import _acks, _message, _outlet, _presence
from gilmsg._keypair import KeyPair
from gilmsg._process import wait_for

from .conftest import own_config
from .helpers import frames, python


@pytest.fixture
def carol(bus, config):
    """The configuration of a consumer named carol, with a hostile neighbour's port besides."""
    return own_config(bus, name="carol")


def hostile_socket(config):
    socket = zmq.Context.instance().socket(zmq.XPUB)
    socket.bind(config["endpoints"]["hostile"][0])
    return socket


def spy_on(config):
    """A socket that receives what *config*'s name publishes; see `spying`."""
    spy = zmq.Context.instance().socket(zmq.SUB)
    spy.connect(config["endpoints"][config["name"]][0])
    spy.subscribe(b"")
    spy.subscribe(_presence.announcement("", "spy"))
    return spy


def spying():
    """Wait until the spy is connected to this process's outlet."""

    def there():
        for outlet in _outlet._outlets.values():
            with outlet.look() as peers:
                return peers.listens("spy", "")

    wait_for(there, "the spy is connected")


def seen(socket):
    """Wait until somebody subscribes."""
    assert socket.poll(5000)
    socket.recv()


def signed_message(config, topic="org.example.dev.x.y", body=None, recipients=None):
    body = dict(body or {})
    if recipients is not None:
        body = _acks.marked(body, recipients)
    message = _message.compose(topic, body, 1)
    return KeyPair(config["ssldir"], "alice").sign(message)


def test_no_bad_frame_ends_the_generator(carol):
    """Rubbish of every shape is dropped; the good message after it is yielded."""
    good = signed_message(carol, body={"n": 1})
    bad = [
        [b"one part"],
        [b"a", b"b", b"c"],
        [b"org.example", b"not json"],
        [b"org.example", b"\xff\xfe"],
        [b"\xff\xfe", b"{}"],
        [b"org.example", b"7"],
        [b"org.example", b"null"],
        [b"org.example", b"[" * 100000],
        [b"org.example", b'{"a":' * 900 + b"1" + b"}" * 900],
        frames({}, "org.example"),
        frames(dict(good, certificate="rubbish")),
        frames(dict(good, certificate=[1])),
        frames(dict(good, signature=None)),
        frames(dict(good, msg="changed")),
        frames(dict(good, crypto=["x509"])),
        frames(good, "another.topic"),
    ]
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**carol)
    try:
        seen(socket)
        for parts in bad + [frames(good)]:
            socket.send_multipart(parts)
        name, endpoint, topic, message = next(tail)
        assert (name, endpoint) == ("hostile", carol["endpoints"]["hostile"][0])
        assert topic == message["topic"] == good["topic"] and message["msg"] == {"n": 1}
    finally:
        tail.close()
        socket.close(linger=0)


def test_only_what_names_us_is_acknowledged(carol):
    """Plain messages, messages for others, and ACKs that name us are yielded and not ACKed."""
    plain = signed_message(carol)
    others = signed_message(carol, recipients=["bob"])
    trap = signed_message(carol, topic="org.example.dev.gilmsg.ack", recipients=["carol"])
    ours = signed_message(carol, recipients=["bob,carol"])
    acks = spy_on(carol)
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**carol)
    try:
        seen(socket)
        spying()
        for message in (plain, others, trap, ours):
            socket.send_multipart(frames(message))
        ids = [next(tail)[3]["msg_id"] for _ in range(4)]
        assert ids == [m["msg_id"] for m in (plain, others, trap, ours)]
        assert acks.poll(5000)
        ack = json.loads(acks.recv_multipart()[1])
        assert ack["msg"] == {"ack_msg_id": ours["msg_id"], "ack_digest": _acks.digest(ours)}
        assert not acks.poll(100)
    finally:
        tail.close()
        socket.close(linger=0)
        acks.close(linger=0)


def test_a_message_of_gilmsg_0_1_is_acknowledged_where_nothing_is_validated(carol):
    """The old marker names nobody: a consumer that does not validate acknowledges it."""
    message = dict(signed_message(carol), gilmsg_version="0.1.2")
    acks = spy_on(carol)
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**dict(carol, validate_signatures=False))
    try:
        seen(socket)
        spying()
        socket.send_multipart(frames(message))
        assert next(tail)[3]["msg_id"] == message["msg_id"]
        assert acks.poll(5000)
        assert json.loads(acks.recv_multipart()[1])["msg"]["ack_msg_id"] == message["msg_id"]
    finally:
        tail.close()
        socket.close(linger=0)
        acks.close(linger=0)


def test_closing_the_generator_closes_its_sockets(carol):
    """The descriptors that tail_messages opened are gone when the generator is closed."""
    gilmsg.init(**carol)
    process = psutil.Process()
    before = process.num_fds()
    tail = gilmsg.tail_messages()
    assert process.num_fds() > before
    tail.close()
    wait_for(lambda: process.num_fds() <= before, "the descriptors are closed", 5)


def test_only_the_topic_asked_for(carol):
    """A topic prefix is honoured."""
    tail = gilmsg.tail_messages(topic="org.example.dev.right", **carol)
    socket = hostile_socket(carol)
    try:
        seen(socket)
        socket.send_multipart(frames(signed_message(carol, topic="org.example.dev.wrong")))
        socket.send_multipart(frames(signed_message(carol, topic="org.example.dev.right.one")))
        assert next(tail)[2] == "org.example.dev.right.one"
    finally:
        tail.close()
        socket.close(linger=0)


UNUSABLE = [
    (dict(certnames={}), "certnames"),
    (dict(name="nobody"), "nobody"),
    (dict(ssldir="/nonexistent"), "ssldir"),
    (dict(ca_cert_location=None), "ca_cert_location"),
    (dict(crypto_backend="gpg"), "crypto_backend"),
    (dict(zmq_enabled=False), "zmq_enabled"),
]


@pytest.mark.parametrize("wrong, named", UNUSABLE, ids=[n for _, n in UNUSABLE])
def test_unusable_configuration_is_an_error_at_the_call(carol, wrong, named):
    """With sign_messages on, what is missing is said when tail_messages is called."""
    with pytest.raises(gilmsg.ConfigurationError, match=named):
        gilmsg.tail_messages(**dict(carol, **wrong))


@pytest.mark.parametrize("switch", [dict(sign_messages=False), dict(mute=True)])
def test_a_consumer_that_cannot_sign_yields_without_acks(carol, switch, caplog):
    """Without signatures it needs no endpoint; it warns once at the start and yields."""
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**dict(carol, name="nobody", **switch))
    try:
        assert sum("acknowledge nothing" in r.getMessage() for r in caplog.records) == 1
        seen(socket)
        socket.send_multipart(frames(signed_message(carol, recipients=["carol"])))
        assert next(tail)[3]["msg"]["gilmsg"]["recipients"] == ["carol"]
    finally:
        tail.close()
        socket.close(linger=0)


def test_publishing_inside_the_loop(bus, carol):
    """A consumer with one port answers inside its loop, by a confirmed publish of its own."""
    code = (
        "import gilmsg, json, sys\n"
        "config = json.loads(sys.argv[1])\n"
        "print('up', flush=True)\n"
        "for _, _, topic, message in gilmsg.tail_messages(topic='org.example.dev.tests', **config):\n"
        "    receipt = gilmsg.publish(topic='answer', msg={}, recipients=['alice'], ack_timeout=5)\n"
        "    print(list(receipt.acks))\n"
        "    break\n"
    )
    import threading

    result = []
    thread = threading.Thread(target=lambda: result.append(python(code, ".", json.dumps(carol))))
    thread.start()
    receipt = gilmsg.publish(
        topic="question", msg={}, recipients=["carol"], ack_timeout=5.0,
        **own_config(bus, **{"gilmsg.head_start": 30.0})
    )
    thread.join()
    assert list(receipt.acks) == ["carol"]
    assert "['alice']" in result[0].stdout, result[0].stderr
