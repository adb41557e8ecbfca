"""Connections, host names, open files, and what a forked child closes."""

from __future__ import annotations

import collections
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import psutil
import pytest

from gilmsg import _engine
from gilmsg._engine import connections, descriptors, loop, sockets, waiting
from gilmsg._engine.sockets import Names
from gilmsg._engine.waiting import CallbackFuture, Worker, futures

from .. import inside
from ..processes import environment
from .conftest import ACKS, LIMIT, Bus, until


def _require_delivery(bus: Bus, port: _engine.Port) -> None:
    """A message that is published by *port*, which was heard, reaches the recipient, whose ACK comes back."""
    bus.recipient.announce()
    message = bus.message(port, "1")
    port.publish(message)
    assert bus.recipient.received() == "1"
    bus.recipient.acknowledge("1", message.digest)
    assert port.result_of(message.outcome, LIMIT).msg_id == "1"


def test_a_connection_that_libzmq_gave_up_is_made_anew(bus: Bus) -> None:
    """After a frame that is too large, which ends the connection for good, the listener hears the next ACK."""
    port = bus.port()
    bus.recipient.heard(port.origin)
    bus.recipient.pub.send_multipart([ACKS.encode(), b"x" * 2_000_000])
    bus.recipient.heard(port.origin)
    _require_delivery(bus, port)


class Resolver:
    """A name server: host -> addresses; slow where it is told to be."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}
        self.release = threading.Event()
        self.slow: set[str] = set()
        #: Those of the slow ones that were answered.
        self.answered: set[str] = set()

    def __call__(self, host: str, *_: object) -> list[tuple[object, ...]]:
        if host in self.slow:
            self.release.wait(2 * LIMIT)
            self.answered.add(host)
        if host not in self.known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(None, None, None, None, (one, 0)) for one in self.known[host]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """A name server in the place of the system's."""
    resolver = Resolver()
    monkeypatch.setattr(sockets, "_socket", type("Fake", (), {"getaddrinfo": resolver, "AF_INET": 2, "SOCK_STREAM": 1}))
    monkeypatch.setattr(connections, "_LOOK_UP_AGAIN", 0.1)
    yield resolver
    resolver.release.set()
    _engine.destroy()  # while nobody asks the system's, which may take long
    until(lambda: "gilmsg-names" not in [one.name for one in threading.enumerate()], "no name is looked up any more")


def test_a_host_that_resolves_later_is_found(bus: Bus, resolver: Resolver) -> None:
    """A name that does not resolve at first is looked up again, and meanwhile the diagnosis says so."""
    bus.book.publishing["backend01"] = [bus.theirs.replace("127.0.0.1", "backend01.example")]
    port = bus.port()
    way = port.way("a")
    assert port.look(lambda: way.unresolved("backend01"))
    resolver.known["backend01.example"] = ["127.0.0.1"]
    bus.recipient.heard(port.origin)
    until(lambda: port.look(lambda: way.linked("backend01")), "the link")
    assert not port.look(lambda: way.unresolved("backend01"))


def test_a_slow_name_holds_up_nobody(bus: Bus, resolver: Resolver) -> None:
    """A foreign host that takes seconds to resolve delays neither the engine nor the other connections."""
    resolver.slow.add("slow.example")
    bus.book.publishing["other"] = ["tcp://slow.example:3000"]
    port = bus.port()
    bus.recipient.heard(port.origin)
    assert not resolver.answered


