"""Children that talk, ports that stay ours, commands of which nothing is left: the parts below the sandbox."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import types

import psutil
import pytest
from gilmsg._relay import Relay

from gilmsg import _own_sockets, _ports, _process, _standin
from gilmsg.commands import _family
from gilmsg.commands._console import Console

from .processes import Program

#: Runs as ``python -m``: it repeats what it is told, and stays deaf to the end of its stdin where it is told so.
ECHO = """
import json, sys, time
for line in sys.stdin:
    print(json.dumps({"event": json.loads(line)}), flush=True)
    if json.loads(line) == "stubborn":
        print("no JSON", flush=True)
        while True:
            time.sleep(60)
"""


@pytest.fixture
def echo(tmp_path):
    (tmp_path / "echo.py").write_text(ECHO)
    talkers = []

    def start(first):
        talkers.append(_process.Talker("echo", first, cwd=str(tmp_path)))
        return talkers[-1]

    yield start
    for talker in talkers:
        talker.kill()


def test_a_child_is_heard(echo):
    """What it says is an event; a line that is no JSON is one too; what was said can be forgotten."""
    talker = echo("stubborn")
    assert talker.wait_for("stubborn") == {"event": "stubborn"}
    assert talker.wait_for("text")["text"] == "no JSON"
    talker.clear()
    assert talker.events() == []


def test_a_child_that_has_ended_hears_nothing(echo):
    """To tell it something is no error, and to wait for it ends at once, with a reason."""
    talker = echo("hello")
    talker.wait_for("hello")
    talker.stop()
    assert not talker.alive
    talker.tell("more")
    with pytest.raises(TimeoutError, match="ended before it said 'more'"):
        talker.wait_for("more")
    talker.stop()


@pytest.mark.parametrize("end", [_process.Talker.stop, _process.Talker.kill], ids=lambda end: end.__name__)
def test_what_is_left_in_a_broken_pipe_is_no_error(echo, end):
    """A child that was killed from outside while more is told to it can still be stopped, or killed."""
    talker = echo("hello")
    talker.wait_for("hello")
    os.kill(talker.pid, signal.SIGKILL)
    _process.wait_for(lambda: not talker.alive, "it is dead", 5)
    talker.tell("x" * 100)
    end(talker)


def test_a_stubborn_child_is_killed(echo):
    """One that does not end with its stdin is killed once the limit has passed."""
    talker = echo("stubborn")
    talker.wait_for("stubborn")
    talker.stop(0.05)
    assert not talker.alive


def test_stop_is_idempotent_and_bounded(tmp_path):
    """A process that obeys no signal is killed; to stop one that has ended does nothing."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); input()"
    with Program([sys.executable, "-c", code]) as child:
        child.wait_for("1")
        _process.stop(child.process, 0.05)
        assert child.process.returncode == -signal.SIGKILL
        _process.stop(child.process)


def test_a_condition_that_never_comes_true():
    """wait_for names what it waited for."""
    with pytest.raises(TimeoutError, match="not within 0.02 s: the end of days"):
        _process.wait_for(lambda: False, "the end of days", 0.02)


def test_a_tied_script_ends_with_its_stdin(tmp_path):
    """A command that is tied to us ends when we do, whatever it is doing."""
    (tmp_path / "module.py").write_text("import threading\ndef main():\n    threading.Event().wait()\n")
    with Program(_process.script("module:main", tied=True), tmp_path, {"PYTHONSAFEPATH": ""}) as child:
        assert child.alive
        child.close_stdin()
        assert child.end() == 0


@pytest.fixture
def two_ports():
    """Two free ports."""
    ports = _ports.Ports()
    found = ports.take(), ports.take()
    ports.close()
    return found


def drawn(monkeypatch, *ports):
    """Let these be the ports that chance will have."""
    picks = iter(ports)
    chance = types.SimpleNamespace(randint=lambda *_: next(picks))
    monkeypatch.setattr(_ports, "random", types.SimpleNamespace(SystemRandom=lambda: chance))


