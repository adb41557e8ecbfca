"""The room _check, without an engine: how long it looks, what it makes of a look, and how it says so."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import types

import pytest

from gilmsg import _check, _protocol, _settings
from gilmsg._check import RELAY, Line, Report, Seen, ourselves
from gilmsg._engine import Address
from gilmsg.commands.check import STATUS
from gilmsg.errors import ConfigurationError, EndpointError, ListenerError, Reason

TOPIC = "org.example.dev.tests.hello"


DIRECT, RELAYED = Address("us", ("tcp://127.0.0.1:3000",), False), Address("relay_inbound", ("tcp://127.0.0.1:3000",), True)


class Port:
    """Stands for the engine's: *peers* and *links* (name -> bool) are what it sees; *ends* after so many looks."""

    endpoint = "tcp://127.0.0.1:3000"

    def __init__(self, peers=None, links=(), address=DIRECT, ends=None):
        self.peers, self.links, self.address, self.ends = peers or _protocol.Peers(), dict(links), address, ends
        self.born, self.looks, self.closed = time.monotonic(), 0, False

    def way(self, topic, told):
        via_relay, links = bool(self.address and self.address.active), self.links.get
        return _protocol.Way(
            topic, self.endpoint, via_relay, "p.e.gilmsg.ack", self.peers, links, lambda name: (), told=told
        )

    def look(self, job):
        self.looks += 1
        if self.looks == self.ends:
            raise ListenerError("the publisher is closed")
        return job()

    def close(self):
        self.closed = True


def listening(*names):
    """Peers among whom *names* listen to TOPIC."""
    peers = _protocol.Peers()
    for name in names:
        peers.note(b"\x01" + _protocol.announcement(TOPIC, name))
        peers.note(b"\x01" + TOPIC.encode())
    return peers


@pytest.mark.parametrize(
    ("sight", "code", "arrived"),
    [
        ((Reason("it is away", "gone", False), True), "gone", False), ((None, False), "unreachable", True),
        ((Reason("it is away", "gone", True), False), "gone", True), ((None, True), None, None), (None, None, None),
    ],
)  # fmt: skip
def test_the_reasons_of_those_that_would_be_missing(monkeypatch, sight, code, arrived):
    """As plain data they are what a Timeout's would be in the log; where nothing was seen there is none."""
    monkeypatch.setattr(_check, "_why_not", lambda endpoint: "why")
    seen = _check._seen({} if sight is None else {"known": sight}, [["known"]], Book(), {}, None)
    answer = json.loads(json.dumps(_check.Report([], seen, [["known"]]).as_dict()))
    text = answer["recipients"]["known"]["detail"]
    assert answer["reasons"] == ({"known": {"code": code, "may_have_arrived": arrived, "text": text}} if code else {})


@pytest.mark.parametrize(
    ("port", "groups", "there"),
    [
        (Port(listening("a")), [["a"]], True),
        (Port(listening("a"), {"a": True}), [["a"]], True),
        (Port(listening("a")), [["a", "b"]], True),
        (Port(), [], True),
        (Port(links={"a": True}, address=None), [["a"]], True),
        (Port(listening("x"), address=RELAYED), [["a"], [RELAY]], True),
        (Port(), [["a"]], False),
        (Port(listening("a"), {"a": False}), [["a"]], False),
        (Port(links={"a": False}, address=None), [["a"]], False),
        (Port(address=RELAYED), [[RELAY]], False),
    ],
)
def test_those_who_are_there_are_not_waited_for(monkeypatch, port, groups, there):
    """One look is enough where each entry has a member that is there; else it ends as a publish would wait no more."""
    now, naps = 1000.0, []
    clock = types.SimpleNamespace(monotonic=lambda: now + sum(naps), sleep=naps.append)
    monkeypatch.setattr(_check, "time", clock)
    port.born = now if port.address else 0.0  # without a publisher the time counts from now
    _check._sights(port, port.way(TOPIC, repr(TOPIC)), groups, 3600.0 if there else 0.1)
    assert port.looks == len(naps) + 1
    assert naps == [] if there else 0.1 <= sum(naps) < 0.15


