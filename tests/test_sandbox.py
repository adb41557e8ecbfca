"""gilmsg-sandbox, as a process of its own, and what it is made of."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import gilmsg
from gilmsg.commands import _streams
from gilmsg.commands import sandbox as command
from gilmsg.commands._display import Display, described
from gilmsg.commands._family import Command
from gilmsg.sandbox import Sandbox
from gilmsg.sandbox import folder as _sandbox_folder
from gilmsg.sandbox.processes import wait_for

from .conftest import own_config
from .helpers import Inbox, write_config
from .processes import Program, run

#: Seconds. Three are promised; a CI machine has a lot else to do.
END_LIMIT = 10

PUBLISH = """
import gilmsg, sys


def publish(names, ack_timeout):
    try:
        return sorted(gilmsg.publish(topic="t", msg={"a": 1}, ack_timeout=ack_timeout, recipients=names).acks)
    except gilmsg.Timeout as timeout:
        return "missing " + ", ".join(sorted(timeout.missing))
"""


class Publisher(Program):
    """A program started in a folder, which names its recipients and nothing else."""

    LOOP = PUBLISH + """
for line in sys.stdin:
    ack_timeout, *names = line.split()
    print(publish(names, float(ack_timeout)), flush=True)
"""

    def __init__(self, directory):
        super().__init__([sys.executable, "-c", self.LOOP], directory)

    def publishes(self, *recipients, ack_timeout=10):
        before = len(self.out())
        self.tell("%s %s\n" % (ack_timeout, " ".join(recipients)))
        self.wait_for("\n", after=before)
        return self.lines[-1]


class Running(Program):
    """A gilmsg-sandbox process: type at it, read what it shows, end it."""

    def __init__(self, *arguments, **options):
        words = [sys.executable, "-m", "gilmsg.commands.sandbox", *arguments]
        super().__init__(words, stderr=subprocess.STDOUT, **options)

    def type(self, line, answer):
        before = len(self.out())
        self.tell(line + "\n")
        self.wait_for(answer, after=before)

    def signalled(self, number=signal.SIGINT):
        """Send it a signal; return the exit status. None of its processes may be left."""
        family = self.family()
        self.send(number)
        status = self.end(END_LIMIT)
        wait_for(lambda: not any(alive(one) for one in family), "no process is left", END_LIMIT)
        return status


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def files(directory):
    return {
        os.path.relpath(os.path.join(folder, name), str(directory))
        for folder, _, names in os.walk(str(directory))
        for name in names
    }


@pytest.mark.slow
def test_a_session(tmp_path):
    """The lines to copy work, messages and ACKs are shown, typed lines are obeyed, Ctrl-C ends all."""
    directory = tmp_path / "my bus"
    mine = write_config(directory, {"mine": 1}, "mine.py")
    text = mine.read_text()
    words = [str(directory), "--recipients", "alice", "bob", "--relay", "--topic-prefix", "com.acme"]
    with Running(*words) as running:
        running.wait_for("Its recipients: alice, bob", "Ctrl-C ends it")
        check_the_lines_to_copy(running)
        with Publisher(directory) as program:
            check_typed_lines(running, program)
            # The end of stdin is not ours.
            running.close_stdin()
            assert program.publishes("bob") == "['bob']"
        assert running.signalled() == 0
    kept = files(directory)
    assert {os.path.join("fedmsg.d", "mine.py"), os.path.join("pki", "ca.crt")} <= kept
    assert mine.read_text() == text
    check_a_second_start(directory, kept)


def check_the_lines_to_copy(running):
    lines = [line.strip() for line in running.out().splitlines() if line.startswith("    ")]
    assert len(lines) == 3 and lines[0].startswith("cd ")
    before = len(running.out())
    done = run(["bash", "-ec", "\n".join(lines)])
    assert done.returncode == 0 and "Receipt(" in done.stdout
    running.wait_for('{"text": "hi"}', '{"log": "testing"}', after=before)
    for name in ("alice", "bob"):

        def shown(what):
            words = [line.split() for line in running.out()[before:].splitlines()]
            return [one for one in words if one[1:3] == [name, what]]

        # An ACK is told of once it has left: whoever waits for it may be here before that.
        wait_for(lambda: len(shown("ACK")) >= 2, "both ACKs of %s are shown" % name)
        received, acked = shown("received"), shown("ACK")
        assert len(received) == len(acked) == 2
        assert {line[3] for line in received} == {line[3] for line in acked}
        assert all(line[4].startswith("com.acme.dev.") for line in received)


def check_typed_lines(running, program):
    running.type("silent alice", "alice receives now, and acknowledges nothing")
    assert program.publishes("alice", ack_timeout=0.2) == "missing alice"
    running.type("well alice", "alice is well")
    running.type("slow bob 0.3", "bob waits 0.3 s now before each ACK")
    assert program.publishes("bob", ack_timeout=0.2) == "missing bob"
    assert program.publishes("alice", "bob") == "['alice', 'bob']"
    running.type("dead bob", "bob is dead")
    running.type("slow bob 1", "bob is dead; make it well first")
    running.type("well bob", "bob is well")
    # Until the program's listener has found it again, an ACK may be lost.
    wait_for(lambda: program.publishes("bob", ack_timeout=0.5) == "['bob']", "bob answers again")
    bad = ["", "rubbish", "silent", "silent carol", "slow alice", "slow alice soon", "slow alice -1",
           "slow alice nan", "dead carol", "\x00\xff"]
    for line in bad:
        running.type(line, "Type one of: silent CN | slow CN SECONDS | dead CN | well CN")
    assert program.publishes("alice", "bob") == "['alice', 'bob']"


def check_a_second_start(directory, kept):
    """Also after one that was killed."""
    with Running(str(directory), "--recipients", "carol", stdin=subprocess.DEVNULL) as running:
        running.wait_for("Its recipients: carol", "Ctrl-C ends it")
        with Publisher(directory) as program:
            assert program.publishes("carol") == "['carol']"
        assert kept <= files(directory)
        assert running.signalled(signal.SIGKILL) == -signal.SIGKILL


def test_without_a_folder_and_without_stdin(tmp_path):
    """A temporary folder goes with it; without stdin it neither ends nor spins; SIGTERM ends it."""
    prefix = ["sh", "-c", 'exec "$0" "$@" <&-']
    with Running(prefix=prefix, stdin=None, env={"TMPDIR": str(tmp_path)}) as running:
        running.wait_for("Its recipients: recipient1, recipient2", "Ctrl-C ends it")
        [folder] = os.listdir(str(tmp_path))
        process = psutil.Process(running.pid)
        cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
        with Publisher(tmp_path / folder) as program:
            assert program.publishes("recipient1", "recipient2") == "['recipient1', 'recipient2']"
        # A spinning process would have had half a processor, at the least, under any load.
        assert sum(process.cpu_times()[:2]) - cpu < 0.1 * (time.monotonic() - began)
        assert running.signalled(signal.SIGTERM) == 0
    assert os.listdir(str(tmp_path)) == []


def test_interrupted_while_it_starts(tmp_path):
    """Ctrl-C before the bus is up: it ends, the temporary folder too, and no process is left."""
    with Running("--recipients", "r1", env={"TMPDIR": str(tmp_path)}) as running:
        wait_for(running.family, "its first process runs")
        assert running.signalled() == 0
        assert running.out() == ""
    assert os.listdir(str(tmp_path)) == []


HOSTILE = """config = {
    "name": "somebody", "cert_prefix": "shell", "active": True, "mute": True, "topic_prefix": "org.other",
    "endpoints": {"prod": ["tcp://127.0.0.1:1"]}, "certnames": {"somebody": "x"}, "sign_messages": False,
    "relay_inbound": "tcp://127.0.0.1:1", "routing_nitpicky": True, "ssldir": "/nowhere",
}"""


def test_a_command(tmp_path):
    """It runs in DIR, has stdin and stdout to itself, needs to name nothing; its status is ours."""
    (tmp_path / "home" / ".fedmsg.d").mkdir(parents=True)
    (tmp_path / "home" / ".fedmsg.d" / "a.py").write_text(HOSTILE)
    code = PUBLISH + (
        "print(publish(sys.argv[1:], 10))\n"
        "import os, fedmsg.config\n"
        "print(os.getcwd(), sys.stdin.read(), fedmsg.config.load_config()['endpoints']['prod'])\n"
        "sys.exit(3)\n"
    )
    words = [sys.executable, "-m", "gilmsg.commands.sandbox", "bus", "--recipients", "r1", "--"]
    words += [sys.executable, "-c", code, "r1"]
    done = run(words, tmp_path, "hello", env={"HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stdout) == (3, "['r1']\n%s hello []\n" % (tmp_path / "bus")), done.stderr
    lines = done.stderr.splitlines()
    assert lines[1] == "Its recipients: r1"
    assert [line.split()[1:3] for line in lines[2:]] == [["r1", "received"], ["r1", "ACK"]]


STUBBORN = (
    "import os, signal, subprocess, sys, time\n"
    "for number in (signal.SIGINT, signal.SIGTERM):\n"
    "    signal.signal(number, signal.SIG_IGN)\n"
    # Orphans, in sessions of their own.
    "subprocess.call(['setsid', '-f', 'sleep', '1000'])\n"
    "subprocess.Popen(['sleep', '1001'])\n"
    "print('stubborn', flush=True)\n"
    "if os.isatty(0): print('got', input(), flush=True)\n"
    "while True: time.sleep(1000)\n"
)


def sleeps(process):
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


def sleepers(process):
    """What STUBBORN has started, when all of it is there."""
    return wait_for(
        lambda: (lambda found: found if len(found) == 2 else None)(
            [one for one in process.children(recursive=True) if sleeps(one)]
        ),
        "both sleep",
    )


def test_a_stubborn_command_at_a_terminal():
    """Ctrl-C at a terminal ends a command that ignores it, and whatever it has started."""
    pty = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    with Running(
        "--recipients", "r1", "--", sys.executable, "-c", STUBBORN, prefix=[sys.executable, "-c", pty]
    ) as running:
        running.wait_for("Its recipients: r1", "stubborn")
        # The terminal is the command's: it can read from it.
        running.type("something", "got something")
        family = running.family()
        assert set(sleepers(psutil.Process(running.pid))) <= set(family)
        running.tell("\x03")
        assert running.end(END_LIMIT) == 128 + signal.SIGINT
        wait_for(lambda: not any(alive(one) for one in family), "no process is left", END_LIMIT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_off_a_terminal_is_told_of_the_signal(number):
    """A command that obeys ends by the signal; one that does not is killed, with all it has started."""
    ended = threading.Event()
    # As in the real thing: or the command ignores what we ignore (SIGINT, in the background of a shell).
    with command.Console(), contextlib.ExitStack() as clean_up:
        obedient = Command(["sleep", "1003"], ".", False, lambda: None)
        clean_up.callback(obedient.clear_away)
        assert obedient.end(number, END_LIMIT) == 128 + number
        stubborn = Command([sys.executable, "-c", STUBBORN], ".", False, ended.set)
        clean_up.callback(stubborn.clear_away)
        found = sleepers(psutil.Process())
        assert stubborn.end(number, 0.1) is None
    assert ended.wait(END_LIMIT) and stubborn.status == 128 + signal.SIGKILL
    assert not any(alive(one) for one in found)


@pytest.mark.parametrize(
    "words, status",
    [
        (["true"], 0), (["sh", "-c", "exit 41"], 41), (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -TERM $$"], 143), (["/no/such/program"], 127), (["/"], 126),
    ],
)
def test_the_status_of_a_command(words, status, monkeypatch, capfd):
    """The command's exit status, 128 + n if a signal ended it, 127 or 126 if it cannot be run."""
    options = command._parse(["--"] + words)
    with command.Console() as console:
        run = command._Run(options, console)
        assert run._run_command(type("Bus", (), {"directory": "/"})) == status
    assert len(capfd.readouterr().err.splitlines()) == (1 if status in (126, 127) else 0)


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
    got = command._parse(line.split())
    assert (got.directory, got.recipients, got.relay, got.topic_prefix, got.command) == expected


