"""tail_messages: ACK, then yield; what is not for us, what is no message, what cannot work."""

import json
import os
import threading

import psutil
import pytest
import zmq

import gilmsg
from gilmsg import _acks, _message, _outlets, _presence
from gilmsg._keypair import KeyPair

from .conftest import own_config
from .helpers import bind, digest, frames
from .processes import python
from .talking import wait_for


@pytest.fixture
def carol(bus, config):
    """The configuration of a consumer named carol, with a hostile neighbour's port besides."""
    return own_config(bus, name="carol")


def hostile_socket(config):
    socket = zmq.Context.instance().socket(zmq.XPUB)
    bind(socket, config["endpoints"]["hostile"][0])
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
        for outlet in _outlets._outlets.values():
            with outlet.look() as peers:
                return peers.listens("spy", "")

    wait_for(there, "the spy is connected")


def seen(socket, topic="", name="carol"):
    """Wait until our tail is subscribed: the stand-ins, who listen here too, announce other names."""
    awaited = b"\x01" + _presence.announcement(topic, name)
    wait_for(lambda: socket.poll(50) and socket.recv() == awaited, "our tail listens")


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
    # Not a stand-in: its ACK would come in between.
    others = signed_message(carol, recipients=["dave"])
    trap = signed_message(carol, topic="org.example.dev.gilmsg.ack", recipients=["carol"])
    ours = signed_message(carol, recipients=["dave,carol"])
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
        assert ack["msg"] == {"ack_msg_id": ours["msg_id"], "ack_digest": digest(ours)}
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
    before = descriptors_but_for_peers(carol)
    tail = gilmsg.tail_messages()
    assert descriptors_but_for_peers(carol) > before
    tail.close()
    wait_for(lambda: descriptors_but_for_peers(carol) <= before, "the descriptors are closed", 5)


def descriptors_but_for_peers(config):
    """Our open descriptors, without the connections of those who listen to us: they come and go."""
    process, port = psutil.Process(), int(config["endpoints"][config["name"]][0].rpartition(":")[2])
    peers = [c for c in process.net_connections("tcp") if c.laddr.port == port and c.raddr]
    return process.num_fds() - len(peers)


def test_only_the_topic_asked_for(carol):
    """A topic prefix is honoured."""
    tail = gilmsg.tail_messages(topic="org.example.dev.right", **carol)
    socket = hostile_socket(carol)
    try:
        seen(socket, "org.example.dev.right")
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
    tail = gilmsg.tail_messages(topic="org", **dict(carol, name="nobody", **switch))
    try:
        assert sum("acknowledge nothing" in r.getMessage() for r in caplog.records) == 1
        # It announces nothing; nobody else subscribes to this prefix.
        wait_for(lambda: socket.poll(50) and socket.recv() == b"\x01org", "our tail listens")
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


def test_a_forked_child_is_refused_its_parents_generator(carol):
    """To read the parent's sockets would steal its wake-ups: the child is told so, the parent goes on."""
    import os

    tail = gilmsg.tail_messages(topic="org", **carol)
    socket = hostile_socket(carol)
    try:
        child = os.fork()
        if child == 0:
            try:
                next(tail)
            except gilmsg.ConfigurationError as error:
                os._exit(0 if "call tail_messages() again" in str(error) else 2)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        seen(socket, "org")
        socket.send_multipart(frames(signed_message(carol)))
        assert next(tail)[2] == "org.example.dev.x.y"
    finally:
        tail.close()
        socket.close(linger=0)


def test_an_ack_that_cannot_be_signed_is_logged(bus, carol, tmp_path, caplog):
    """Where our certificate has ended meanwhile the message is yielded nevertheless; the log says why no ACK left."""
    carol["ssldir"] = str(tmp_path)
    bus.authority.issue("carol", folder=str(tmp_path))
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(topic="org", **carol)
    try:
        seen(socket, "org")
        bus.authority.issue("carol", days=-1, folder=str(tmp_path))
        message = KeyPair(bus.config["ssldir"], "alice").sign(
            _message.compose("org.example.dev.x.y", _acks.marked({}, ["carol"]), 1)
        )
        socket.send_multipart(frames(message))
        assert next(tail)[3]["msg_id"] == message["msg_id"]
        assert "no ACK for %s: " % message["msg_id"] in caplog.text and "expired" in caplog.text
    finally:
        tail.close()
        socket.close(linger=0)


