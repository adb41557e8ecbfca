"""GilmsgConsumer in real fedmsg-hub processes, gilmsg-logger through a real relay, and gilmsg-demo."""

import os
import shutil

import fedmsg.encoding
import pytest

import gilmsg

from .conftest import own_config
from .helpers import Hub, Inbox, listening_ports, lost, publish, publish_async, sampled, subscriber
from .processes import module, port_of, wait_for

PATIENT = {"gilmsg.head_start": 20.0, "gilmsg.ack_timeout": 10.0}

ONE_WORKER = {"moksha.workers_per_consumer": 1}


def hub_config(bus, **changes):
    return own_config(bus, name="carol", **{"moksha.workers_per_consumer": 2, **changes})


def has_consumed(hub, count=1):
    wait_for(lambda: len(hub.consumed()) == count, f"{count} are consumed: {hub}")


@pytest.mark.parametrize("blocking", sampled([False, True]))
def test_hub_consumers_acknowledge_before_they_consume(bus, tmp_path, blocking):
    """Two consumers with several workers, or in blocking mode, ACK through one port per process."""
    config = hub_config(bus, **{"second.enabled": True, "moksha.blocking_mode": blocking})
    with Hub(tmp_path / "hub", config, ["First", "Second"]) as hub:
        ids = {publish(["carol"], msg={"n": n}, **own_config(bus, **PATIENT)).msg_id for n in range(5)}
        has_consumed(hub, 10)
        assert {line["msg_id"] for line in hub.consumed()} == ids
        assert {line["who"] for line in hub.consumed()} == {"First", "Second"}
        assert listening_ports(hub.pid) == {port_of(config["endpoints"]["carol"][0])}


def test_the_ack_leaves_just_before_consume(bus, tmp_path):
    """The ACK is out while consume() runs; a message that still waits in the queue has none."""
    with Hub(tmp_path / "hub", hub_config(bus, **ONE_WORKER), ["Patient"]) as hub:
        first = publish(["carol"], **own_config(bus, **PATIENT))
        has_consumed(hub)
        queued = publish_async(["carol"], ack_timeout=60.0)
        lost(["carol"], ack_timeout=0.5)
        assert not queued.done()
        assert [line["msg_id"] for line in hub.consumed()] == [first.msg_id]
        (hub.folder / "go on").touch()
        assert list(queued.result(60).acks) == ["carol"]


def test_unusual_consumers_acknowledge_what_they_received(bus, tmp_path):
    """Without jsonify, with validate() or the hooks overridden, without super, what came is acknowledged if valid."""
    with Hub(tmp_path / "hub", hub_config(bus), ["Raw", "Lax"]) as hub:
        for topic in ("raw", "lax"):
            publish(["carol"], topic=topic, **own_config(bus, **PATIENT))
        has_consumed(hub, 2)
        lost(["carol"], topic="lax", pre_fire_hook=lambda m: m.update(i=77))
        has_consumed(hub, 3)  # its own validate() let that pass


def test_a_disabled_consumer_is_silent(bus, tmp_path):
    """One whose config_key is not set neither consumes nor acknowledges; on a muted hub the others only consume."""
    with Hub(tmp_path / "hub", hub_config(bus, mute=True), ["First", "Second"]) as hub:
        gilmsg.init(**own_config(bus, **{"gilmsg.head_start": 0}))
        wait_for(lambda: lost(["carol"]) and hub.consumed(), "First consumes, once it is connected")
        assert {line["who"] for line in hub.consumed()} == {"First"}
        assert "First will acknowledge nothing: mute is on" in hub.out()


def test_the_monitoring_socket_tells_of_acks(bus, config, tmp_path):
    """acks_sent and acks_failed count what became of the ACKs, last_ack_error says why."""
    keys = tmp_path / "pki"
    shutil.copytree(config["ssldir"], str(keys))
    monitor = bus.ports.endpoint()
    settings = hub_config(bus, ssldir=str(keys), **{"moksha.monitoring.socket": monitor})
    with Hub(tmp_path / "hub", settings, ["First", "Second"]), subscriber(monitor) as reports:

        def told(**fields):
            """Wait until the hub reports that of First; return all that it reports."""
            def found():
                assert reports.poll(20000), "the hub does not report"
                consumers = fedmsg.encoding.loads(reports.recv().decode())["consumers"]
                by_name = {consumer["name"]: consumer for consumer in consumers}
                return fields.items() <= by_name["First"].items() and by_name

            return wait_for(found, f"the hub reports {fields}")

        told(acks_sent=0, acks_failed=0, last_ack_error=None)
        publish(["carol"], **dict(config, **PATIENT))
        publish(["carol"])
        told(acks_sent=2, acks_failed=0, last_ack_error=None)
        bus.authority.issue("carol", days=-1, folder=str(keys))
        sent = 2
        with pytest.raises(gilmsg.Timeout):
            while publish(["carol"], ack_timeout=3.0):  # the hub looks at its files every 0.1 s
                sent += 1
        found = told(acks_sent=sent, acks_failed=1)
        assert "carol.crt" in found["First"]["last_ack_error"] and "expired" in found["First"]["last_ack_error"]
        assert found["First"]["exceptions"] == 0 and found["First"]["initialized"]
        # Registered, but disabled by configuration: moksha does not tell of such a one at all, or as idle.
        assert found.get("Second", {}).get("acks_sent", 0) == 0


def logger(bus, *arguments, text=""):
    return module("gilmsg.commands.logger", *arguments, cwd=bus.directory, text=text, env={"HOME": os.getcwd()})


def test_logger_says_who_is_missing(bus):
    """A Timeout is one line on stderr and exit 1, and does not stop the lines after it."""
    inbox = Inbox(bus, "missed")
    words = ["--topic", "missed", "--recipients", "alice", "nobody"]
    for number, ack_timeout in enumerate(("0.3", "3", "20"), 1):  # on a busy machine alice's ACKs take longer
        done = logger(bus, *words, "--ack-timeout", ack_timeout, text="one\ntwo\n")
        assert done.returncode == 1 and done.stdout == ""
        assert len(done.stderr.splitlines()) == 2
        wait_for(lambda number=number: len(inbox.messages()) == 2 * number, "alice has both")
        if "missing: alice" not in done.stderr:
            break
    assert all("missing: nobody" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("more", [["--no-such-option"], ["--ack-timeout", "0"], ["--cert-prefix", "unknown"]])
def test_logger_refuses_in_one_line(bus, more):
    """Bad usage or configuration: exit 2 and one line on stderr."""
    done = logger(bus, "--recipients", "alice", "--message", "x", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.slow
def test_demo(tmp_path):
    """gilmsg-demo shows the ACKs and the Timeout, ends with 0 and leaves nothing behind."""
    done = module("gilmsg.commands.demo", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ACK after") == 5 and "MISSING" in done.stdout
    assert done.stderr == "" and os.listdir(str(tmp_path)) == []
