"""ACKs of a consumer, and host names of a tail, without a bus."""

import errno
import json
import threading
import types

import pytest
import zmq

from gilmsg import ConfigurationError, ListenerError, _protocol, _trust
from gilmsg._client.acknowledge import Acknowledger
from gilmsg._engine import Connections, callbacks

CONFIG = {"topic_prefix": "org.example", "environment": "dev", "name": "carol", "certnames": {"carol": "carol-cert"}}


@pytest.fixture(autouse=True)
def written():
    """Wait until the callback thread has written its log lines: they are this test's, not the next one's."""

    def wait():
        said = threading.Event()
        callbacks.run(said.set)
        assert said.wait(30)

    yield wait
    wait()


NOTHING = {"acks_sent": 0, "acks_failed": 0, "last_ack_error": None, "handler_failures": 0}


class Port:
    """Takes ACKs and NACKs, or has none of them."""

    endpoint = "tcp://127.0.0.1:3000"

    def __init__(self):
        self.taken, self.error, self.nacks = [], None, []

    def refuse(self, parts, origin):
        self.nacks.append((threading.current_thread().name, parts, origin))

    def acknowledge(self, parts, origin):
        if self.error is not None:
            raise self.error
        self.taken.append((parts, origin))


class Signer:
    common_name = "carol"

    def seal(self, covered):
        return _trust.signing.Seal(f"s{len(covered)}", "c\n", f'"certificate":"c\\n","signature":"s{len(covered)}"'.encode())


@pytest.fixture
def port():
    return Port()


@pytest.fixture
def acknowledger(port, monkeypatch):
    for name in ("signer", "key_pair"):
        monkeypatch.setattr(_trust, name, lambda config, certname: {"carol-cert": Signer()}[certname])
    return Acknowledger(CONFIG, lambda: port)


@pytest.mark.parametrize(("name", "lines"), [("carol", 0), ("carol,dave", 1), (" carol", 1)])
def test_a_common_name_that_nobody_can_name_is_warned_of(monkeypatch, caplog, name, lines):
    """Such a consumer starts all the same: it consumes, as with fedmsg."""
    monkeypatch.setattr(_trust, "signer", lambda *_: types.SimpleNamespace(common_name=name))
    Acknowledger(CONFIG, Port)
    told = [(record.name, record.levelname) for record in caplog.records if repr(name) in record.getMessage()]
    assert told == [("gilmsg.receive", "WARNING")] * lines


def message(recipients, **fields):
    body = _protocol.marked({"n": 1}, recipients)
    fields.setdefault("msg_id", "2026-12345678-1234-4123-9123-" + _protocol.checked_origin("0123abcd"))
    return {"topic": "org.example.dev.t", "msg": body, **fields}


def received(one, topic=None):
    return _protocol.Received(one["topic"] if topic is None else topic, one)


def test_a_consumer_says_as_whom_it_acknowledges(caplog, acknowledger, port):
    """One INFO line at its start: its name, and from where its ACKs leave."""
    caplog.set_level("INFO", logger="gilmsg")
    Acknowledger(CONFIG, lambda: port)
    [record] = caplog.records
    assert (record.name, record.levelname) == ("gilmsg.receive", "INFO")
    assert record.getMessage() == f"acknowledging as carol from {port.endpoint}"


def test_an_ack_is_signed_and_goes_to_the_listener_that_awaits_it(acknowledger, port):
    """Its bytes are a fedmsg message on the ACK topic that states id and digest, and the origin is handed over."""
    one = message(["dave,carol"])
    body = acknowledger.due(received(one), True)
    acknowledger.acknowledge(body)
    [([topic, wire], origin)] = port.taken
    ack = json.loads(wire)
    assert topic.decode() == ack["topic"] == "org.example.dev.gilmsg.ack"
    assert ack["msg"] == {"ack_msg_id": one["msg_id"], "ack_digest": _protocol.digest_of(_protocol.canonical(one))}
    assert (ack["signature"], ack["certificate"]) == (f"s{len(_protocol.canonical(ack))}", "c\n")
    assert origin == _protocol.origin_of(one["msg_id"]) is not None
    assert acknowledger.counts == {**NOTHING, "acks_sent": 1}


