"""gilmsg.sandbox: a bus whose recipients do as they are told. For gilmsg-sandbox see the tests of the commands."""

import os
import runpy
import signal

import psutil
import pytest

import gilmsg
from gilmsg.sandbox import Sandbox

from .conftest import own_config
from .helpers import Inbox, listening_ports, write_config
from .processes import wait_for


def pid(bus, name):
    """The process id of the stand-in *name*: it listens at its port."""
    port = int(bus.config["endpoints"][name][0].rpartition(":")[2])
    [found] = [one.pid for one in psutil.Process().children() if port in listening_ports(one.pid)]
    return found


def publish(bus, topic, *recipients):
    return gilmsg.publish_async(topic=topic, msg={}, recipients=recipients, ack_timeout=10, **own_config(bus))


def answers(*recipients):
    try:
        return gilmsg.publish(topic="t", msg={}, recipients=recipients, ack_timeout=0.5)
    except gilmsg.Timeout:
        return None


def test_one_that_crashed_is_made_well(bus):
    """A stand-in that ended by itself is started anew, and what it had received is not forgotten."""
    publish(bus, "t", "alice").result(30)
    before = len(bus.received("alice"))
    os.kill(pid(bus, "alice"), signal.SIGKILL)
    wait_for(lambda: not bus.is_alive("alice"), "it has ended")
    with pytest.raises(gilmsg.ConfigurationError, match="alice is dead; make it well first"):
        bus.silent("alice")
    bus.well("alice")
    # Until our listener has found it again, an ACK may be lost.
    wait_for(lambda: answers("alice"), "alice answers again")
    assert len(bus.received("alice")) > before > 0


def test_a_slow_one_told_to_be_silent_stays_silent(bus):
    """It does not send the ACK that it was about to, and is slow only by a number of seconds."""
    bus.slow("bob", 1000)
    inbox = Inbox(bus, "slowly", "bob")
    future = gilmsg.publish_async(topic="slowly", msg={}, recipients=["bob"], ack_timeout=1.0, **own_config(bus))
    wait_for(inbox.messages, "bob has it")
    bus.silent("bob")
    with pytest.raises(gilmsg.Timeout):
        future.result(30)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(gilmsg.ConfigurationError, match="cannot be waited for; give a number of seconds"):
            bus.slow("bob", seconds)


def test_a_slow_one_is_slow_only_at_what_it_acknowledges(bus):
    """What names somebody else does not hold up what names the slow one: its ACKs come back to it, too."""
    bus.slow("bob", 1000)
    publish(bus, "t1", "alice").result(30)
    inbox = Inbox(bus, "t2", "bob")
    future = publish(bus, "t2", "bob")
    wait_for(inbox.messages, "bob has it")
    bus.well("bob")
    assert list(future.result(30).acks) == ["bob"]


def test_a_life_with_everything(tmp_path):
    """Events are told, messages kept and forgotten, waiting can be given up; afterwards it refuses to start again."""
    events, impatient = [], []

    def on_wait():
        if impatient:
            raise InterruptedError("on purpose")

    sandbox = Sandbox(["r1"], topic_prefix="com.acme", on_event=lambda *event: events.append(event), on_wait=on_wait)
    with pytest.raises(gilmsg.ConfigurationError, match="was not started; start it first"):
        sandbox.well("r1")
    with sandbox as bus:
        receipt = publish(bus, "t", "r1").result(30)
        assert [message["msg_id"] for message in bus.received("r1")] == [receipt.msg_id]
        bus.silent("r1")
        process = psutil.Process(pid(bus, "r1"))
        process.suspend()
        impatient.append(True)
        for change in (bus.well, bus.well, bus.silent, bus.well):
            with pytest.raises(InterruptedError):
                change("r1")
        impatient.clear()
        process.resume()
        # What was given up waiting for is not taken for done: it has to say so of just that.
        bus.well("r1")
        wait_for(lambda: answers("r1"), "r1 answers")
        bus.dead("r1")
        assert not bus.is_alive("r1") and len(bus.received("r1")) >= 2
        bus.forget()
        assert bus.received("r1") == []
        with pytest.raises(gilmsg.ConfigurationError, match="'nobody' is not a recipient here; these are: r1"):
            bus.dead("nobody")
        with pytest.raises(gilmsg.ConfigurationError, match=r"was started before.*make another"):
            bus.start()
        assert os.path.isdir(bus.directory)
    kinds = {"ready", "message", "ack", "obeys"}
    wait_for(lambda: kinds <= {event["event"] for name, event in events if name == "r1"}, "all is told, by a thread")
    with pytest.raises(gilmsg.ConfigurationError, match=r"was stopped before.*make another"):
        sandbox.start()
    with pytest.raises(gilmsg.ConfigurationError, match="was stopped; make another"):
        sandbox.well("r1")
    assert not os.path.exists(sandbox.directory)