def test_no_port_is_handed_out_twice(two_ports, monkeypatch):
    """Neither by one, nor by another who asks meanwhile; when it is given back, it can be had again."""
    one, other = two_ports
    ours, theirs = _ports.Ports(), _ports.Ports()
    try:
        drawn(monkeypatch, one, one, other, other, one)
        assert (ours.take(), theirs.take()) == (one, other)
        ours.close()
        assert ours.take() == one
    finally:
        ours.close()
        theirs.close()


def test_a_port_that_is_bound_is_not_handed_out(two_ports, monkeypatch):
    """A port on which somebody listens is left alone; listening_ports names it."""
    import socket

    taken, free = two_ports
    drawn(monkeypatch, taken, free)
    ports = _ports.Ports()
    with socket.create_server(("127.0.0.1", taken)):
        assert ports.take() == free
        ports.close()
        assert taken in _own_sockets.listening_ports() and free not in _own_sockets.listening_ports()


def test_to_look_at_all_sockets_leaves_nothing_open(tmp_path):
    """Of all descriptors only TCP sockets are given, and a look opens none that stays."""
    import socket

    one, other = socket.socketpair()
    with open(str(tmp_path / "file"), "w") as file, socket.socket() as tcp, one, other:
        before = psutil.Process().num_fds()
        found = [descriptor for descriptor, _ in _own_sockets.each()]
        assert tcp.fileno() in found and not {file.fileno(), one.fileno()} & set(found)
        assert psutil.Process().num_fds() == before


def test_where_the_kernel_has_no_names_nothing_is_claimed(monkeypatch):
    """Off Linux a port is handed out all the same. (The platform is patched: there is no other one here.)"""
    monkeypatch.setattr(sys, "platform", "darwin")
    ports = _ports.Ports()
    assert ports.take() and not ports._claims


def test_can_connect():
    """True exactly if something accepts connections there."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        endpoint = "tcp://127.0.0.1:%d" % server.getsockname()[1]
        assert not _process.can_connect(endpoint)
        server.listen()
        assert _process.can_connect(endpoint)


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    """Also what has moved to a session of its own, and whose parent has ended."""
    ended = threading.Event()
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1009'], start_new_session=True)\n"
        "open('pid', 'w').write(str(child.pid))\n"
    )
    command = _family.Command([sys.executable, "-c", code], str(tmp_path), False, ended.set)
    assert ended.wait(20) and command.status == 0
    left = psutil.Process(int((tmp_path / "pid").read_text()))
    command.clear_away()
    assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
    command.clear_away()


def test_where_there_is_no_proc_only_the_command_is_ended(tmp_path, monkeypatch):
    """Off Linux there are neither subreapers nor /proc. (Both are patched: there is no other system here.)"""

    def nothing(path):
        raise FileNotFoundError(path)

    ended = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", "darwin")
        patched.setattr(_family.os, "listdir", nothing)
        command = _family.Command(["sleep", "1010"], str(tmp_path), False, ended.set)
        command.clear_away()
    assert ended.wait(5) and command.status == 128 + signal.SIGKILL


def test_a_process_that_is_gone_is_no_error():
    """To kill, or to look at, what has ended meanwhile does nothing."""
    child = subprocess.Popen(["true"])
    child.wait()
    _family._kill(child.pid)
    assert _family._parent(str(child.pid)) == ""


LEAVES_A_CHILD = """
import subprocess, sys
sys.stdin.readline()
child = subprocess.Popen(["sleep", "1011"], stdin=subprocess.DEVNULL)
print('{"event": "left", "pid": %d}' % child.pid, flush=True)
sys.stdin.read()
"""


def test_a_childs_child_that_holds_the_pipe_holds_up_nobody(tmp_path, monkeypatch):
    """A child is done with once it has ended, though the pipe is still open at its other end."""
    monkeypatch.setattr(_process, "STOP_LIMIT", 0.3)
    monkeypatch.setattr(_process, "_LOOK_AGAIN", 0.02)
    (tmp_path / "leaver.py").write_text(LEAVES_A_CHILD)
    talker = _process.Talker("leaver", None, cwd=str(tmp_path))
    left = talker.wait_for("left")["pid"]
    try:
        talker.stop()
        _process.wait_for(lambda: not talker._thread.is_alive(), "its thread ends", 10)
        assert talker.events() == [{"event": "left", "pid": left}]
    finally:
        os.kill(left, signal.SIGKILL)


def test_a_command_at_a_terminal_that_has_ended():
    """To clear it away signals nobody: its process id may be another's by then."""
    ended = threading.Event()
    command = _family.Command(["true"], ".", True, ended.set)
    assert ended.wait(20)
    command.clear_away()
    assert command.status == 0


