"""gilmsg-sandbox, run as users run it."""

import functools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from .helpers import sampled, write_config
from .processes import LIMIT, Program, environment, run, wait_for

#: Seconds. Three are promised; a CI machine has a lot else to do.
END_LIMIT = 10

#: How long what runs for ever sleeps; no other run of these tests on this machine sleeps just as long.
LONG = str(1000000 + os.getpid())

STUBBORN = [sys.executable, "-m", "tests.programs.stubborn"]


class Publisher(Program):
    """A program started in a folder, which names its recipients and nothing else."""

    def __init__(self, directory):
        super().__init__([sys.executable, "-m", "tests.programs.publishing"], directory)

    def publishes(self, *recipients, ack_timeout=10):
        before = len(self.out())
        self.tell(f"{ack_timeout} {' '.join(recipients)}\n")
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
    mine = write_config(directory, {"mine": 1, "gilmsg.head_start": 20.0}, "mine.py")  # a busy machine needs it
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

    def shown(name, what):
        words = [line.split() for line in running.out()[before:].splitlines()]
        return [one for one in words if one[1:3] == [name, what]]

    for name in ("alice", "bob"):
        # An ACK is told of once it has left: whoever waits for it may be here before that.
        wait_for(lambda name=name: len(shown(name, "ACK")) >= 2, f"both ACKs of {name} are shown")
        received, acked = shown(name, "received"), shown(name, "ACK")
        assert len(received) == len(acked) == 2
        assert {line[3] for line in received} == {line[3] for line in acked}
        assert all(line[4].startswith("com.acme.dev.") for line in received)


def check_typed_lines(running, program):
    running.type("silent alice", "alice receives now, and acknowledges nothing")
    assert program.publishes("alice", ack_timeout=0.2) == "missing alice"
    running.type("well alice", "alice is well")
    running.type("slow bob 2", "bob waits 2 s now before each ACK")
    assert program.publishes("bob", ack_timeout=0.2) == "missing bob"
    assert program.publishes("alice", "bob") == "['alice', 'bob']"
    running.type("dead bob", "bob is dead")
    running.type("well bob", "bob is well")
    # Until the program's listener has found it again, an ACK may be lost.
    wait_for(lambda: program.publishes("bob", ack_timeout=0.5) == "['bob']", "bob answers again")
    for line in ["", "slow alice -1", "\x00\xff"]:
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_interrupted_while_it_starts(tmp_path):
    """Ctrl-C before the bus is up: it ends, the temporary folder too, and no process is left."""
    (tmp_path / "temporary").mkdir()
    env = children_that(tmp_path, "import time; time.sleep(600)")
    with Running("--recipients", "r1", env={"TMPDIR": str(tmp_path / "temporary"), **env}) as running:
        wait_for(running.family, "its first process runs")
        assert running.signalled() == 0
        assert running.out() == ""
    assert os.listdir(str(tmp_path / "temporary")) == []