BLIND = "whether it listens cannot be seen: we have no publisher (endpoint); "


class Book:
    """An address book with one known recipient, and a relay; *publishing* are the names in endpoints."""

    def __init__(self, *publishing):
        self.publishing = dict.fromkeys(publishing)

    def of(self, common_name, via_relay):
        return ["tcp://127.0.0.1:1"] if common_name == "known" or via_relay else []


UNMAPPED = "its endpoints are unknown: certnames has no entry that leads to 'other' and to an entry of endpoints"
RELAYS = _protocol.BEHIND_RELAY + "; "


@pytest.mark.parametrize(
    ("name", "sight", "via_relay", "state", "expected"),
    [
        ("known", (None, True), False, "ok", "listening to us; reachable for its ACK"),
        ("known", (None, True), True, "unknown", RELAYS + "reachable for its ACK"),
        ("known", ("it is away", True), False, "fail", "it is away; reachable for its ACK"),
        ("known", ("it is away", True), True, "fail", "it is away; reachable for its ACK"),
        ("known", (None, False), False, "fail", "listening to us; not reachable for its ACK: tcp://127.0.0.1:1 why"),
        ("known", None, False, "fail", BLIND + "not reachable for its ACK: tcp://127.0.0.1:1 why"),
        ("known", (_check._BLIND, True), False, "unknown", BLIND + "reachable for its ACK"),
        ("other", None, False, "unknown", BLIND + UNMAPPED),
        ("other", (None, None), False, "unknown", "listening to us; " + UNMAPPED),
        ("other", ("it is away", None), False, "fail", "it is away; " + UNMAPPED),
        ("other", (None, True), True, "unknown", RELAYS + UNMAPPED + "; through the relay: reachable for its ACK"),
    ],
)  # fmt: skip
def test_the_sentences(monkeypatch, name, sight, via_relay, state, expected):
    """First whether it gets what we publish, then whether we get its ACK; what cannot be seen is unknown."""
    monkeypatch.setattr(_check, "_why_not", lambda endpoint: "why")
    found = {} if sight is None else {name: sight}
    seen = _check._seen(found, [[name]], Book("us", "known"), {"name": "us", "active": via_relay}, None)[name]
    assert seen.detail == expected
    assert seen.listening is expected.startswith(("listening", "the relay"))
    assert (seen.state, seen.ok) == (state, state == "ok")


def test_where_nobody_else_is_known(monkeypatch):
    """No ACK can come where endpoints has no entry but our own."""
    seen = _check._seen({"other": (None, None)}, [["other"]], Book("us"), {"name": "us"}, None)["other"]
    assert seen.state == "fail" and seen.detail.endswith("; no ACK can come, for endpoints has no entry but our own")


def seen(state):
    return Seen([], None, True, state, "x")