def test_an_address_that_changed_is_connected_to(bus: Bus, resolver: Resolver) -> None:
    """Where a host is down and resolves to another address, the listener connects there."""
    resolver.known["moves.example"] = ["127.0.0.9"]
    bus.book.publishing["backend01"] = [bus.theirs.replace("127.0.0.1", "moves.example")]
    port = bus.port()
    until(lambda: not port.look(lambda: port.way("a").unresolved("backend01")), "the first answer")
    resolver.known["moves.example"] = ["127.0.0.1"]
    bus.recipient.heard(port.origin)


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("127.0.0.1", "127.0.0.1"), ("127.0.1.1", "127.0.1.1"), ("localhost", "127.0.0.1"), ("*", "*"),
        ("0.0.0.0", "*"), ("192.0.2.1", "*"), ("127.0.0.1.example.com", "*"), ("localhost.example.com", "*"),
        (socket.gethostname(), "*"),
    ],
)  # fmt: skip
def test_what_is_declared_on_loopback_listens_there_only(host: str, where: str) -> None:
    """A host that is literally of 127.0.0.0/8, or ``localhost``; no name is looked up for that."""
    assert sockets.interface(f"tcp://{host}:3000") == where


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "localhost", "no-such-host.invalid"])
def test_a_port_is_bound_where_its_endpoint_says(bus: Bus, host: str) -> None:
    """A process of another host cannot connect to one on loopback; the port is taken all the same."""
    bus.address = bus.address._replace(endpoints=(bus.ours.replace("127.0.0.1", host),))
    port = bus.port()
    number = sockets.port(port.endpoint)
    ours = [one for one in psutil.Process().net_connections("tcp") if one.laddr.port == number]
    # The recipient's SUB socket may have been accepted there already, by 127.0.0.1.
    seen = {one.laddr.ip for one in ours if one.status == psutil.CONN_LISTEN}
    assert seen == {"0.0.0.0" if host.startswith("no-") else sockets.interface(port.endpoint)}


def test_sockets_of_the_program_are_not_touched() -> None:
    """With a default timeout set, a look at the open files leaves the program's sockets blocking."""
    left, right = socket.socketpair()
    server = socket.create_server(("127.0.0.1", 0))
    socket.setdefaulttimeout(30)
    try:
        assert server.getsockname()[1] in descriptors.listening_ports()
        descriptors.claim(server, 1)
        assert all(os.get_blocking(one.fileno()) for one in (left, right, server))
    finally:
        socket.setdefaulttimeout(None)
        for one in (left, right, server):
            one.close()


