"""gilmsg.sandbox, and the folder that it writes."""

import os
import signal

import pytest

import gilmsg
from gilmsg import _sandbox_folder
from gilmsg._process import wait_for
from gilmsg.sandbox import Sandbox

from .conftest import own_config
from .helpers import Inbox


def files(directory):
    return {
        os.path.relpath(os.path.join(folder, name), str(directory))
        for folder, _, names in os.walk(str(directory))
        for name in names
    }


def test_only_our_own_files_are_written(tmp_path):
    """What is in the folder and not a sandbox's is neither replaced nor removed: we refuse."""
    (tmp_path / "a" / "pki").mkdir(parents=True)
    (tmp_path / "a" / "pki" / "ca.crt").write_text("precious")
    (tmp_path / "b" / "fedmsg.d").mkdir(parents=True)
    (tmp_path / "b" / "fedmsg.d" / _sandbox_folder.FILE).write_text("config = {}")
    for name in ("a", "b"):
        before = files(tmp_path / name)
        with pytest.raises(gilmsg.ConfigurationError, match="not written by a sandbox"):
            _sandbox_folder.Folder(str(tmp_path / name))
        assert files(tmp_path / name) == before
    assert (tmp_path / "a" / "pki" / "ca.crt").read_text() == "precious"
    # An empty pki is nobody's.
    (tmp_path / "c" / "pki").mkdir(parents=True)
    folder = _sandbox_folder.Folder(str(tmp_path / "c"))
    with pytest.raises(gilmsg.ConfigurationError, match="another sandbox"):
        _sandbox_folder.Folder(str(tmp_path / "c"))
    folder.release()
    _sandbox_folder.Folder(str(tmp_path / "c")).release()
    assert (tmp_path / "c").is_dir()


def test_what_is_read_after_our_file_is_told(tmp_path, monkeypatch, caplog):
    """A key of ours that $VIRTUAL_ENV/etc/fedmsg.d overrides is warned of, one file's rubbish too."""
    (tmp_path / "venv" / "etc" / "fedmsg.d").mkdir(parents=True)
    (tmp_path / "venv" / "etc" / "fedmsg.d" / "x.py").write_text("config = {'name': 'x', 'other': 1}")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "venv"))
    folder = _sandbox_folder.Folder(str(tmp_path / "bus"))
    config = {"name": "publisher", "endpoints": {}, "certnames": {}, "mute": False}
    folder.write(config)
    assert [record.getMessage().count("'name'") for record in caplog.records] == [1]
    caplog.clear()
    (tmp_path / "bus" / "fedmsg.d" / "a.py").write_text("1 / 0")
    folder.write(config)
    assert "ZeroDivisionError" in caplog.text
    folder.release()


def test_what_other_files_say_of_where_to_listen_is_answered(tmp_path):
    """Endpoints and SRV records that another file names, and fedmsg would merge, are answered in ours."""
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text(
        "config = {'endpoints': {'other': ['tcp://127.0.0.1:1']}, 'srv_endpoints': ['example.com']}"
    )
    folder = _sandbox_folder.Folder(str(tmp_path))
    folder.write({"name": "publisher", "endpoints": {"mine": []}, "certnames": {}})
    written = {}
    exec(open(folder.file).read(), written)
    assert written["config"]["endpoints"] == {"other": [], "mine": []}
    assert written["config"]["srv_endpoints"] == []
    for _ in range(2):
        folder.release()


def test_one_that_crashed_is_made_well(bus):
    """A stand-in that ended by itself is started anew, and what it had received is not forgotten."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=5, **own_config(bus))
    before = len(bus.received("alice"))
    os.kill(bus._stand_ins["alice"].pid, signal.SIGKILL)
    wait_for(lambda: not bus.is_alive("alice"), "it has ended")
    with pytest.raises(gilmsg.ConfigurationError, match="alice is dead"):
        bus.silent("alice")
    bus.well("alice")
    # Until our listener has found it again, an ACK may be lost.
    wait_for(alice_answers, "alice answers again")
    assert len(bus.received("alice")) > before > 0


def alice_answers():
    try:
        return gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=0.5)
    except gilmsg.Timeout:
        return None


def test_a_slow_one_told_to_be_silent_stays_silent(bus):
    """Whoever waits before an ACK when it is told to be silent does not send that ACK."""
    bus.slow("bob", 1000)
    inbox = Inbox(bus, "slowly", "bob")
    future = gilmsg.publish_async(
        topic="slowly", msg={}, recipients=["bob"], ack_timeout=1.0, **own_config(bus)
    )
    wait_for(inbox.messages, "bob has it")
    bus.silent("bob")
    with pytest.raises(gilmsg.Timeout):
        future.result(30)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(gilmsg.ConfigurationError, match="number of seconds"):
            bus.slow("bob", seconds)


def test_a_slow_one_is_slow_only_at_what_it_acknowledges(bus):
    """What names somebody else does not hold up what names the slow one: its ACKs come back to it, too."""
    bus.slow("bob", 1000)
    gilmsg.publish(topic="t1", msg={}, recipients=["alice"], ack_timeout=10, **own_config(bus))
    inbox = Inbox(bus, "t2", "bob")
    future = gilmsg.publish_async(topic="t2", msg={}, recipients=["bob"], ack_timeout=10)
    wait_for(inbox.messages, "bob has it")
    bus.well("bob")
    assert list(future.result(30).acks) == ["bob"]


class Impatient(Exception):
    """Whoever waits will not wait any more."""


def test_who_did_not_obey_in_time_is_not_taken_for_well(bus, monkeypatch):
    """What was given up waiting for is unknown: to make it well waits until it has said so of just that."""

    def gives_up():
        raise Impatient

    bus.silent("bob")
    os.kill(bus._stand_ins["bob"].pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(bus, "_on_wait", gives_up)
            for change in (bus.well, bus.well, bus.silent, bus.well):
                with pytest.raises(Impatient):
                    change("bob")
    finally:
        os.kill(bus._stand_ins["bob"].pid, signal.SIGCONT)
    bus.well("bob")
    assert gilmsg.publish(topic="t", msg={}, recipients=["bob"], ack_timeout=10, **own_config(bus)).acks


def test_a_sandbox_runs_once(tmp_path):
    """Started again, before it was stopped or after, it refuses and leaves all as it is; no recipient is up before."""
    sandbox = Sandbox([])
    with sandbox as bus:
        for start in (bus.start, bus.__enter__):
            with pytest.raises(gilmsg.ConfigurationError, match="was started before.*make another"):
                start()
        assert os.path.isdir(bus.directory)
    unused = Sandbox(["r1"], directory=str(tmp_path))
    unused.stop()
    for one in (sandbox, unused):
        with pytest.raises(gilmsg.ConfigurationError, match="was stopped before.*make another"):
            one.start()
    with pytest.raises(gilmsg.ConfigurationError, match="was stopped; make another"):
        unused.well("r1")
    young = Sandbox(["r1"])
    try:
        with pytest.raises(gilmsg.ConfigurationError, match="was not started; start it first"):
            young.well("r1")
        assert not young.is_alive("r1")
    finally:
        young.stop()
    assert not os.path.exists(sandbox.directory) and not unused.is_alive("r1")