def test_a_recipient_may_acknowledge_through_the_relay(bus, carol):
    """With active=True the ACK leaves through the relay, once that is there, signed by the shell's certificate."""
    carol.update(active=True, name="relay_inbound", cert_prefix="shell")
    message = signed_message(carol, recipients=["shell"])
    spy = zmq.Context.instance().socket(zmq.SUB)
    spy.subscribe(b"org.example.dev.gilmsg.ack")
    monitor = spy.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    spy.connect(bus.config["endpoints"]["relay_outbound"][0])
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(topic="org", **carol)
    try:
        assert monitor.poll(10000)
        seen(socket, "org", "shell")

        def heard():
            # Until the relay has seen the spy's subscription it may pass nothing on.
            socket.send_multipart(frames(message))
            assert next(tail)[3]["msg_id"] == message["msg_id"]
            return spy.poll(200)

        wait_for(heard, "the ACK comes through the relay", 20)
        assert json.loads(spy.recv_multipart()[1])["msg"]["ack_msg_id"] == message["msg_id"]
    finally:
        tail.close()
        spy.disable_monitor()
        for one in (socket, monitor, spy):
            one.close(linger=0)


class Store:
    """What fedmsg's replay asks for what was missed."""

    def __init__(self, messages):
        self._messages = messages

    def get(self, query):
        first, last = query["seq_id_range"]
        return [one for one in self._messages if first < one["seq_id"] <= last]


@pytest.mark.parametrize("answers", [True, False])
def test_what_was_missed_is_replayed(bus, carol, answers, caplog):
    """By fedmsg's replay a gap is filled, in order; if that fails, it is logged, and what came is yielded."""
    replay = bus.ports.endpoint()
    sequence = [
        KeyPair(carol["ssldir"], "alice").sign(
            dict(_message.compose("org.example.dev.x.y", _acks.marked({}, ["dave"]), number), seq_id=number)
        )
        for number in range(4)
    ]
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**dict(carol, replay_endpoints={"hostile": replay}))
    server = Replay(carol, replay, Store(sequence) if answers else None)
    try:
        seen(socket)
        with server:
            for number in (0, 3):
                socket.send_multipart(frames(sequence[number]))
            expected = [0, 1, 2, 3] if answers else [0, 3]
            assert [next(tail)[3]["seq_id"] for _ in expected] == expected
        assert ("the replay failed" in caplog.text) is not answers
    finally:
        tail.close()
        socket.close(linger=0)


def test_a_child_is_given_nothing_of_a_replay(bus, carol):
    """A fork in the midst of what one frame brought leaves the rest to the parent: in the child, next() refuses."""
    replay = bus.ports.endpoint()
    sequence = [dict(signed_message(carol), seq_id=number) for number in range(3)]
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**dict(carol, validate_signatures=False, replay_endpoints={"hostile": replay}))
    try:
        seen(socket)
        with Replay(carol, replay, Store(sequence)):
            for number in (0, 2):
                socket.send_multipart(frames(sequence[number]))
            assert [next(tail)[3]["seq_id"] for _ in range(2)] == [0, 1]
        child = os.fork()
        if child == 0:
            try:
                next(tail)
            except gilmsg.ConfigurationError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
        assert next(tail)[3]["seq_id"] == 2
    finally:
        tail.close()
        socket.close(linger=0)


def test_what_is_no_good_of_a_replay_costs_nothing_else(bus, carol, caplog):
    """Rubbish among what is replayed is dropped and told; the others, and the message itself, are yielded."""
    replay = bus.ports.endpoint()
    first, missed, last = (dict(signed_message(carol), seq_id=number) for number in (0, 2, 4))
    socket = hostile_socket(carol)
    tail = gilmsg.tail_messages(**dict(carol, validate_signatures=False, replay_endpoints={"hostile": replay}))
    with zmq.Context.instance().socket(zmq.REP) as server:
        server.bind(replay)

        def answer():
            assert server.poll(20_000)
            server.recv()
            server.send_multipart([b"[]", b"{}", json.dumps(missed).encode()])

        thread = threading.Thread(target=answer)
        try:
            seen(socket)
            thread.start()
            for message in (first, last):
                socket.send_multipart(frames(message))
            assert [next(tail)[3]["seq_id"] for _ in range(3)] == [0, 2, 4]
        finally:
            tail.close()
            thread.join()
            server.close(linger=0)
            socket.close(linger=0)
    assert "dropped a message replayed for 'hostile': it is no JSON object with a topic" in caplog.text