def test_a_fork_where_the_program_has_its_own_idea_of_sockets(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a default timeout and another class in the place of socket.socket, a child still gives up our port only."""
    left, right = socket.socketpair()
    bus.port()
    ours = sockets.port(bus.ours)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", lambda *_, **__: 1 // 0)
        socket.setdefaulttimeout(30)
        try:
            pid = os.fork()
            if pid == 0:
                blocking = os.get_blocking(left.fileno()) and os.get_blocking(right.fileno())
                os._exit(0 if blocking and ours not in descriptors.listening_ports() else 1)
        finally:
            socket.setdefaulttimeout(None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.get_blocking(left.fileno())
    assert ours in descriptors.listening_ports()
    left.close()
    right.close()


def test_a_system_that_does_not_list_open_files(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc and no /dev/fd, as in a chroot, nothing is found, and nothing is said."""
    monkeypatch.setattr(descriptors, "_folder", lambda: "/no/such/folder")
    descriptors.claim(bus, 1)
    descriptors.close_inherited(None)
    assert descriptors.listening_ports() == set()
    assert bus.port().alive


def test_a_blocked_callback_delays_no_future(bus: Bus) -> None:
    """A callback may wait for another future: futures are settled on a thread of their own."""
    first, second = CallbackFuture(), CallbackFuture()
    seen: Future[str] = Future()
    first.add_done_callback(lambda _: seen.set_result(second.result(LIMIT)))
    futures.run(lambda: first.settle("1", None))
    futures.run(lambda: second.settle("2", None))
    assert seen.result(LIMIT) == "2"


def test_a_rate_limited_log_counts_what_it_leaves_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line in an interval; the next one says how many were left out. (By a clock of numbers.)"""
    log = _engine.RateLimitedLog(logging.getLogger("gilmsg.test"), interval=0.5)
    with monkeypatch.context() as patch:
        for now in (100.0, 100.25, 100.25, 100.5, 100.75, 101.0, 101.5):
            patch.setattr(waiting, "time", types.SimpleNamespace(monotonic=lambda now=now: now, sleep=time.sleep))
            log.warning("dropped %s", "it")
    inside.callbacks_done()
    more = ["", " (and 2 more like it in the meantime)", " (and 1 more like it in the meantime)", ""]
    assert [record.getMessage() for record in caplog.records] == [f"dropped it{one}" for one in more]


def test_two_threads_may_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A future is settled between two steps of another thread that settles one, too: both come to their end."""
    one, other = CallbackFuture(), CallbackFuture()

    class Ended(collections.deque[Any]):
        def append(self, end: Any) -> None:
            super().append(end)
            if end[0] is one:
                other.settle("other", None)

    monkeypatch.setattr(waiting, "_ended", Ended())
    one.settle("one", None)
    assert [one.result(LIMIT), other.result(LIMIT)] == ["one", "other"]


def test_log_lines_are_written_before_the_interpreter_ends() -> None:
    """What the threads of futures and callbacks have in hand when the program ends is not lost."""
    command = [sys.executable, "-m", "tests.engine.last_words"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert ended.stderr == "the last word\n"


def test_listeners_that_come_and_go_leave_no_look_ups_behind() -> None:
    """Connections that share their names hear each other's answers: each plans one look-up of a host all the same."""
    asked: list[str] = []
    names = Names(lambda: None)
    names.ask = asked.append  # type: ignore[method-assign]
    one = connections.Connections([("tcp://nohost.invalid:3000", None)], names)  # type: ignore[list-item]
    for _ in range(5):
        one.answer("nohost.invalid", [])
    assert len(one._look_ups) == 1
    one.tick(time.monotonic() + 60.0)
    assert len(asked) == 2
    assert not one._look_ups


def test_a_look_up_that_gets_no_thread_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can start, the host does not resolve, and whoever waits is told."""
    told: list[bool] = []
    names = Names(lambda: told.append(True))

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    names.ask("a.invalid")
    assert list(names.answers()) == [("a.invalid", [])]
    assert told


def test_an_alias_that_moves_takes_no_other_name_along(bus: Bus, resolver: Resolver) -> None:
    """Two names of one host: when one of them resolves to another address, the listener still hears the other."""
    host, alias = (bus.theirs.replace("127.0.0.1", name) for name in ("host.example", "alias.example"))
    resolver.known.update({"host.example": ["127.0.0.1"], "alias.example": ["127.0.0.1"]})
    bus.book.publishing = {"backend01": [host], "other": [alias]}
    port = bus.port()
    bus.recipient.heard(port.origin)
    ear = port._ear
    assert ear is not None
    until(lambda: port.look(lambda: ear.connections.links.up(host) and ear.connections.links.up(alias)), "both")
    resolver.known["alias.example"] = ["127.0.0.9"]

    def moved() -> tuple[bool, bool]:  # at once: an earlier look-up may still be answered
        ear.connections.answer("alias.example", ["127.0.0.9"])
        return ear.connections.links.up(host), ear.connections.links.up(alias)

    assert port.look(moved) == (True, False)
    _require_delivery(bus, port)


def test_a_start_that_is_interrupted_makes_no_second_thread(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler raises just when a thread has started: a worker keeps it, an engine that nobody knows ends."""
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        raise KeyboardInterrupt

    worker, jobs_done = Worker("gilmsg-test"), list[int]()
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.require()
    with monkeypatch.context() as patch:
        begin = loop.Engine.start
        patch.setattr(threading.Thread, "start", start)
        patch.setattr(loop.Engine, "start", lambda self: (begin(self), (_ for _ in ()).throw(KeyboardInterrupt)))
        with pytest.raises(KeyboardInterrupt):
            bus.port()
    monkeypatch.undo()
    worker.run(lambda: jobs_done.append(1))
    until(lambda: jobs_done, "the job")
    assert [one.name for one in threading.enumerate()].count("gilmsg-test") == 1
    until(lambda: "gilmsg-engine" not in [one.name for one in threading.enumerate()], "the engine ends")
    jobs = worker._jobs
    worker.forget()
    jobs.put(lambda: None)


def test_a_last_job_that_is_done_at_once_makes_no_second_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that forgets its thread by a job may have done so before whoever gave it that job goes on."""

    class Done(waiting.greenlets.SimpleQueue):  # type: ignore[misc]
        """A queue whose put returns when the last job is done, and its thread has ended."""

        def put(self, job: waiting.Job) -> None:
            super().put(job)
            if job == worker.forget:
                thread.join(LIMIT)

    worker = Worker("gilmsg-test")
    worker._jobs = Done()
    worker.run(lambda: None)
    thread = next(one for one in threading.enumerate() if one.name == "gilmsg-test")
    worker.run(worker.forget)
    assert "gilmsg-test" not in [one.name for one in threading.enumerate()]