@pytest.mark.parametrize(
    ("lines", "groups", "state", "failures", "unknowns"),
    [
        ([], [], "ok", [], []),
        (["ok", "warning"], [["ok"]], "warning", [], []),
        (["unknown", "warning"], [["ok"]], "unknown", [], ["unknown"]),
        (["unknown", "fail"], [["unknown"]], "fail", ["fail"], ["unknown", "unknown"]),
        ([], [["fail", "ok"]], "ok", [], []),
        ([], [["fail", "unknown"]], "unknown", [], ["unknown"]),
        ([], [["unknown", "ok"]], "ok", [], []),
        ([], [["unknown", "ok"], ["unknown"]], "unknown", [], ["unknown"]),
        ([], [["fail"], ["unknown", "ok"]], "fail", ["fail"], []),
    ],
)
def test_the_worst_counts_and_of_a_group_the_best(lines, groups, state, failures, unknowns):
    """From the states of lines and recipients, named after theirs, to all that the report says."""
    every = {name: seen(name) for group in groups for name in group}
    report = Report([Line(name, name, "x") for name in lines], every, groups)
    assert (report.state, report.ok, bool(report)) == (state, *[state in ("ok", "warning")] * 2)
    assert [one.partition(":")[0] for one in report.failures()] == failures
    assert [one.partition(":")[0] for one in report.unknowns()] == unknowns
    assert STATUS[state] == {"ok": 0, "warning": 0, "unknown": 3, "fail": 1}[state]
    plain = report.as_dict()
    assert (plain["ok"], plain["state"]) == (report.ok, state)
    assert all(one["ok"] is (one["state"] in ("ok", "warning")) for one in [*plain["self"], *plain["recipients"].values()])
    shown = [line.split()[:2] for line in str(report).splitlines() if line.startswith("  ")]
    assert shown[: len(lines)] == [["FAIL" if name == "fail" else name, name] for name in lines]
    marks = {name: mark for mark, name in shown[len(lines) :]}
    assert all(marks[name] == {"fail": "FAIL"}.get(name, name) for name in [*report.missing, *({"ok"} & set(marks))])
    assert all(marks[name] == "-" for name in {"fail", "unknown"} & set(every) - set(report.missing))