@pytest.fixture
def many_open():
    """The descriptors up to 1023, which select() does not go beyond, are taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    opened = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while opened[-1] < 1023:
            opened.append(os.dup(opened[0]))
        yield
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_open_files_are_no_obstacle(echo, many_open):
    """A child is heard, and a console woken, by descriptors beyond what select() can take."""
    talker = echo("hello")
    talker.wait_for("hello")
    assert talker._descriptor > 1023 and talker._thread.is_alive()
    with Console() as console:
        console.wake()
        console.sleep()
        assert console._wakeup.fileno() > 1023


def test_what_on_event_raises_is_logged(tmp_path, caplog):
    """It neither ends the reading nor hides what the child says next."""
    (tmp_path / "echo.py").write_text(ECHO)
    heard = []

    def on_event(event):
        heard.append(event["event"])
        raise RuntimeError("on purpose")

    talker = _process.Talker("echo", "first", cwd=str(tmp_path), on_event=on_event)
    try:
        for line in ("second", "third"):
            talker.tell(line)
        _process.wait_for(lambda: len(heard) == 3, "all three are heard by the thread")
        assert heard == [event["event"] for event in talker.events()] == ["first", "second", "third"]
        assert caplog.text.count("on_event failed at") == 3 and "on purpose" in caplog.text
    finally:
        talker.stop()


def test_a_relay_that_ends_is_told_of_at_once(tmp_path):
    """With its exit status and its last words; a relay that runs where nobody configured it ends so."""
    relay = Relay(str(tmp_path))
    try:
        with pytest.raises(TimeoutError, match="(?s)fedmsg-relay ended with exit status 1: .*'endpoints'"):
            _process.wait_for(lambda: relay.listens("tcp://127.0.0.1:1"), "it listens")
    finally:
        relay.stop()
    relay.stop()
    assert relay._errors.closed


def test_what_a_stand_in_says_is_not_mixed(monkeypatch):
    """Two threads report at a time, in lines longer than a pipe takes at once: each line stays whole."""
    reader, writer = os.pipe()
    text = "x" * 200000
    with os.fdopen(reader, "rb") as reading, os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        threads = [
            threading.Thread(target=lambda: [_standin.say("message", text=text) for _ in range(5)]) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        lines = [json.loads(reading.readline()) for _ in range(10)]
        for thread in threads:
            thread.join()
    assert lines == [{"event": "message", "text": text}] * 10


def test_a_command_that_ends_as_it_is_signalled(tmp_path, monkeypatch):
    """It ran a moment ago: that the signal finds nobody is no error."""

    def nobody(pid, number):
        raise ProcessLookupError(pid)

    ended = threading.Event()
    command = _family.Command(["sleep", "1012"], str(tmp_path), True, ended.set)
    with monkeypatch.context() as patched:
        # A mock: no test can end it just between the look and the signal.
        patched.setattr(_family.os, "kill", nobody)
        assert command.end(signal.SIGTERM, 0.0) is None
    assert command.end(signal.SIGTERM, 20.0) == 128 + signal.SIGTERM
    command.clear_away()


def test_a_relay_that_cannot_be_run(tmp_path):
    """The error is the system's, and nothing stays open."""
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        Relay(str(tmp_path / "nowhere"))
    assert set(os.listdir("/proc/self/fd")) <= before
