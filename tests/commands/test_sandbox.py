"""gilmsg-sandbox's usage, what can be typed at it, and what it shows."""

import os
import shlex
import signal

import pytest

from gilmsg.commands import sandbox as command


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", (None, None, False, None, None)),
        ("D", ("D", None, False, None, None)),
        ("D --relay", ("D", None, True, None, None)),
        ("--relay D", ("D", None, True, None, None)),
        ("--topic-prefix a.b D", ("D", None, False, "a.b", None)),
        ("D --recipients a b", ("D", ["a", "b"], False, None, None)),
        ("D --recipients a b --relay", ("D", ["a", "b"], True, None, None)),
        ("--recipients a b --relay D", ("D", ["a", "b"], True, None, None)),
        ("--recipients a b", (None, ["a", "b"], False, None, None)),
        ("--recipients a -- ls -l -- x", (None, ["a"], False, None, ["ls", "-l", "--", "x"])),
        ("D -- ls", ("D", None, False, None, ["ls"])),
    ],
)
def test_usage(line, expected):
    """DIR comes first, or last after an option other than --recipients; COMMAND after the first --."""
    got = command.parse(line.split())
    assert (got.directory, got.recipients, got.relay, got.topic_prefix, got.command) == expected


@pytest.fixture
def former_signals():
    """What signals do is afterwards what it was before."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "line",
    ["--foo", "D E", "--recipients", "--topic-prefix", "--topic-prefix a..b", "--topic-prefix ''", "''", "--",
     "D --recipients a/b", "--recipients a,b", "--recipients publisher", "--recipients ''", "--rel",
     "/dev/null/x", "--recipients " + 300 * "x"],
)
def test_bad_usage(line, capsys, tmp_path, monkeypatch, former_signals):
    """Bad usage is one line on stderr and exit 2, and leaves nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command.main(shlex.split(line)) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and len(streams.err.splitlines()) == 1
    assert streams.err.startswith("gilmsg-sandbox: ")
    assert not any(name.startswith("gilmsg-") for name in os.listdir(str(tmp_path)))


def test_what_is_typed_is_done(bus):
    """Each line is answered with what was done, or with what can be typed."""
    assert "alice receives now, and acknowledges nothing" == command.obey(bus, "silent alice\n")
    assert "alice waits 0.5 s now before each ACK" == command.obey(bus, " slow  alice 0.5 ")
    assert "alice is well" == command.obey(bus, "well alice")
    assert "bob is dead" == command.obey(bus, "dead bob") and not bus.is_alive("bob")
    for line, answer in [
        ("silent bob", "bob is dead; make it well first"), ("dead joe", "'joe' is not a recipient here"),
        ("slow alice", "is no number of seconds"), ("slow alice nan", "cannot be waited for"), ("", "not understood"),
        ("help", "'help' is not understood. Type one of: silent CN"),
    ]:
        assert answer in command.obey(bus, line)


def test_the_guide_tells_how_to_use_the_relay(bus, monkeypatch, tmp_path):
    """With a relay it names gilmsg-logger as it can be called here, installed as a script or not."""
    assert "--recipients alice bob --ack-timeout 5" in command.guide(bus, True)
    assert "--recipients" not in command.guide(bus, False)
    monkeypatch.setattr(command.sysconfig, "get_path", lambda name: str(tmp_path))
    assert " -m gilmsg.commands.logger --recipients" in command.guide(bus, True)
    (tmp_path / "gilmsg-logger").touch()
    assert str(tmp_path / "gilmsg-logger") in command.guide(bus, True)


def test_where_there_is_no_proc_only_the_command_is_ended(monkeypatch):
    """No children are found then. (Patched: there is no other system here.)"""
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: 0)
        assert command._children() == set()