@pytest.mark.parametrize(
    "line",
    ["--foo", "D E", "--recipients", "--topic-prefix", "--topic-prefix a..b", "--topic-prefix ''", "''", "--",
     "D --recipients a/b", "--recipients a,b", "--recipients publisher", "--recipients ''", "--rel",
     "/dev/null/x", "--recipients " + 300 * "x"],
)
def test_bad_usage(line, capsys, tmp_path, monkeypatch):
    """Bad usage is one line on stderr and exit 2, and leaves nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert command.main(shlex.split(line)) == 2
    streams = capsys.readouterr()
    assert streams.out == "" and len(streams.err.splitlines()) == 1
    assert streams.err.startswith("gilmsg-sandbox: ")
    assert not any(name.startswith("gilmsg-") for name in os.listdir(str(tmp_path)))


def test_help(capsys):
    """--help shows the usage, the typed lines and an example."""
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    usage = "gilmsg-sandbox [DIR] [--recipients CN [CN ...]] [--relay] [--topic-prefix P] [-- COMMAND ...]"
    lines = ("silent CN", "slow CN SECONDS", "dead CN", "well CN")
    for part in (usage, "$ gilmsg-sandbox --recipients") + lines:
        assert part in text


@pytest.fixture
def typed():
    """A function that makes a descriptor our stdin, which is what it was before afterwards."""
    kept, given = os.dup(0), []

    def give(descriptor):
        given.append(descriptor)
        os.dup2(descriptor, 0)

    yield give
    os.dup2(kept, 0)
    for one in given + [kept]:
        os.close(one)


def test_lines_that_are_typed_are_obeyed_until_ctrl_c(bus, typed, monkeypatch, capsys):
    """Each is answered; Ctrl-C ends it with 0, and what was typed after that is not obeyed."""
    reading, writing = os.pipe()
    typed(reading)
    os.write(writing, b"silent alice\nwell alice\nrubbish\n")
    os.close(writing)
    plain = command.obey

    def obey(sandbox, line):
        if line == "well alice":
            signal.raise_signal(signal.SIGINT)
        return plain(sandbox, line)

    monkeypatch.setattr(command, "obey", obey)
    # The session's bus, to save the time to start another.
    monkeypatch.setattr(command._Run, "_sandbox", lambda self: contextlib.nullcontext(bus))
    assert command.main([]) == 0
    out = capsys.readouterr().out
    assert out.endswith("alice receives now, and acknowledges nothing\nalice is well\n") and "Ctrl-C ends it" in out


def test_a_signal_before_the_command_runs(monkeypatch, capsys):
    """Asked to end while the bus comes up, it never runs COMMAND, and its status is that of a command so ended."""

    def starts(self):
        signal.raise_signal(signal.SIGTERM)
        self._console.check()  # as the sandbox does again and again while it waits

    monkeypatch.setattr(command._Run, "_sandbox", starts)
    assert command.main(["--", "echo", "ran"]) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "")


def test_a_stdin_that_cannot_be_read_is_at_its_end(typed, tmp_path):
    """What is left of it is a line; then nothing more is read, and it neither spins nor fails."""
    with command.Console() as console:
        typed(os.open(str(tmp_path), os.O_RDONLY))  # a folder
        console._rest = b"last"
        assert console._typed() == ["last"] and not console._listening


def test_who_is_woken_often_wakes():
    """However often it is woken before it looks, a console sleeps no more."""
    with command.Console() as console:
        for _ in range(70000):  # more than the pipe holds
            console.wake()
        console.sleep()


def test_a_shown_line_is_one_line():
    """Whatever a message holds, it is shown as one line of bounded length, without our own key."""
    message = {"msg_id": "1\n2", "msg": {"a": "\x1b[2J" + 1000 * "x", "gilmsg": {"recipients": []}}}
    line = described({"event": "message", "topic": "t\r\n", "due": False, "message": message})
    assert line.isprintable() and len(line) < 400 and "recipients" not in line
    assert "no ACK" in line
    assert described({"event": "message", "topic": "a.b.gilmsg.ack", "due": False, "message": {}}) is None
    assert described({"event": "obeys"}) is None
    line = described({"event": "message", "topic": "t", "due": True, "message": {"msg": [1, 2]}})
    assert line == "received  None  t  [1, 2]"


def test_nobody_reads_what_is_shown():
    """When stdout is a closed pipe, the sandbox goes on in silence."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        display = Display(stream)
        for _ in range(3):
            display.text("x" * 100000)


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
    from gilmsg.commands import _display

    assert "--recipients alice bob --ack-timeout 5" in _display.guide(bus, True)
    assert "--recipients" not in _display.guide(bus, False)
    monkeypatch.setattr(_display.sysconfig, "get_path", lambda name: str(tmp_path))
    assert " -m gilmsg.commands.logger --recipients" in _display.guide(bus, True)
    (tmp_path / "gilmsg-logger").touch()
    assert str(tmp_path / "gilmsg-logger") in _display.guide(bus, True)


def test_a_bus_that_does_not_come_up(tmp_path, monkeypatch, capsys):
    """A stand-in that ends at once is told in one line, with exit status 1."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert command.main(["--recipients", "r1", "--topic-prefix", "com.acme"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("gilmsg-sandbox: the process ended before it said 'ready'") and err.count("\n") == 1


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


def test_a_relay_that_does_not_come_up(tmp_path, capsys):
    """A relay that ends at once is told in one line, with what it said last and exit status 1."""
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text("1 / 0")
    assert command.main([str(tmp_path), "--recipients", "r1", "--relay"]) == 1
    told = capsys.readouterr().err
    assert "fedmsg-relay ended with exit status 1" in told and "ZeroDivisionError" in told
    assert told.splitlines()[-1].startswith("gilmsg-sandbox: fedmsg-relay ended")


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


def test_a_display_that_nobody_reads_holds_no_file():
    """However much is shown when nobody reads it any more: no descriptor is lost."""
    reading, writing = os.pipe()
    os.close(reading)
    before = psutil.Process().num_fds()
    with os.fdopen(writing, "w") as stream:
        Display(stream).text("x")
        _streams.forget(stream)
        assert psutil.Process().num_fds() == before
