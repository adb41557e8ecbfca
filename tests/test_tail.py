"""tail_messages: ACK, then yield; what is not for us, what is no message, what cannot work."""

import contextlib
import json
import threading

import pytest
import zmq

import gilmsg

from . import helpers, inside
from .conftest import own_config
from .helpers import acked, announcement, bound, digest, frames, in_a_child, in_threads, publish, sign, subscriber
from .processes import program, wait_for

PLACE = "org.example.dev.x.y"


@pytest.fixture
def carol(bus):
    """The configuration of a consumer named carol."""
    return own_config(bus, name="carol")


@contextlib.contextmanager
def tailing(config, topic="", announced="carol", **options):
    """A tail of carol's, and the socket of a hostile neighbour to whom she listens.

    She gives what the neighbour sends: alice may have a late ACK for the test before.
    """
    with bound(config["endpoints"]["hostile"][0]) as neighbour:
        tail = gilmsg.tail_messages(topic=topic, **dict(config, **options))
        try:
            helpers.heard(neighbour, announcement(topic, announced) if announced else topic.encode())
            yield (one for one in tail if one[0] == "hostile"), neighbour
        finally:
            tail.close()


def message_to(*recipients, topic=PLACE, **body):
    """The body of a message that names *recipients*, or of a plain one."""
    return helpers.compose(topic, helpers.marked(body, recipients) if recipients else body)


def test_no_bad_frame_ends_the_generator(carol):
    """Rubbish is dropped (tests/protocol/test_wire has every shape); the good message after it is yielded."""
    good = sign(carol, "alice", message_to(n=1))
    bad = [
        [b"one part"], [b"org.example", b"not json"], [b"\xff\xfe", b"{}"], [b"org.example", b"[" * 100000],
        frames({}, "org.example"), frames(dict(good, certificate="rubbish")), frames(dict(good, msg="changed")),
        frames(good, "another.topic"),
    ]  # fmt: skip
    with tailing(carol) as (tail, neighbour):
        for parts in bad + [frames(good)]:
            neighbour.send_multipart(parts)
        name, endpoint, topic, message = next(tail)
        assert (name, endpoint) == ("hostile", carol["endpoints"]["hostile"][0])
        assert topic == message["topic"] == good["topic"] and message["msg"] == {"n": 1}


def test_only_what_names_us_is_acknowledged(carol):
    """Plain messages, messages for others, and ACKs that name us are yielded and not ACKed; nor is another topic."""
    bodies = [
        message_to(),
        message_to("dave"),  # not a stand-in: its ACK would come in between
        message_to("carol", topic="org.example.dev.gilmsg.ack"),
        message_to("dave,carol"),
    ]
    sent = [sign(carol, "alice", message) for message in bodies]
    spy = announcement("", "spy")
    ours = subscriber(carol["endpoints"]["carol"][0], topics=[b"", spy])
    with tailing(carol, "org.example.dev") as (tail, neighbour), ours as acks:
        wait_for(lambda: inside.asked_for("carol", spy.decode()), "the spy is connected")
        for message in [sign(carol, "alice", message_to("carol", topic="org.example.wrong")), *sent]:
            neighbour.send_multipart(frames(message))
        assert [next(tail)[3]["msg_id"] for _ in sent] == [message["msg_id"] for message in sent]
        assert acks.poll(20000)
        ack = acked(acks.recv_multipart())
        assert ack == {"ack_msg_id": sent[-1]["msg_id"], "ack_digest": digest(sent[-1])}
        assert not acks.poll(100)


UNUSABLE = [
    ({"certnames": {}}, "certnames"), ({"name": "nobody"}, "nobody"), ({"ssldir": "/nonexistent"}, "ssldir"),
    ({"ca_cert_location": None}, "ca_cert_location"), ({"zmq_enabled": False}, "zmq_enabled"),
    ({"topic": "a\udcff"}, "topic must be text"), ({"topic": None}, "topic must be text"),
]  # fmt: skip


@pytest.mark.parametrize("wrong, named", UNUSABLE)
def test_unusable_configuration_is_an_error_at_the_call(carol, wrong, named):
    """With sign_messages on, what is missing is said when tail_messages is called."""
    with pytest.raises(gilmsg.ConfigurationError, match=named):
        gilmsg.tail_messages(**dict(carol, **wrong))


@pytest.mark.parametrize("switch", [{"sign_messages": False}, {"mute": True}])
def test_a_consumer_that_cannot_sign_yields_without_acks(carol, switch, caplog):
    """Without signatures it needs no endpoint and announces nothing; it warns once at the start and yields."""
    # Nobody else subscribes to this prefix.
    with tailing(carol, "org", announced=None, name="nobody", **switch) as (tail, neighbour):
        assert sum("acknowledge nothing" in r.getMessage() for r in caplog.records) == 1
        neighbour.send_multipart(frames(sign(carol, "alice", message_to("carol"))))
        assert next(tail)[3]["msg"]["gilmsg"]["recipients"] == ["carol"]


