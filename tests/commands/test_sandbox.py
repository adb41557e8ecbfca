"""gilmsg-sandbox's usage, what can be typed at it, and what it shows."""

import os
import shlex
import signal

import pytest

from gilmsg.commands import sandbox as command


@pytest.mark.parametrize(
    "line, expected",
    [
        ("", {}),
        ("D", {"directory": "D"}),
        ("D --relay", {"directory": "D", "relay": True}),
        ("--relay D", {"directory": "D", "relay": True}),
        ("--topic-prefix a.b D", {"directory": "D", "topic_prefix": "a.b"}),
        ("D --recipients a b --relay", {"directory": "D", "recipients": ["a", "b"], "relay": True}),
        ("--recipients a b --relay D", {"directory": "D", "recipients": ["a", "b"], "relay": True}),
        ("--recipients a b", {"recipients": ["a", "b"]}),
        ("--recipients a -- ls -l -- x", {"recipients": ["a"], "command": ["ls", "-l", "--", "x"]}),
        ("D -- ls", {"directory": "D", "command": ["ls"]}),
    ],
)
def test_usage(line, expected):
    """DIR comes first, or last after an option other than --recipients; COMMAND after the first --."""
    assert command.parse(line.split()) == {"command": [], **expected}


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


def test_the_guide_tells_how_to_use_the_relay(bus):
    """With a relay it calls gilmsg-logger too."""
    assert " -m gilmsg.commands.logger --recipients alice bob --ack-timeout 5" in command.guide(bus, True)
    assert "logger" not in command.guide(bus, False)
