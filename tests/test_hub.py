"""GilmsgConsumer in real fedmsg-hub processes, and gilmsg-logger through a real relay."""

import os
import subprocess
import sys

import pytest

import gilmsg
from gilmsg import _process

from .conftest import own_config
from .helpers import Hub, listening_ports


def hub_config(bus, **changes):
    return own_config(bus, name="carol", **dict({"moksha.workers_per_consumer": 2}, **changes))


PATIENT = {"gilmsg.head_start": 20.0}


@pytest.mark.parametrize("blocking", [False, True])
def test_hub_consumers_acknowledge_before_they_consume(bus, tmp_path, blocking):
    """Two consumers with several workers, or in blocking mode, ACK through one port per process."""
    config = hub_config(bus, **{"second.enabled": True, "moksha.blocking_mode": blocking})
    with Hub(tmp_path / "hub", config, ["First", "Second"]) as hub:
        ids = {
            gilmsg.publish(
                topic="t", msg={"n": n}, recipients=["carol"], ack_timeout=5.0,
                **own_config(bus, **PATIENT)
            ).msg_id
            for n in range(5)
        }
        _process.wait_for(lambda: len(hub.consumed()) == 10, "both consumed all: %s" % hub.consumed())
        assert {line["msg_id"] for line in hub.consumed()} == ids
        assert {line["who"] for line in hub.consumed()} == {"First", "Second"}
        carol = int(config["endpoints"]["carol"][0].rpartition(":")[2])
        assert listening_ports(hub.process.pid) == {carol}


def test_a_consumer_that_overrides_the_hooks_still_acknowledges(bus, tmp_path):
    """pre_consume and post_consume without super, and a message changed there, do not matter."""
    with Hub(tmp_path / "hub", hub_config(bus), ["Selfish"]) as hub:
        receipt = gilmsg.publish(
            topic="t", msg={"a": 1}, recipients=["carol"], ack_timeout=5.0, **own_config(bus, **PATIENT)
        )
        _process.wait_for(hub.consumed, "it consumed")
        assert hub.consumed()[0]["body"]["a"] == 1
        assert hub.consumed()[0]["msg_id"] == receipt.msg_id


def test_a_disabled_consumer_is_silent(bus, tmp_path):
    """A consumer whose config_key is not set neither consumes nor acknowledges."""
    with Hub(tmp_path / "hub", hub_config(bus), ["Second"]):
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(topic="t", msg={}, recipients=["carol"], **own_config(bus))


def logger(bus, *arguments, text=""):
    return subprocess.run(
        [sys.executable, "-m", "gilmsg.commands.logger"] + list(arguments),
        cwd=bus.directory,
        env=_process.environment({"HOME": os.getcwd()}),
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=60,
    )


def test_logger_is_silent_on_success(bus):
    """Each line is a message, confirmed through the relay: exit 0 and no output."""
    before = len(bus.received("alice"))
    done = logger(bus, "--recipients", "alice", "bob", "--ack-timeout", "3", text="testing\nmore\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    logs = [message["msg"]["log"] for message in bus.received("alice")[before:]]
    assert logs == ["testing", "more"]


def test_logger_says_who_is_missing(bus):
    """A Timeout is one line on stderr and exit 1, and does not stop the lines after it."""
    before = len(bus.received("alice"))
    done = logger(bus, "--recipients", "alice", "nobody", "--ack-timeout", "0.3", text="one\ntwo\n")
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert all("missing: nobody" in line for line in done.stderr.splitlines())
    assert len(bus.received("alice")) == before + 2


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--no-such-option"], ""),
        (["--recipients", "", "--message", "x"], ""),
        (["--recipients", "alice", "--ack-timeout", "0", "--message", "x"], ""),
        (["--recipients", "alice", "--json-input", "--message", "{'a': 1}"], ""),
        (["--recipients", "alice", "--json-input"], "{rubbish\n"),
        (["--recipients", "alice", "--cert-prefix", "unknown", "--message", "x"], ""),
    ],
)
def test_logger_refuses_in_one_line(bus, arguments, text):
    """Bad usage, input or configuration: exit 2 and one line on stderr."""
    done = logger(bus, *arguments, text=text)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_logger_without_recipients_warns(bus):
    """Without recipients it publishes, warns on stderr, and ends with 0."""
    done = logger(bus, "--message", "x")
    assert done.returncode == 0 and "no recipients" in done.stderr


def test_logger_takes_json(bus):
    """--json-input reads one document; where it is none, each line is one."""
    before = len(bus.received("alice"))
    one = logger(bus, "--json-input", "--recipients", "alice", text='{"a":\n1}\n')
    many = logger(bus, "--json-input", "--recipients", "alice", "--verbose", text='{"a": 2}\n{"a": 3}\n')
    assert one.returncode == many.returncode == 0, one.stderr + many.stderr
    assert len(many.stdout.splitlines()) == 2
    assert [m["msg"]["a"] for m in bus.received("alice")[before:]] == [1, 2, 3]


def test_logger_without_a_relay_times_out(bus, tmp_path):
    """A relay that is not running is a Timeout that says so, not a hang."""
    (tmp_path / "fedmsg.d").mkdir()
    config = own_config(bus, relay_inbound=bus.ports.endpoint())
    (tmp_path / "fedmsg.d" / "x.py").write_text("config = %r" % config)
    code = _process.environment()
    done = subprocess.run(
        [sys.executable, "-m", "gilmsg.commands.logger", "--recipients", "alice", "--message", "x"],
        cwd=str(tmp_path), env=code, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
    )
    assert done.returncode == 1 and "relay" in done.stderr


def test_demo(tmp_path):
    """gilmsg-demo shows the ACKs and the Timeout, ends with 0 and leaves nothing behind."""
    done = subprocess.run(
        [sys.executable, "-m", "gilmsg.commands.demo"],
        cwd=str(tmp_path), env=_process.environment({"TMPDIR": str(tmp_path)}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ACK after") == 5 and "MISSING" in done.stdout
    assert done.stderr == "" and os.listdir(str(tmp_path)) == []