class Replay:
    """fedmsg's own replay server; without a store it refuses each query."""

    def __init__(self, config, endpoint, store):
        from fedmsg.replay import ReplayContext

        class Empty:
            def get(self, query):
                raise ValueError("no store")

        self._context = ReplayContext(
            **dict(config, name="hostile", persistent_store=store or Empty(), replay_endpoints={"hostile": endpoint})
        )
        self._over = False
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over:
            self._context._req_rep_cycle()

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._over = True
        self._thread.join()
        self._context.context.destroy(linger=0)


def test_passive_on_a_port_that_is_taken(bus, carol):
    """An endpoint that cannot be bound is named at the call, and nothing stays open."""
    with zmq.Context.instance().socket(zmq.PUB) as holder:
        endpoint = bus.ports.endpoint()
        holder.bind(endpoint)
        carol["endpoints"] = {"taken": [endpoint]}
        with pytest.raises(gilmsg.ConfigurationError, match="taken"):
            gilmsg.tail_messages(passive=True, **dict(carol, mute=True))


def test_more_endpoints_than_open_files(carol):
    """What the limit forbids is said at the call, with the limit to set; below it the soft one is raised."""
    import resource

    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import gilmsg, json, resource, sys\n"
        "config = json.loads(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512))\n"
        "gilmsg.tail_messages(**config).close()\n"
        "print(64 < resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 512)\n"
        "gilmsg.destroy()\n"
        "config['endpoints']['many'] = ['tcp://127.0.0.1:%d' % port for port in range(2000, 3000)]\n"
        "try:\n"
        "    gilmsg.tail_messages(**config)\n"
        "except gilmsg.ConfigurationError as error:\n"
        "    print('the limit is 512' in str(error), 'ulimit -n' in str(error))\n"
    )
    done = python(code, ".", json.dumps(dict(carol, mute=True)))
    assert done.stdout.split() == ["True", "True", "True"], done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == former


def test_an_endpoint_that_does_not_resolve_is_left_out(carol, caplog):
    """The rest is listened to; a warning names the host."""
    carol["endpoints"]["gone"] = ["tcp://no-such-host.invalid:2000"]
    gilmsg.tail_messages(topic="org", **dict(carol, mute=True)).close()
    assert "no-such-host.invalid" in caplog.text


SLOW = """
import json, sys, time
import gilmsg
from gilmsg import _sockets
_sockets.HEARTBEAT_IVL, _sockets.HEARTBEAT_TIMEOUT = 100, 200  # or it would take 7 s
tail = gilmsg.tail_messages(**json.loads(sys.argv[1]))
print("up", next(tail)[3]["msg"]["n"], flush=True)
time.sleep(0.6)  # longer than heartbeats last: the slow user
print([next(tail)[3]["msg"]["n"] for _ in range(499)] == list(range(1, 500)))
"""


def test_a_slow_loop_with_a_high_water_mark_loses_nothing(bus, carol):
    """Who limits its queue, and is busy longer than heartbeats last, goes on where it was; libzmq does not abort."""
    loud = bus.ports.endpoint()
    theirs = dict(
        carol, high_water_mark=10, validate_signatures=False, sign_messages=False, endpoints={"loud": [loud]}
    )
    context = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.bind(loud)
    try:
        def send():
            assert socket.poll(20000)
            for number in range(500):
                message = _message.compose("org.example.dev.loud", {"n": number}, number)
                socket.send_multipart(frames(message))

        thread = threading.Thread(target=send)
        thread.start()
        done = python(SLOW, ".", json.dumps(theirs))
        thread.join()
    finally:
        context.destroy(linger=0)
    assert (done.returncode, done.stdout) == (0, "up 0\nTrue\n"), done.stderr