@pytest.mark.parametrize("error", [ListenerError("gone"), ConfigurationError("no key"), ListenerError()])
def test_what_could_not_leave_is_logged_and_counted(acknowledger, port, caplog, error):
    """The consumer goes on; the log says for which message there is no ACK."""
    port.error = error
    acknowledger.acknowledge({"ack_msg_id": "2026-x", "ack_digest": "0"})
    counts = acknowledger.counts
    assert (counts["acks_sent"], counts["acks_failed"]) == (0, 1) and counts["last_ack_error"]
    assert [(r.name, r.levelname) for r in caplog.records] == [("gilmsg.receive", "ERROR")]
    assert f"no ACK for 2026-x: {error}" in caplog.text


def test_what_has_no_digest_is_logged_and_counted(acknowledger, caplog):
    """What is nested so deeply that it cannot be encoded again gets no ACK."""
    one = message(["carol"])
    for _ in range(100_000):
        one["msg"]["deep"] = {"deep": one["msg"].get("deep")}
    assert acknowledger.due(received(one), False) is None
    assert acknowledger.counts["last_ack_error"] == "it is nested too deeply"
    assert f"no ACK for {one['msg_id']}: it is nested too deeply" in caplog.text


LISTENER = _protocol.checked_origin("0123abcd")


def test_a_nack_goes_to_the_listener_that_awaits_the_answer(acknowledger, port, written, monkeypatch):
    """One a second; the callback thread signs it."""
    one = message(["dave,carol"])
    # One a second may leave: these are of one moment, however long they take.
    monkeypatch.setattr("gilmsg._client.acknowledge.time", types.SimpleNamespace(monotonic=lambda: 1000.0))
    for _ in range(100):
        acknowledger.refuse(received(one), "policy")
    written()
    [(thread, [topic, wire], origin)] = port.nacks
    nack = json.loads(wire)
    assert (topic.decode(), thread, origin) == (nack["topic"], "gilmsg-callbacks", LISTENER)
    assert nack["topic"] == "org.example.dev.gilmsg.nack"
    digest = _protocol.digest_of(_protocol.canonical(one))
    assert nack["msg"] == {"ack_msg_id": one["msg_id"], "ack_digest": digest, "reason": "policy"}
    assert nack["certificate"] == "c\n" and not port.taken
    assert acknowledger.counts == NOTHING


def test_what_is_rejected_is_logged_counted_and_told_to_its_publisher(acknowledger, port, written, caplog):
    """By the callback thread, under the one limit of all NACKs; as what was received, whatever the handler made of it."""
    one = message(["carol"])
    body = acknowledger.due(received(one), True)
    one["msg"].clear()
    for _ in range(3):
        acknowledger.reject(body, ValueError("hot"))
    acknowledger.reject({**body, "ack_msg_id": "2026-of-nobody"}, "cold")
    written()
    [(thread, [topic, wire], _)] = port.nacks
    assert (thread, topic) == ("gilmsg-callbacks", b"org.example.dev.gilmsg.nack")
    assert json.loads(wire)["msg"] == {**body, "reason": "handler"}
    told = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    lines = [*[f"rejected {one['msg_id']}: hot"] * 3, "rejected 2026-of-nobody: cold"]
    assert told == [("gilmsg.receive", "ERROR", line) for line in lines]
    assert acknowledger.counts == {**NOTHING, "handler_failures": 4} and not port.taken


@pytest.mark.parametrize("error", [ListenerError("gone"), ConfigurationError("no key")])
def test_a_nack_that_cannot_leave_harms_nobody(acknowledger, port, written, caplog, monkeypatch, error):
    """It is a diagnosis: nothing is counted, logged or raised."""

    def fail(*_):
        raise error

    monkeypatch.setattr(port, "refuse", fail)
    acknowledger.refuse(received(message(["carol"])), "policy")
    written()
    monkeypatch.setattr(acknowledger, "_port", fail)
    acknowledger.refuse(received(message(["carol"], msg_id=f"2026-{_protocol.checked_origin('00000000')}")), "policy")
    written()
    assert not caplog.records and not port.nacks
    assert acknowledger.counts["acks_failed"] == 0