def files(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_only_our_own_files_are_written(tmp_path):
    """What is in the folder and not a sandbox's is neither replaced nor removed: we refuse."""
    (tmp_path / "a" / "pki").mkdir(parents=True)
    (tmp_path / "a" / "pki" / "ca.crt").write_text("precious")
    write_config(tmp_path / "b", {}, "zz-gilmsg-sandbox.py")
    for folder in (tmp_path / "a", tmp_path / "b"):
        before = files(folder)
        with pytest.raises(gilmsg.ConfigurationError, match="was not written by a sandbox; move it away, or choose"):
            Sandbox([], str(folder))
        assert files(folder) == before
    # An empty pki is nobody's.
    folder = tmp_path / "c"
    (folder / "pki").mkdir(parents=True)
    mine = write_config(folder, {"mine": 1}, "mine.py")
    with Sandbox([], str(folder)):
        with pytest.raises(gilmsg.ConfigurationError, match="another sandbox is running in"):
            Sandbox([], str(folder))
        ours = set(files(folder))
    with Sandbox([], str(folder)):
        assert set(files(folder)) == ours
    assert eval(mine.read_text().partition("=")[2]) == {"mine": 1}


def test_what_other_files_say(tmp_path, monkeypatch, caplog):
    """What is read before our file is answered there; what is read after it is warned of, and what cannot be used."""
    venv = tmp_path / "venv" / "etc"
    write_config(venv, {"name": "x", "other": 1}, "x.py")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    bus = tmp_path / "bus"
    write_config(bus, "1 / 0", "a.py")
    write_config(
        bus,
        {"endpoints": {"other": ["tcp://127.0.0.1:1"]}, "srv_endpoints": ["example.com"], "cert_prefix": "theirs"},
        "b.py",
    )
    with Sandbox([], str(bus)) as sandbox:
        written = runpy.run_path(str(bus / "fedmsg.d" / "zz-gilmsg-sandbox.py"))["config"]
    assert written["endpoints"] == {"other": [], **sandbox.config["endpoints"]} and written["srv_endpoints"] == []
    assert [name for name in written["certnames"] if name.startswith("theirs.")]
    assert {record.name for record in caplog.records} == {"gilmsg.sandbox"}
    rubbish, overridden = [record.getMessage() for record in caplog.records]
    assert "ZeroDivisionError" in rubbish and "this bus's 'name': another file sets it too" in overridden


@pytest.mark.parametrize("name", ["", "a/b", "a,b", ".a", "publisher", "ca"])
def test_names_that_cannot_be_files(name):
    """A name that no key can be stored under, or that is taken, is refused."""
    with pytest.raises(gilmsg.ConfigurationError):
        Sandbox([name])


@pytest.mark.slow
def test_a_bus_that_does_not_come_up(tmp_path, monkeypatch):
    """A process that ends at once is told of at once, a relay's last words too; nothing is left."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patched:
        (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
        patched.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(TimeoutError, match="the process ended before it said 'ready'"):
            Sandbox(["r1"]).start()
    folder = tmp_path / "bus"
    write_config(folder, "1 / 0", "a.py")
    with pytest.raises(TimeoutError, match=r"(?s)fedmsg-relay ended with exit status 1: .*ZeroDivisionError"):
        Sandbox(["r1"], str(folder), relay=True).start()
    assert not list(tmp_path.glob("gilmsg-*"))
