"""What is not fedmsg's, gigantic, or nested without end: towards listener, tail, hub consumer, publisher."""

import base64
import json
import socket
import threading
import time

import pytest
import zmq

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..conftest import own_config, with_neighbours
from ..helpers import Hub, ack_body, announcement, bind, compose, frames, heard, sign
from ..processes import wait_for

ACK = b"org.example.dev.gilmsg.ack"
MB = 1000 * 1000


@pytest.fixture(scope="module")
def field():
    with with_neighbours(Sandbox(["alice"])) as bus:
        yield bus


def patient(field):
    """A configuration whose first publish waits for alice, however long she takes to come."""
    return own_config(field, **{"gilmsg.head_start": 20.0})


@pytest.fixture
def hostile(field):
    """A publishing socket on the endpoint of a hostile neighbour."""
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    bind(publisher, field.config["endpoints"]["hostile"][0])
    yield publisher
    context.destroy(linger=0)


def shapes(topic):
    """Every shape of frames that is not fedmsg's."""
    bodies = [
        b"", b"\0", b"\xff\xfe", b"null", b"7", b"NaN", b'"text"', b"[]", b"[{}]", b"{}", b"{", b"{\"topic\"",
        b'{"topic": null}', b'{"topic": {}, "msg": []}', b'{"msg": 1, "topic": "%s"}' % topic,
        b'{"signature": 1, "certificate": {}}', b'{"signature": "\\ud800", "certificate": "\\ud800"}',
        b'{"crypto": [], "signature": "", "certificate": ""}', b'{"i": ' + b"9" * 5000 + b"}",
        b'{"topic": "%s", "msg": %s}' % (topic, b'{"a":' * 20000 + b"1" + b"}" * 20000),
        b"[" * 200000, b'{"a":' * 100000,
    ]
    yield [topic]
    yield [topic, b"{}", b"{}"]
    yield [topic + b"\xff", b"{}"]
    yield [b"", b"{}"]
    for body in bodies:
        yield [topic, body]


def strange_certificates(config):
    """A certificate that no parser likes, in each place in which one of them stumbled."""
    with open("{}/alice.crt".format(config["ssldir"]), "rb") as stream:
        der = base64.b64decode(b"".join(stream.read().splitlines()[1:-1]))
    version = der.index(b"\xa0\x03\x02\x01\x02") + 4
    name = der.index(b"gilmsg throw-away CA")
    for place, value in ((version, 76), (name - 2, 0x0D), (name, 0xFF), (len(der) - 1, der[-1] ^ 1),
                         (len(der) - 256, 0xFF), (1, 0), (8, 0x85), (version + 3, 0x80)):
        changed = bytearray(der)
        changed[place] = value
        pem = b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % base64.encodebytes(changed)
        yield base64.encodebytes(pem).decode()


def claims(message, config):
    """ACKs for *message* that get as far as its digest and its certificate."""
    right = ack_body(message)
    for body in (right, dict(right, ack_digest="0")):
        for certificate in strange_certificates(config):
            ack = dict(compose(ACK.decode(), body), crypto="x509",
                       certificate=certificate, signature=base64.encodebytes(b"x" * 256).decode())
            yield frames(ack)
    quoted = json.dumps(right).encode()
    deep = b'{"topic":"%s","crypto":"x509","signature":"","certificate":"","msg":%s,"a":%s}'
    for level in (900, 20000):
        yield [ACK, deep % (ACK, quoted, b"[" * level + b"]" * level)]
    yield [ACK, b'{"msg":%s,"topic":["%s"]}' % (quoted, ACK)]
    yield [ACK, b'{"msg":[%s],"topic":"%s"}' % (quoted, ACK)]
    yield [ACK, quoted + b'"ack_msg_id":"' + b"\\a" * 100000]


def test_the_listener_survives_every_frame(field, hostile):
    """Nothing that comes on the ACK topic ends the listener, and the real ACK still counts."""
    config = patient(field)
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    heard(hostile, ACK)
    engine = inside.engine()
    field.slow("alice", 0.5)
    sent = []

    def attack(message):
        for one in list(shapes(ACK)) + list(claims(message, config)):
            sent.append(one)
            hostile.send_multipart(one)

    gilmsg.publish(
        topic="t", msg={}, recipients=["alice"], ack_timeout=20.0, pre_fire_hook=attack, **config
    )
    # The hook ran before the entry was registered: the same again while it is.
    future = gilmsg.publish_async(
        topic="t", msg={}, recipients=["alice"], ack_timeout=20.0, pre_fire_hook=sent.append, **config
    )
    attack(sent[-1])
    assert future.result(30).acks
    field.well("alice")
    assert inside.engine() is engine


