"""ACKs of a consumer, and host names of a tail, without a bus."""

import json
import logging
import types

import pytest
import zmq

from gilmsg import ConfigurationError, ListenerError, _protocol, _trust
from gilmsg._client import receive
from gilmsg._client.acknowledge import Acknowledger
from gilmsg._engine import sockets

CONFIG = {"topic_prefix": "org.example", "environment": "dev", "name": "carol", "certnames": {"carol": "carol-cert"}}


class Port:
    """Takes ACKs, or refuses them."""

    def __init__(self):
        self.taken, self.error = [], None

    def acknowledge(self, parts, origin):
        if self.error is not None:
            raise self.error
        self.taken.append((parts, origin))


class Signer:
    common_name = "carol"

    def seal(self, covered):
        return types.SimpleNamespace(_asdict=lambda: {"signature": f"s{len(covered)}", "certificate": "c\n"})


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def acknowledger(port, monkeypatch):
    for name in ("signer", "key_pair"):
        monkeypatch.setattr(_trust, name, lambda config, certname: {"carol-cert": Signer()}[certname])
    return Acknowledger(CONFIG, lambda: port)


def message(recipients, **fields):
    body = _protocol.marked({"n": 1}, recipients)
    fields.setdefault("msg_id", "2026-12345678-1234-4123-9123-" + _protocol.checked_origin("0123abcd"))
    return {"topic": "org.example.dev.t", "msg": body, **fields}


def received(one, topic=None):
    return _protocol.Received(one["topic"] if topic is None else topic, one)


def test_an_ack_is_signed_and_goes_to_the_listener_that_awaits_it(acknowledger, port):
    """Its bytes are a fedmsg message on the ACK topic that states id and digest, and the origin is handed over."""
    one = message(["dave,carol"])
    body = acknowledger.due(received(one), True)
    acknowledger.acknowledge(body)
    [([topic, wire], origin)] = port.taken
    ack = json.loads(wire)
    assert topic.decode() == ack["topic"] == "org.example.dev.gilmsg.ack"
    assert _protocol.parse_ack(ack) == (one["msg_id"], _protocol.digest_of(_protocol.canonical(one)))
    assert (ack["signature"], ack["certificate"]) == (f"s{len(_protocol.canonical(ack))}", "c\n")
    assert origin == _protocol.origin_of(one["msg_id"]) is not None
    assert acknowledger.counts() == {"acks_sent": 1, "acks_failed": 0, "last_ack_error": None}


@pytest.mark.parametrize(
    "one, topic",
    [
        (message(["dave"]), None),
        (message(["carol"], topic="org.example.dev.gilmsg.ack"), None),
        (message(["carol"]), "org.example.dev.another"),
        (message(["carol"], msg_id=7), None),
    ],
    ids=["for another", "an ACK", "sent under another topic", "no id"],
)
def test_no_ack_is_due(acknowledger, one, topic):
    """Only for what names the consumer, under the topic that was signed, and never for an ACK."""
    assert acknowledger.due(received(one, topic), True) is None


@pytest.mark.parametrize("error", [ListenerError("gone"), ConfigurationError("no key"), ListenerError()])
def test_what_could_not_leave_is_logged_and_counted(acknowledger, port, caplog, error):
    """The consumer goes on; the log says for which message there is no ACK."""
    port.error = error
    acknowledger.acknowledge({"ack_msg_id": "2026-x", "ack_digest": "0"})
    counts = acknowledger.counts()
    assert (counts["acks_sent"], counts["acks_failed"]) == (0, 1) and counts["last_ack_error"]
    assert [(r.name, r.levelname) for r in caplog.records] == [("gilmsg.receive", "ERROR")]
    assert f"no ACK for 2026-x: {error}" in caplog.text


def test_what_has_no_digest_is_logged_and_counted(acknowledger, caplog):
    """What is nested so deeply that it cannot be encoded again gets no ACK."""
    one = message(["carol"])
    for _ in range(100_000):
        one["msg"]["deep"] = {"deep": one["msg"].get("deep")}
    assert acknowledger.due(received(one), False) is None
    assert acknowledger.counts()["last_ack_error"] == "it is nested too deeply"
    assert f"no ACK for {one['msg_id']}: it is nested too deeply" in caplog.text