def test_publishing_inside_the_loop(bus, carol):
    """A consumer with one port answers inside its loop, by a confirmed publish of its own."""
    ours = own_config(bus, **{"gilmsg.head_start": 30.0})
    receipt, answered = in_threads(lambda: publish(["carol"], **ours), lambda: program("tailer", carol, "org.example.dev.tests", "alice"))
    assert list(receipt.acks) == ["carol"]
    assert answered.stdout.endswith("\nalice\n"), answered.stderr


def test_a_forked_child_is_refused_its_parents_generator(carol):
    """To read the parent's sockets would steal its wake-ups: the child is told so, the parent goes on."""
    with tailing(carol, "org") as (tail, neighbour):
        def child():
            with pytest.raises(gilmsg.ConfigurationError, match=r"call tail_messages\(\) again"):
                next(tail)
            return 7

        assert in_a_child(child) == 7
        neighbour.send_multipart(frames(sign(carol, "alice", message_to())))
        assert next(tail)[2] == PLACE


def test_a_recipient_may_acknowledge_through_the_relay(bus, carol):
    """With active=True the ACK leaves through the relay, once that is there, signed by the shell's certificate."""
    active = {"active": True, "name": "relay_inbound", "cert_prefix": "shell", "announced": "shell"}
    message = sign(carol, "alice", message_to("shell"))
    behind = subscriber(bus.config["endpoints"]["relay_outbound"][0], topics=[b"org.example.dev.gilmsg.ack"])
    with behind as reader, tailing(carol, "org", **active) as (tail, neighbour):
        def arrived():
            # Until the relay has seen the reader's subscription it may pass nothing on.
            neighbour.send_multipart(frames(message))
            assert next(tail)[3]["msg_id"] == message["msg_id"]
            return reader.poll(200)

        wait_for(arrived, "the ACK comes through the relay")
        assert acked(reader.recv_multipart())["ack_msg_id"] == message["msg_id"]


@pytest.mark.parametrize("answers", [True, False])
def test_what_was_missed_is_replayed(bus, carol, answers, caplog):
    """By fedmsg's replay a gap is filled, in order, rubbish dropped and told; if it fails, what came is yielded."""
    replay = bus.ports.endpoint()
    first, missed, last = (dict(message_to(), seq_id=number) for number in (0, 2, 4))
    lax = {"validate_signatures": False, "replay_endpoints": {"hostile": replay}}
    with tailing(carol, **lax) as (tail, neighbour), zmq.Context() as context, context.socket(zmq.REP) as server:
        server.linger = 0
        server.bind(replay)

        def answer():
            assert server.poll(20_000) and json.loads(server.recv())["seq_id_range"] == [0, 4]
            server.send_multipart([b"[]", b"{}", json.dumps(missed).encode()] if answers else [b"error: no store"])

        thread = threading.Thread(target=answer)
        thread.start()
        for message in (first, last):
            neighbour.send_multipart(frames(message))
        expected = [0, 2, 4] if answers else [0, 4]
        assert [next(tail)[3]["seq_id"] for _ in expected] == expected
        thread.join()
    dropped = "dropped a message replayed for 'hostile': it is no JSON object with a topic"
    wait_for(lambda: (dropped if answers else "the replay failed") in caplog.text, "it is told, by another thread")


def test_a_slow_loop_with_a_high_water_mark_loses_nothing(bus, carol):
    """Who limits its queue, and is busy longer than heartbeats last, goes on where it was; libzmq does not abort."""
    loud = bus.ports.endpoint()
    lax = {"high_water_mark": 10, "validate_signatures": False, "sign_messages": False, "endpoints": {"loud": [loud]}}
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = socket.sndhwm = 0
        socket.bind(loud)

        def send():
            assert socket.poll(20000)
            for number in range(500):
                socket.send_multipart(frames(helpers.compose("org.example.dev.loud", {"n": number})))

        _, done = in_threads(send, lambda: program("slow_tail", dict(carol, **lax)))
    assert (done.returncode, done.stdout) == (0, "up 0\nTrue\n"), done.stderr


@pytest.mark.parametrize("validates", [False, True])
def test_messages_of_old_gilmsg(carol, validates):
    """0.1.2 marks a message at its top level after signing: acknowledged where nobody validates."""
    old = dict(helpers.signed(carol, "alice", {"old": 1}, topic="org.example.dev.old.t"), gilmsg_version="0.1.2")
    last = helpers.signed(carol, "alice", {}, topic="org.example.dev.old.last")
    ours = subscriber(carol["endpoints"]["carol"][0], topics=[b"", b"spy"])  # 0.1.2 listens to every topic of every endpoint
    with ours as listener, tailing(carol, "org.example.dev.old", validate_signatures=validates) as (tail, neighbour):
        wait_for(lambda: inside.asked_for("carol", "spy"), "the listener is connected")
        for message in (old, last):
            neighbour.send_multipart(frames(message))
        assert next(tail)[3]["msg_id"] == (last if validates else old)["msg_id"]
        assert bool(listener.poll(200 if validates else 20000)) is not validates
        if not validates:
            assert acked(listener.recv_multipart()) == {"ack_msg_id": old["msg_id"], "ack_digest": digest(old)}