def children_that(folder, code):
    """An environment in which whatever a program starts in Python does *code* instead of its work."""
    condition = "if os.environ.setdefault('STARTED', str(os.getpid())) != str(os.getpid())"
    (folder / "sitecustomize.py").write_text(f"import os\n{condition}: {code}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), environment()["PYTHONPATH"]])}


HOSTILE = """config = {
    "name": "somebody", "cert_prefix": "shell", "active": True, "mute": True, "topic_prefix": "org.other",
    "endpoints": {"prod": ["tcp://127.0.0.1:1"]}, "certnames": {"somebody": "x"}, "sign_messages": False,
    "relay_inbound": "tcp://127.0.0.1:1", "routing_nitpicky": True, "ssldir": "/nowhere",
}"""


def test_a_command(tmp_path):
    """It runs in DIR, has stdin and stdout to itself, needs to name nothing; its status is ours."""
    (tmp_path / "home" / ".fedmsg.d").mkdir(parents=True)
    (tmp_path / "home" / ".fedmsg.d" / "a.py").write_text(HOSTILE)
    words = [sys.executable, "-m", "gilmsg.commands.sandbox", "bus", "--recipients", "r1", "--"]
    words += [sys.executable, "-m", "tests.programs.publishing", "r1"]
    done = run(words, tmp_path, "hello", env={"HOME": str(tmp_path / "home")})
    assert (done.returncode, done.stdout) == (3, "['r1']\n%s hello []\n" % (tmp_path / "bus")), done.stderr
    lines = done.stderr.splitlines()
    assert lines[1] == "Its recipients: r1"
    assert [line.split()[1:3] for line in lines[2:]] == [["r1", "received"], ["r1", "ACK"]]


def sleepers(process):
    """What STUBBORN has started, when all of it is there."""

    def both():
        found = [one for one in process.children(recursive=True) if sleeps(one)]
        return found if len(found) == 2 else None

    return wait_for(both, "both sleep")


def sleeps(process):
    try:
        return process.name() == "sleep"
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


@pytest.mark.slow
@pytest.mark.parametrize("terminal, number", [(True, signal.SIGINT), (True, signal.SIGTERM), (False, signal.SIGTERM)])
def test_a_stubborn_command(terminal, number):
    """Ctrl-C, or SIGTERM, ends a command that ignores it, and whatever it has started."""
    prefix = [sys.executable, "-m", "tests.programs.terminal"] if terminal else []
    with Running("--recipients", "r1", "--", *STUBBORN, prefix=prefix) as running:
        running.wait_for("Its recipients: r1", "stubborn")
        if terminal:  # it is the command's: it can read from it
            running.type("something", "got something")
        family = running.family()
        assert set(sleepers(psutil.Process(running.pid))) <= set(family)
        if number == signal.SIGINT:
            running.tell("\x03")
        else:
            process = psutil.Process(running.pid)
            (process.children()[0] if terminal else process).send_signal(number)
        assert running.end(END_LIMIT) == 128 + number
        wait_for(lambda: not any(alive(one) for one in family), "no process is left", END_LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_off_a_terminal_is_told_of_the_signal(number):
    """A command that obeys ends by it at once."""
    with Running("--recipients", "r1", "--", "sh", "-c", "echo runs; exec sleep 1003") as running:
        running.wait_for("runs")
        assert running.signalled(number) == 128 + number


@pytest.mark.parametrize(
    "words, status",
    sampled([
        (["sh", "-c", "exit 41"], 41), (["sh", "-c", "kill -9 $$"], 137), (["/no/such/program"], 127), (["/"], 126),
        # What has moved to a session of its own, and whose parent has ended, ends too.
        (["setsid", "-f", "sleep", LONG], 0),
    ]),
)
def test_the_status_of_a_command(words, status):
    """The command's exit status, 128 + n if a signal ended it, 127 or 126 if it cannot be run; nothing is left."""
    with Running("--recipients", "r1", "--", *words) as running:
        assert running.end(LIMIT) == status  # it has to come up, too
        assert (f"gilmsg-sandbox: cannot run {words[0]} in " in running.out()) == (status in (126, 127))
    found = functools.partial(psutil.process_iter, ["cmdline"])
    wait_for(lambda: not [one for one in found() if one.info["cmdline"] == ["sleep", LONG]], "it is gone", END_LIMIT)


def test_typed_lines_until_ctrl_c(tmp_path):
    """Each is answered; Ctrl-C ends it with 0."""
    with Running("--recipients", "alice") as running:
        running.type("silent alice", "alice receives now, and acknowledges nothing")
        running.type("rubbish", "'rubbish' is not understood. Type one of: silent CN")
        running.close_stdin()
        assert running.signalled() == 0


@pytest.mark.slow
def test_a_signal_before_the_command_runs(tmp_path):
    """Asked to end while the bus comes up, it never runs COMMAND, and its status is that of a command so ended."""
    env = children_that(tmp_path, "import time; time.sleep(600)")
    with Running("--recipients", "r1", "--", "echo", "ran", env=env) as running:
        wait_for(running.family, "its first process runs")
        assert running.signalled(signal.SIGTERM) == 128 + signal.SIGTERM
        assert running.out() == ""


@pytest.mark.slow
def test_a_bus_that_does_not_come_up(tmp_path):
    """A stand-in, or a relay, that ends at once is told in one line, with exit status 1."""
    words = [sys.executable, "-m", "gilmsg.commands.sandbox", "--recipients", "r1", "--topic-prefix", "com.acme"]
    done = run(words, tmp_path, env=children_that(tmp_path, "os._exit(3)"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("gilmsg-sandbox: the process ended before it said 'ready'")
    write_config(tmp_path, "1 / 0")
    done = run([*words[:3], str(tmp_path), "--recipients", "r1", "--relay"], tmp_path)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("gilmsg-sandbox: fedmsg-relay ended with exit status 1")