class Lookups:
    """Host names that resolve when a test says so."""

    def __init__(self):
        self.asked = []

    def ask(self, host):
        self.asked.append(host)


class Subscriber:
    """A socket that notes what it was told."""

    def __init__(self, refuses=""):
        self.told, self._refuses = [], refuses

    def connect(self, where):
        if self._refuses and where.startswith(self._refuses):
            raise zmq.ZMQError(zmq.EINVAL)
        self.told.append("+" + where)

    def disconnect(self, where):
        if "+" + where not in self.told:
            raise zmq.ZMQError(errno.ENOENT)
        self.told.append("-" + where)


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr("gilmsg._engine.connections.time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def connections(*endpoints, refuses=""):
    """The connections of a tail, where names are looked up, and the sockets of *endpoints*."""
    names, several = Lookups(), [Subscriber(refuses) for _ in endpoints]
    return Connections(zip(endpoints, several), names), names, several


def test_connections_are_made_when_addresses_are_known():
    """What is numeric at once, a host when it resolves; its address is kept while it is among the answers, or none is."""
    made, names, [near, one, other] = connections("tcp://*:3001", "tcp://far:3000", "tcp://far:3001")
    assert (names.asked, near.told, one.told) == (["far"], ["+tcp://127.0.0.1:3001"], [])
    made.answer("far", ["10.0.0.1", "10.0.0.2"])
    assert (one.told, other.told) == (["+tcp://10.0.0.1:3000"], ["+tcp://10.0.0.1:3001"])
    for addresses in (["10.0.0.2", "10.0.0.1"], []):
        made.answer("far", addresses)
    assert one.told == ["+tcp://10.0.0.1:3000"]
    made.answer("far", ["10.0.0.3"])
    assert one.told[1:] == ["-tcp://10.0.0.1:3000", "+tcp://10.0.0.3:3000"]


def test_hosts_are_looked_up_again_and_again(clock):
    """One that does not resolve every 5 s, one that did every 30 s: there is no monitor that tells more."""
    made, names, _ = connections("tcp://far:3000", "tcp://lost:3000")
    asked = {"far": [], "lost": []}
    for _ in range(121):
        made.tick(clock.now)
        for host in names.asked:
            asked[host].append(clock.now - 1000.0)
            made.answer(host, ["10.0.0.1"] if host == "far" else [])
        names.asked.clear()
        clock.now += 0.5
    assert asked == {"far": [0.0, 30.0, 60.0], "lost": [5.0 * n for n in range(13)]}


def test_each_host_that_does_not_resolve_is_told_once_a_minute(caplog, written):
    """By its endpoint, on the logger of endpoints; and that it is looked up again."""
    made, _, _ = connections("tcp://far:3000", "tcp://lost:3000")
    for _ in range(5):
        made.answer("far", [])
        made.answer("lost", [])
    written()
    line = "endpoints: the host of 'tcp://{}:3000' does not resolve; it is looked up again"
    told = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [("gilmsg.endpoints", "WARNING", line.format(host)) for host in ("far", "lost")]


def test_what_libzmq_refuses_ends_nothing(caplog, written):
    """It is named in the log, and the others are connected."""
    made, _, [bad, good] = connections("udp://far:1", "tcp://far:3000", refuses="udp://")
    made.answer("far", ["10.0.0.1"])
    made.answer("far", ["10.0.0.2"])
    assert good.told == ["+tcp://10.0.0.1:3000", "-tcp://10.0.0.1:3000", "+tcp://10.0.0.2:3000"]
    written()
    assert not bad.told
    assert "cannot connect to 'udp://far:1'" in caplog.text