def test_why_an_endpoint_cannot_be_reached(monkeypatch):
    """Told apart: a name that does not resolve, silence, a refusal, a port that is none, and one without ZeroMQ."""
    monkeypatch.setattr(_check, "_PROBE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        refusing, open_port = bound.getsockname()[1], mute.getsockname()[1]
        assert _check._why_not("tcp://no-such-host.invalid:1") == "has a host that does not resolve"
        assert "refused" in _check._why_not(f"tcp://127.0.0.1:{refusing}")
        assert "cannot be connected to" in _check._why_not("tcp://127.0.0.1:http")
        assert _check._why_not(f"tcp://*:{open_port}") is None
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # fills the queue of length 0
            assert _check._why_not(f"tcp://127.0.0.1:{port}") == "does not answer"


BUS = {"topic_prefix": "p", "environment": "e", "endpoints": {"us": ["tcp://127.0.0.1:3000"]}, "name": "us"}


@pytest.mark.parametrize(
    ("publisher", "listener", "config", "expected"),
    [
        (None, None, BUS, {}),
        (ConfigurationError("x"), None, BUS, {"endpoint": "x"}),
        (EndpointError("x"), None, BUS, {"endpoint": "x"}),
        (None, ListenerError("x"), BUS, {"listener": "cannot listen for ACKs: x"}),
        (ListenerError("x"), ListenerError("y"), BUS, {"endpoint": "x", "listener": "cannot listen for ACKs: y"}),
        (None, None, {**BUS, "mute": True}, {"endpoint": "mute is True: this context cannot publish"}),
    ],
)
def test_what_can_be_opened_is(monkeypatch, publisher, listener, config, expected):
    """Publisher and listener fail each for itself; what is open is returned as one port, all else is given back."""
    ports = []

    def opened(address, book, config):
        error = publisher if book is None else listener
        if error is not None:
            raise error
        ports.append(Port(address=address))
        ports[-1].shared = ports[-1].shared_listener = False
        return ports[-1]

    monkeypatch.setattr(ourselves._engine, "publisher", opened)
    lines, handles = [], contextlib.ExitStack()
    port = ourselves.opened(config, _settings.AddressBook(config), lines, handles)
    assert {line.check: line.detail for line in lines if not line.ok} == expected
    assert port is (ports[-1] if ports else None)
    handles.close()
    assert all(one.closed for one in ports)
    assert (port is not None and port.address is not None) is ("endpoint" not in expected)


OPEN, SHUT = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"
TAKEN = EndpointError(os.strerror(errno.EADDRINUSE))


@pytest.mark.parametrize(
    ("changes", "topic", "held", "expected"),
    [
        ({}, None, None, {"endpoint": "ok", "acks": "ok", "publishers": "ok"}),
        ({}, "p.e.a", None, {"endpoint": "ok", "acks": "ok", "publishers": "ok"}),
        ({}, "p.*", None, {"endpoint": "ok", "acks": "ok", "publishers": "ok"}),
        ({}, "p.x.a", None, {"topic": "fail", "endpoint": "ok", "publishers": "ok"}),
        ({}, None, TAKEN, {"endpoint": "unknown", "acks": "ok", "publishers": "ok"}),
        ({}, None, EndpointError("x"), {"endpoint": "fail", "publishers": "ok"}),
        ({"mute": True}, None, None, {"endpoint": "fail", "publishers": "ok"}),
        ({"sign_messages": False}, None, None, {"endpoint": "ok", "acks": "fail", "publishers": "ok"}),
        ({"endpoints": {"us": [OPEN]}}, None, None, {"endpoint": "ok", "acks": "ok", "publishers": "fail"}),
        ({"endpoints": {"us": [OPEN], "x": [OPEN, SHUT]}}, None, None, {"endpoint": "ok", "acks": "ok", "publishers": "warning"}),
        ({"endpoints": {"us": [OPEN], "x": [SHUT]}}, None, None, {"endpoint": "ok", "acks": "ok", "publishers": "unknown"}),
    ],
)  # fmt: skip
def test_what_is_said_of_a_consumer(monkeypatch, changes, topic, held, expected):
    """Its port, which it may well hold itself; as whom it acknowledges, where nothing is wrong; who publishes."""

    def opened(address, book, config):
        if held is not None:
            raise held
        port = Port(address=address)
        port.shared = False
        return port

    monkeypatch.setattr(ourselves._engine, "publisher", opened)
    monkeypatch.setattr(_check._trust, "signer", lambda config, certname: types.SimpleNamespace(common_name=certname))
    monkeypatch.setattr(_check, "_why_not", {SHUT: "is shut"}.get)
    config = {**BUS, "sign_messages": True, "certnames": {"us": "me"}, "endpoints": {"us": [OPEN], "x": [OPEN]}, **changes}
    lines = []
    _check._consuming(topic, config, lines)
    assert {line.check: line.state for line in lines} == expected
    if expected.get("acks") == "ok":
        assert " as me from " + ("one of these ports" if held else Port.endpoint) in lines[1].detail


def test_who_holds_our_ports(monkeypatch):
    """This process, or others, with the endpoints; where not all are taken, the reason as it was."""
    taken = f"tcp://a:1 ({os.strerror(errno.EADDRINUSE)})"
    with socket.create_server(("", 0)) as ours:
        here = Address("us", (f"tcp://a:{ours.getsockname()[1]}",), False)
        line = ourselves._not_bound(here, taken, consumes=True)
    words = "this process itself holds, by a publisher that is not this one, all our declared ports"
    assert line.state == "fail" and line.detail.startswith(words)
    both = Address("us", (*here.endpoints, "tcp://a:2"), False)
    assert ourselves._not_bound(both, taken, consumes=True) == ("endpoint", "fail", taken)
    monkeypatch.setattr(ourselves._engine, "listening_process", {2: 17}.get)
    for consumes, state in ((False, "fail"), (True, "unknown")):
        line = ourselves._not_bound(both, taken + taken, consumes)
        assert line.state == state and line.detail.startswith("another process holds all our declared ports")
        assert ", tcp://a:2 (process 17);" in line.detail


def test_the_engine_ends_meanwhile(monkeypatch):
    """That is a line; of the recipients nothing is said but that nothing is seen."""
    port, config = Port(ends=2), {**BUS, "gilmsg.head_start": 3600.0}
    monkeypatch.setattr(ourselves, "opened", lambda config, book, lines, handles: port)
    lines = []
    seen = _check._publishing(contextlib.ExitStack(), [["a"]], TOPIC, config, lines, None)
    assert lines[-1].detail.startswith("it ended during this check") and lines[-1].state == "fail"
    assert seen["a"].detail.startswith(BLIND)
