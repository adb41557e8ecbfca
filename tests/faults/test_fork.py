"""Fork: parent and child both publish, and neither holds what belongs to the other."""

import signal
import socket

import psutil
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

import gilmsg

from ..conftest import own_config
from ..helpers import Hub, listening_ports, sampled
from ..processes import wait_for
from .children import Child, run


def forking(case, config, cwd, **options):
    """Run a case of forking.py, which is to succeed in silence; return its lines."""
    status, lines, errors = run("forking", case, config, cwd, **options)
    assert (status, errors) == (0, ""), errors
    return lines


@pytest.fixture
def single(bus):
    """A configuration with one port for the publisher."""
    config = own_config(bus)
    del config["endpoints"]["publisher"][1:]
    return config


@pytest.mark.parametrize("case", sampled([
    "os_fork", "sys_exit_in_the_child", "the_childs_child", "before_the_first_publish", "the_child_destroys",
    "in_a_thread", "in_a_callback", "by_multiprocessing", "by_spawn", "by_forkserver",
]))  # fmt: skip
def test_parent_and_child_publish(bus, tmp_path, case):
    """After a fork of that kind parent and child have their messages confirmed, and end with 0."""
    lines = forking(case, own_config(bus), tmp_path)
    assert set(lines) == {"['alice']", "child: ['alice']", "status: 0"}


@pytest.mark.parametrize("case", sampled([
    "over_publish", "over_a_result", "over_a_result_with_a_limit", "over_an_exception",
]))  # fmt: skip
def test_a_child_that_returns_to_a_wait_of_its_parents(bus, tmp_path, case):
    """A handler that forks over a wait for ACKs: the child is told at once that they come to its parent."""
    lines = forking(case, own_config(bus), tmp_path, limit=90)
    assert lines == ["child: True, at once", "status: 0", "parent: True"]


def test_a_child_forked_in_the_midst_of_a_publish(bus, tmp_path):
    """It is told that nothing was sent by it; the parent's message is confirmed."""
    *lines, last = forking("in_a_hook", own_config(bus), tmp_path)
    acks, child = sorted(lines)
    assert (acks, last) == ("['alice']", "status: 0")
    assert child.startswith("child: ") and "nothing was sent in the child" in child


@pytest.mark.slow
def test_with_too_few_ports_the_child_is_told(single, tmp_path):
    """With one declared port the child's publish is a ConfigurationError that names the endpoint."""
    lines = forking("os_fork", single, tmp_path)
    told = next(line for line in lines if line.startswith("child:"))
    assert "EndpointError" in told and single["endpoints"]["publisher"][0] in told and "'publisher'" in told
    assert issubclass(gilmsg.EndpointError, gilmsg.ConfigurationError)
    assert "['alice']" in lines


@pytest.mark.slow
def test_a_living_child_does_not_hold_the_port(single, tmp_path):
    """While a child lives, the parent destroys and publishes again by its single port."""
    lines = forking("a_child_lives", single, tmp_path)
    assert lines.count("['alice']") == 3 and "holds []" in lines


@pytest.mark.slow
def test_a_living_child_does_not_hide_the_parents_end(single, tmp_path):
    """Peers without heartbeats see a killed parent go at once, though its child lives on."""
    with zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.subscribe(b"")
        monitor = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        plain.connect(single["endpoints"]["publisher"][0])
        with Child("forking", "a_child_outlives_its_parent", dict(single, post_init_sleep=0), tmp_path) as child:
            child.wait_for("there", "holds []")
            assert event(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
            pid = int(next(line for line in child.lines if line.startswith("child is")).split()[2])
            child.send(signal.SIGKILL)
            child.end()
            assert event(monitor) == zmq.EVENT_DISCONNECTED
            # Nor does the child hold the way back, to those who acknowledge.
            assert not psutil.Process(pid).net_connections("tcp")
        plain.disable_monitor()


def event(monitor):
    assert monitor.poll(10000)
    return recv_monitor_message(monitor)["event"]


@pytest.mark.slow
def test_what_is_the_users_stays_open(single, tmp_path):
    """A child keeps the user's own sockets: on the same port by IPv6, on others, and to others."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    assert "child: b'x'" in forking("the_users_own_sockets", single, tmp_path)


@pytest.mark.slow
def test_what_is_outstanding_is_the_parents(bus, tmp_path):
    """A child that asks for the outcome of its parent's message is told at once; the parent gets it."""
    bus.slow("alice", 5.0)
    first, *lines = forking("outstanding", own_config(bus), tmp_path)
    assert first.startswith("child: ListenerError") and "before it forked" in first
    assert lines == ["status: 0", "['alice']", "child: ['alice']", "status: 0"]


@pytest.mark.slow
def test_exec_inherits_nothing(bus, tmp_path):
    """A program started after a publish, even with close_fds off, has none of our descriptors."""
    assert forking("programs", own_config(bus), tmp_path) == ["clean", "clean"]


@pytest.mark.slow
def test_a_child_of_a_tail_is_refused_and_harmless(bus, tmp_path):
    """A child cannot read its parent's tail, may open its own; the parent's goes on."""
    config = own_config(bus, name="carol")
    config["endpoints"]["carol"] = [bus.ports.endpoint(), bus.ports.endpoint()]
    with Child("forking", "a_tail", config, tmp_path) as child:
        child.wait_for("there")
        before = own_config(bus, **{"gilmsg.head_start": 20.0})
        before["endpoints"]["carol"] = config["endpoints"]["carol"]
        assert gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=10, **before).acks
        assert child.end() == 0 and child.err() == ""
    assert child.lines[0].startswith("refused: this tail_messages() belongs to process")
    assert child.lines[1:] == ["child: done", "status: 0", "there", "org.example.dev.tests.t"]


@pytest.mark.slow
def test_a_child_of_a_hub_publishes(bus, tmp_path):
    """consume() may fork a process that publishes by a port of its own; the hub goes on."""
    config = own_config(bus, name="carol")
    config["endpoints"]["forked"] = [config["endpoints"]["publisher"][-1]]
    config["certnames"]["forked"] = "publisher"
    with Hub(tmp_path / "hub", config, ["Forking"], "tests.faults.forking_hub") as hub:
        for number in (1, 2):
            gilmsg.publish(
                topic="t", msg={}, recipients=["carol"], ack_timeout=10.0,
                **own_config(bus, **{"gilmsg.head_start": 20.0})
            )
            wait_for(lambda number=number: len(hub.consumed()) == number, "it consumed")
        assert [line["who"] for line in hub.consumed()] == ["0", "0"]
        assert len(listening_ports(hub.pid)) == 1
