"""GilmsgConsumer in real fedmsg-hub processes, and gilmsg-logger through a real relay."""

import os

import pytest

import gilmsg
from gilmsg import _acks, _outlets
from gilmsg._acknowledge import Acknowledger

from . import talking as _process
from .conftest import own_config
from .helpers import Hub, Inbox, listening_ports, signed, write_config
from .processes import module


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
        assert listening_ports(hub.pid) == {carol}


def test_a_consumer_that_overrides_the_hooks_still_acknowledges(bus, tmp_path):
    """pre_consume and post_consume without super, and a message changed there, do not matter."""
    with Hub(tmp_path / "hub", hub_config(bus), ["Selfish"]) as hub:
        receipt = gilmsg.publish(
            topic="t", msg={"a": 1}, recipients=["carol"], ack_timeout=5.0, **own_config(bus, **PATIENT)
        )
        _process.wait_for(hub.consumed, "it consumed")
        assert hub.consumed()[0]["body"]["a"] == 1
        assert hub.consumed()[0]["msg_id"] == receipt.msg_id


def test_the_ack_leaves_just_before_consume(bus, tmp_path):
    """The ACK is out while consume() runs; a message that still waits in the queue has none."""
    config = hub_config(bus, **{"moksha.workers_per_consumer": 1})
    with Hub(tmp_path / "hub", config, ["Patient"]) as hub:
        ours = own_config(bus, **PATIENT)
        first = gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=10.0, **ours)
        _process.wait_for(hub.consumed, "the worker is in consume()")
        queued = gilmsg.publish_async(topic="t", msg={}, recipients=["carol"], ack_timeout=60.0)
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=0.5)
        assert not queued.done()
        assert [line["msg_id"] for line in hub.consumed()] == [first.msg_id]
        (hub.folder / "go on").touch()
        assert list(queued.result(60).acks) == ["carol"]


def test_a_hub_that_ends_with_a_backlog_has_not_acknowledged_it(bus, tmp_path):
    """What never reached consume() was never confirmed, though the hub had queued it."""
    config = hub_config(bus, **{"moksha.workers_per_consumer": 1})
    with Hub(tmp_path / "hub", config, ["Patient"]) as hub:
        ours = own_config(bus, **PATIENT)
        gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=10.0, **ours)
        _process.wait_for(hub.consumed, "the worker is in consume()")
        queued = [
            gilmsg.publish_async(topic="t", msg={}, recipients=["carol"], ack_timeout=2.0)
            for _ in range(5)
        ]
        hub.kill()
        assert all(isinstance(future.exception(30), gilmsg.Timeout) for future in queued)
        assert len(hub.consumed()) == 1


#: For consumers that are handed something else than usual.
SAY = '''
import gilmsg


def say(what):
    with open("consumed", "a") as stream:
        print('["%s"]' % what, file=stream)
'''

UNUSUAL = SAY + '''

class Raw(gilmsg.GilmsgConsumer):
    topic = "org.example.dev.tests.raw"
    jsonify = False

    def consume(self, message):
        say(message.topic)


class Lax(gilmsg.GilmsgConsumer):
    topic = "org.example.dev.tests.lax"

    def validate(self, message):
        pass

    def pre_consume(self, message):
        message["body"]["msg"]["touched"] = True

    def consume(self, message):
        say(message["topic"])
'''

def test_unusual_consumers_acknowledge_what_they_received(bus, tmp_path):
    """Without jsonify, and with validate() overridden, what came is acknowledged if it is valid."""
    with Hub(tmp_path / "hub", hub_config(bus), ["Raw", "Lax"], UNUSUAL) as hub:
        ours = own_config(bus, **PATIENT)
        for topic in ("raw", "lax"):
            gilmsg.publish(topic=topic, msg={}, recipients=["carol"], ack_timeout=10.0, **ours)
        _process.wait_for(lambda: len(hub.consumed()) == 2, "both consumed")
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(
                topic="lax", msg={}, recipients=["carol"], pre_fire_hook=lambda m: m.update(i=77)
            )
        _process.wait_for(lambda: len(hub.consumed()) == 3, "its own validate() let that pass")


ODD = SAY + '''
import socket
from gilmsg.sandbox import processes as _process


class Odd(gilmsg.GilmsgConsumer):
    """Counts what its ACKs come to, and has no port any more at the second message."""

    topic = "org.example.dev.tests"
    jsonify = False

    def pre_consume(self, message):
        if message.topic.endswith("lost"):
            gilmsg.destroy()
            _process.wait_for(self.takes_the_port, "our port is somebody else's")

    def takes_the_port(self):
        try:
            self.held = socket.create_server(("", int(self.hub.config["endpoints"]["carol"][0].rpartition(":")[2])))
        except OSError:
            return False
        return True

    def consume(self, message):
        said = self.__json__()
        say("%s sent %s failed %s" % (message.topic, said["acks_sent"], said["acks_failed"]))
'''