class Lookups:
    """Host names that resolve when a test says so."""

    def __init__(self, tell):
        self.tell, self.asked, self._answers = tell, [], []

    def ask(self, host):
        self.asked.append(host)

    def say(self, host, *addresses):
        self._answers.append((host, list(addresses)))
        self.tell()

    def answers(self):
        answers, self._answers = self._answers, []
        return answers


class Subscriber:
    """A socket that notes what it was told."""

    def __init__(self, refuses=()):
        self.told, self._refuses = [], refuses

    def connect(self, where):
        if where in self._refuses:
            raise zmq.ZMQError(zmq.EINVAL)
        self.told.append("+" + where)

    def disconnect(self, where):
        self.told.append("-" + where)


class Context:
    """What claims are made for."""


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(receive.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def names(monkeypatch, clock):
    monkeypatch.setattr(sockets, "Names", Lookups)
    names = receive._Names(Context())
    yield names
    names.close()


def source(endpoint="tcp://far:3000", **options):
    one = receive._Source("far", endpoint)
    one.socket = Subscriber(**options)
    return one


def test_a_host_is_connected_when_it_resolves_and_anew_when_it_moved(names):
    """The first address is taken, and kept while it is among the answers."""
    one, other = source(), source("tcp://far:3001")
    names.add(one)
    names.add(other)
    names.connect()
    assert not one.socket.told
    names._lookups.say("far", "10.0.0.1", "10.0.0.2")
    names.connect()
    assert (one.socket.told, other.socket.told) == (["+tcp://10.0.0.1:3000"], ["+tcp://10.0.0.1:3001"])
    names._lookups.say("far", "10.0.0.2", "10.0.0.1")
    names._lookups.say("far")
    names.connect()
    assert one.socket.told == ["+tcp://10.0.0.1:3000"]
    names._lookups.say("far", "10.0.0.3")
    names.connect()
    assert one.socket.told[1:] == ["-tcp://10.0.0.1:3000", "+tcp://10.0.0.3:3000"]


def test_hosts_are_looked_up_again_and_again(names, clock):
    """One that never resolved every 5 s, one that did every 30 s."""
    for host in ("far", "lost"):
        names.add(source(f"tcp://{host}:3000"))
    names._lookups.say("far", "10.0.0.1")
    names.connect()
    asked = {"far": [], "lost": []}
    names._lookups.asked.clear()
    for _ in range(121):
        names.look_up()
        for host in names._lookups.asked:
            asked[host].append(clock.now - 1000.0)
        names._lookups.asked.clear()
        clock.now += 0.5
    assert asked == {"far": [30.0, 60.0], "lost": [5.0 * n for n in range(1, 13)]}


def test_a_host_that_does_not_resolve_is_told_once_a_minute(names, clock, caplog):
    """By its endpoint, on the logger of endpoints; and that it is looked up again."""
    names.add(source())
    told = []
    for _ in range(25):
        names._lookups.say("far")
        names.connect()
        told += [(r.name, r.levelname, r.getMessage(), clock.now - 1000.0) for r in caplog.records]
        caplog.clear()
        clock.now += 5.0
        names.look_up()
    line = "endpoints: the host of 'tcp://far:3000' does not resolve; it is looked up again"
    assert told == [("gilmsg.endpoints", "WARNING", line, when) for when in (0.0, 60.0, 120.0)]


def test_what_libzmq_refuses_late_ends_nothing(names, caplog):
    """It is named in the log, and the others are connected."""
    bad, good = source("udp://far:1", refuses=["udp://10.0.0.1:1"]), source()
    names.add(bad)
    names.add(good)
    names._lookups.say("far", "10.0.0.1")
    names.connect()
    assert good.socket.told == ["+tcp://10.0.0.1:3000"]
    assert "cannot connect to 'udp://far:1'" in caplog.text


def test_an_answer_that_comes_after_the_end_is_for_nobody(names, caplog):
    """The thread that looks names up may be the last to hear that a tail was closed."""
    names.add(source())
    names.close()
    with caplog.at_level(logging.DEBUG):
        names._lookups.say("far", "10.0.0.1")
    assert not caplog.records