def test_the_listener_takes_no_gigantic_frame_into_memory(field, hostile):
    """100 MB on the ACK topic end that connection, before they are in memory."""
    config = patient(field)
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    heard(hostile, ACK)
    engine = inside.engine()
    huge = b'{"msg": "%s"}' % (b"x" * (100 * MB))
    hostile.send_multipart([ACK, huge])
    heard(hostile, ACK)  # it was thrown out, and came again: not a frame was taken
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    assert inside.engine() is engine


def consumer_frames(config):
    topic = b"org.example.dev.x"
    yield from shapes(topic)
    for certificate in strange_certificates(config):
        message = compose(topic.decode(), {})
        yield frames(dict(message, certificate=certificate, signature="", crypto="x509"))
    yield [topic, b'{"msg": "%s"}' % (b"x" * (100 * MB))]
    yield [topic, b"[" * (100 * MB)]


def last(config):
    """A message that is in order, to come after all that was not."""
    message = compose("org.example.dev.x", {"gilmsg": {"recipients": ["carol"]}, "last": 1})
    return frames(sign(config, "publisher", message))


def test_tail_messages_survives_every_frame(field, hostile):
    """What is not fedmsg's, gigantic or deeply nested is dropped; the next message is yielded."""
    config = own_config(field, name="carol")
    tail = gilmsg.tail_messages(**config)
    try:
        heard(hostile, announcement("", "carol"))  # alice listens there, too
        sender = threading.Thread(
            target=lambda: [hostile.send_multipart(one) for one in consumer_frames(config)]
            + [hostile.send_multipart(last(config))]
        )
        sender.start()
        for _, _, _, message in tail:
            if message["msg"].get("last"):
                break
        sender.join()
    finally:
        tail.close()


@pytest.mark.slow
def test_a_hub_consumer_survives_every_frame(field, hostile, tmp_path):
    """The same for a consumer in a real fedmsg-hub."""
    config = own_config(field, name="carol")
    with Hub(tmp_path / "hub", config, ["First"]) as hub:
        heard(hostile, announcement("", "carol"))
        for one in consumer_frames(config):
            hostile.send_multipart(one)
        hostile.send_multipart(last(config))
        wait_for(
            lambda: any(line["body"].get("last") for line in hub.consumed()), "it consumed the last", 60
        )


def peer(context, config):
    """A peer of the publisher that may send upstream whatever it likes."""
    upstream = context.socket(zmq.XSUB)
    upstream.setsockopt(zmq.SNDHWM, 0)
    for endpoint in config["endpoints"]["publisher"]:
        upstream.connect(endpoint)
    return upstream


def test_a_publisher_survives_what_peers_send_upstream(field):
    """Subscriptions without number, odd announcements, unsubscriptions of nothing: publish succeeds."""
    config = patient(field)
    context = zmq.Context()
    try:
        upstream = peer(context, config)
        gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
        for frame in (b"", b"\0nothing", b"\x01", b"\0", b"\x02x", b"\x01\xff\0\xff", b"\x01\0", b"\x01a\0b\0c",
                      b"\0\0alice", b"\0", b"\x01" + b"\0" * 4000, b"\xff" * 4000):
            upstream.send(frame)
        upstream.send_multipart([b"x", b"\x01y", b"\0alice"])
        for n in range(50000):
            upstream.send(b"\x01%d\0%d" % (n % 500, n))
        wait_for(lambda: inside.topics("49999"), "the publisher has heard it all")
        begin = time.monotonic()
        for _ in range(5):
            gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
        assert time.monotonic() - begin < 30
    finally:
        context.destroy(linger=0)


def raw_subscriber(endpoint):
    """A connection to a publisher in bare ZMTP 3.0: libzmq's own XSUB dies of what we send."""
    connection = socket.create_connection(endpoint.rpartition("/")[2].split(":"), 10)
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 48
    connection.sendall(greeting[:64] + b"\0" * (64 - len(greeting)))
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"
    connection.sendall(b"\x04" + bytes([len(ready)]) + ready)
    heard = b""
    while b"READY" not in heard:
        heard += connection.recv(4096)
    return connection


@pytest.mark.slow
@pytest.mark.parametrize("size, ends", [(1000, False), (100 * MB, True)])
def test_a_gigantic_subscription_ends_the_connection(field, size, ends):
    """A subscription of 100 MB is not taken into the publisher's memory; one of 1,000 bytes is."""
    config = patient(field)
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)
    connection = raw_subscriber(inside.endpoint())
    try:
        connection.sendall(b"\x02" + size.to_bytes(8, "big") + b"\x01" + b"x" * 500)

        def over():
            try:
                return not connection.recv(65536)
            except socket.timeout:
                return False
            except OSError:
                return True

        if ends:
            wait_for(over, "the publisher hangs up", 30)
        else:
            connection.sendall(b"x" * (size - 501))
            wait_for(lambda: inside.subscribed_to_just("x" * 999), "the publisher has the subscription")
    finally:
        connection.close()
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10.0, **config)