def test_what_comes_of_acks_is_counted_and_rubbish_is_dropped(bus, tmp_path):
    """An ACK that cannot leave is counted and logged, and the message consumed; what is no message is not."""
    ours = own_config(bus, **PATIENT)
    with Hub(tmp_path / "hub", hub_config(bus), ["Odd"], ODD) as hub:
        gilmsg.publish(topic="fine", msg={}, recipients=["carol"], ack_timeout=10.0, **ours)
        _process.wait_for(lambda: len(hub.consumed()) == 1, "it consumed")
        outlet = next(iter(_outlets._outlets.values()))
        envelope = b"org.example.dev.tests.rubbish"
        for body in (b"no JSON", b"[" * 100000, b"7", b'{"topic": "org.example.dev.tests.other", "msg": {}}'):
            outlet.send([envelope, body])
        with pytest.raises(gilmsg.Timeout):
            gilmsg.publish(topic="lost", msg={}, recipients=["carol"], ack_timeout=0.5)
        _process.wait_for(lambda: len(hub.consumed()) == 2, "it consumed: %s" % hub.out())
        assert [line[0] for line in hub.consumed()] == [
            "org.example.dev.tests.fine sent 1 failed 0", "org.example.dev.tests.lost sent 1 failed 1"
        ]
        assert "no ACK for" in hub.out() and "Topic envelope mismatch" in hub.out()


def test_a_disabled_consumer_is_silent(bus, tmp_path):
    """One whose config_key is not set neither consumes nor acknowledges; on a muted hub the others only consume."""
    with Hub(tmp_path / "hub", hub_config(bus, mute=True), ["First", "Second"]) as hub:
        gilmsg.init(**own_config(bus))

        def consumed():
            with pytest.raises(gilmsg.Timeout):
                gilmsg.publish(topic="t", msg={}, recipients=["carol"], ack_timeout=0.25)
            return hub.consumed()

        _process.wait_for(consumed, "First consumes, once it is connected")
        assert {line["who"] for line in hub.consumed()} == {"First"}
        assert "First will acknowledge nothing: mute is on" in hub.out()


@pytest.mark.parametrize("validates", [True, False])
def test_what_cannot_be_encoded_again_is_not_acknowledged(bus, validates):
    """A body that is nested too deeply has no digest: no ACK, and where it had to be validated, no consume().

    (Without a hub: what JSON lets in on its way is nested nearly as deeply, by how much depends on the Python.)
    """
    config = own_config(bus, name="carol")
    consumer = object.__new__(gilmsg.GilmsgConsumer)
    consumer.hub = type("Hub", (), {"config": config})
    consumer.validate_signatures = validates
    consumer._acknowledger = Acknowledger(config, gilmsg.init(**config).publisher)
    body = signed(config, "alice", _acks.marked({}, ["carol"]), topic="t")
    assert consumer._examine({"topic": "t", "body": body}).ack["ack_msg_id"] == body["msg_id"]
    for _ in range(100000):
        body["msg"]["deep"] = {"deep": body["msg"].get("deep")}
    refusal = "it is nested too deeply" if validates else None
    assert consumer._examine({"topic": "t", "body": body}) == (refusal, None, body["msg_id"])


def logger(bus, *arguments, text=""):
    return module("gilmsg.commands.logger", *arguments, cwd=bus.directory, text=text, env={"HOME": os.getcwd()})


def test_logger_is_silent_on_success(bus):
    """Each line is a message, confirmed through the relay: exit 0 and no output."""
    inbox = Inbox(bus, "silently")
    words = ["--topic", "silently", "--recipients", "alice", "bob", "--ack-timeout", "3"]
    done = logger(bus, *words, text="testing\nmore\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    logs = [message["msg"]["log"] for message in inbox.messages()]
    assert logs == ["testing", "more"]


def test_logger_says_who_is_missing(bus):
    """A Timeout is one line on stderr and exit 1, and does not stop the lines after it."""
    inbox = Inbox(bus, "missed")
    done = logger(
        bus, "--topic", "missed", "--recipients", "alice", "nobody", "--ack-timeout", "0.3", text="one\ntwo\n"
    )
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 2
    assert all("missing: nobody" in line for line in done.stderr.splitlines())
    _process.wait_for(lambda: len(inbox.messages()) == 2, "alice has both")


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
    done = logger(bus, text="one\ntwo\n")
    assert done.returncode == 0 and done.stderr.count("no recipients") == 1


def test_logger_takes_json(bus):
    """--json-input reads one document; where it is none, each line is one."""
    inbox = Inbox(bus, "documents")
    words = ["--topic", "documents", "--json-input", "--recipients", "alice"]
    one = logger(bus, *words, text='{"a":\n1}\n')
    many = logger(bus, *words, "--verbose", text='{"a": 2}\n{"a": 3}\n')
    assert one.returncode == many.returncode == 0, one.stderr + many.stderr
    assert len(many.stdout.splitlines()) == 2
    assert [message["msg"]["a"] for message in inbox.messages()] == [1, 2, 3]


def test_logger_without_a_relay_times_out(bus, tmp_path):
    """A relay that is not running is a Timeout that says so, not a hang."""
    write_config(tmp_path, own_config(bus, relay_inbound=bus.ports.endpoint(), **{"gilmsg.ack_timeout": 0.25}))
    done = module("gilmsg.commands.logger", "--recipients", "alice", "--message", "x", cwd=tmp_path)
    assert done.returncode == 1 and "relay" in done.stderr


def test_demo(tmp_path):
    """gilmsg-demo shows the ACKs and the Timeout, ends with 0 and leaves nothing behind."""
    done = module("gilmsg.commands.demo", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ACK after") == 5 and "MISSING" in done.stdout
    assert done.stderr == "" and os.listdir(str(tmp_path)) == []
