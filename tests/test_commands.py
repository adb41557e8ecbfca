"""The commands, run as users run them: gilmsg-tail, gilmsg-logger, gilmsg-demo, and what all of them share."""

import contextlib
import fcntl
import importlib
import json
import os
import re
import signal
import socket
import struct
import sys
import termios

import psutil
import pytest

import gilmsg

from . import processes
from .conftest import own_config
from .helpers import REPOSITORY, Inbox, sampled, write_config

PATIENT = {"gilmsg.ack_timeout": 10.0, "gilmsg.head_start": 20.0}


def console_scripts():
    """(name, module) of each console script, from setup.py: those of later days too."""
    return re.findall(r'"(gilmsg-[\w-]+) = ([\w.]+):main"', (REPOSITORY / "setup.py").read_text())


@pytest.mark.parametrize("name, module", sampled(console_scripts()))
def test_every_command_has_help_with_an_example(tmp_path, name, module):
    """--help works without any configuration, is all on stdout, shows an example, tells the exit status."""
    done = run(module, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name}")
    example = done.stdout.lower().partition("example")[2]
    assert name in example, done.stdout
    assert re.search("exit\\s+status", done.stdout.lower())


def test_the_console_scripts_are_found():
    """The expression above sees all of them, and each module has its main."""
    scripts = console_scripts()
    assert len(scripts) == (REPOSITORY / "setup.py").read_text().count(':main"') >= 3
    for _, module in scripts:
        assert callable(importlib.import_module(module).main)


def run(name, *arguments, cwd, text="", **more):
    return processes.module(name, *arguments, cwd=cwd, text=text, env=dict({"HOME": str(cwd)}, **more))


class Tail(processes.Program):
    """gilmsg-tail, as carol, in a folder with the bus's configuration."""

    def __init__(self, folder, config, *arguments, stdout=None, **variables):
        write_config(folder, config)
        words = [sys.executable, "-m", "gilmsg.commands.tail", *arguments]
        streams = {} if stdout is None else {"stdout": stdout}
        super().__init__(words, folder, dict({"HOME": str(folder)}, **variables), **streams)

    def signalled(self, number):
        """Send it a signal; return its exit status."""
        self.send(number)
        return self.end()


@pytest.fixture
def carol(bus, config):
    return own_config(bus, name="carol")


def publish(config, recipients=("carol",), topic="t", **body):
    return gilmsg.publish(topic=topic, msg=body, recipients=list(recipients), **dict(config, **PATIENT))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_tail_acknowledges_and_prints_a_line(bus, config, carol, tmp_path, number):
    """What names us is acknowledged and printed as one line; a signal ends it with 0, silently."""
    with Tail(tmp_path, carol) as tail:
        receipt = publish(config, ["carol", "alice"], text="h\u00e9\n\x1b[31m")
        assert sorted(receipt.acks) == ["alice", "carol"]
        sent = [receipt.msg_id]

        def alice_heard():
            """Another message, for the tail may not have been connected to alice when she acknowledged the former."""
            sent.append(publish(config, ["carol", "alice"]).msg_id)
            return any("alice confirmed receipt of " + one in tail.out() for one in sent)

        processes.wait_for(alice_heard, "what alice says is printed")
        tail.wait_for("from publisher")  # acknowledged before it is printed
        lines = [line for line in tail.out().splitlines() if "from publisher" in line]
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d org.example.dev.tests.t "
            rf"{receipt.msg_id} from publisher for carol alice: " r'{"text": "h\\u00e9\\n\\u001b\[31m"}', lines[0],
        )
        assert tail.signalled(number) == 0
        assert tail.err() == ""


def test_tail_acknowledges_under_the_name_of_its_option(bus, config, tmp_path):
    """--name wins over the configured name, in the ACK too."""
    with Tail(tmp_path, own_config(bus), "--name", "carol", "--terse") as tail:
        receipt = publish(config)
        assert list(receipt.acks) == ["carol"]
        tail.wait_for("tests.t")


def test_tail_json_is_for_programs(bus, config, carol, tmp_path):
    """--json prints each message whole, an object a line; with another format it is bad usage."""
    with Tail(tmp_path, carol, "--json", "--include", r"\.tests\.") as tail:
        sent = [publish(config, n=n) for n in range(2)]
        tail.wait_for(sent[1].msg_id)
        got = [json.loads(line) for line in tail.lines]
        assert [(one["msg_id"], one["msg"]["n"]) for one in got] == [(one.msg_id, n) for n, one in enumerate(sent)]
        assert all(one["signature"] and one["certificate"] for one in got)
    with Tail(tmp_path, carol, "--json", "--terse") as tail:
        assert tail.end() == 2 and "--terse" in tail.err()


def test_tail_without_a_name_says_so(config, tmp_path):
    """Where it would have to sign, but under no name, it ends with 2 and one line."""
    with Tail(tmp_path, dict(config, name=None)) as tail:
        assert tail.end() == 2
        assert len(tail.err().splitlines()) == 1 and "--name" in tail.err()


@pytest.mark.parametrize(
    "arguments, content",
    [
        (["--include", "("], None),
        (["--no-such-option"], None),
        (["--name", "unknown"], None),
        ([], "config = {'endpoints': {}}\n)"),
        (["--config-filename", "missing.py"], None),
        (["--config-filename", "fedmsg.d/rubbish.py"], "config = 1 +"),
    ],
)
def test_tail_refuses_in_one_line(carol, tmp_path, arguments, content):
    """Bad usage or configuration: exit 2 and one line on stderr."""
    if content:
        write_config(tmp_path, content, "rubbish.py")
    with Tail(tmp_path, carol, *arguments) as tail:
        assert tail.end() == 2
        assert len(tail.err().splitlines()) == 1 and tail.out() == "", tail.err()
        named = arguments[1:] + (["rubbish.py"] if content else [])
        assert all(one in tail.err() for one in named), tail.err()


def test_exec_gets_each_message_as_json(bus, config, carol, tmp_path):
    """CMD runs through the shell once per message, in order, the message as JSON on its stdin."""
    command = "cat >> got; echo >> got; echo ran; test $(wc -l < got) -ne 2"
    with Tail(tmp_path, carol, "--include", r"\.tests\.", "--exec", command) as tail:
        ids = [publish(config, n=n).msg_id for n in range(3)]
        processes.wait_for(lambda: tail.out().count("ran\n") == 3, "it ran three times: " + tail.err())
        got = [json.loads(line) for line in (tmp_path / "got").read_text().splitlines()]
        assert [message["msg_id"] for message in got] == ids
        assert [message["msg"]["n"] for message in got] == [0, 1, 2]
        assert all(message["signature"] and message["certificate"] for message in got)
        errors = tail.err().splitlines()
        assert len(errors) == 1 and ids[1] in errors[0] and "exit status 1" in errors[0]
        assert tail.signalled(signal.SIGTERM) == 0


def test_a_command_that_does_not_read_ends_nothing(bus, config, carol, tmp_path):
    """CMD may ignore its stdin, be killed, or not exist at all."""
    command = "case $(ls | wc -l) in *) kill -9 $$;; esac"
    with Tail(tmp_path, carol, "--include", r"\.tests\.", "--exec", command) as tail:
        publish(config, text="x" * 300000)
        processes.wait_for(lambda: "exit status -9" in tail.err(), "it tells of the signal")
        assert list(publish(config).acks) == ["carol"]


def test_ending_ends_a_running_command(bus, config, carol, tmp_path):
    """SIGTERM while CMD runs ends CMD, and what CMD has started, too."""
    with Tail(tmp_path, carol, "--exec", "echo $$ > pid; sleep 60 & wait") as tail:
        publish(config)
        pid = processes.wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "pid")
        assert tail.signalled(signal.SIGTERM) == 0
        processes.wait_for(lambda: not alive_in_group(int(pid)), "the command has ended", 20)


def alive_in_group(group):
    """The processes of a group; a zombie that nobody reaps is none."""
    found = []
    for process in psutil.process_iter(["pid", "status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def socket_pair():
    """Two descriptors like those of os.pipe(); inetd, for one, gives a command a socket."""
    return tuple(one.detach() for one in socket.socketpair())


def test_a_closed_pipe_ends_it(bus, config, carol, tmp_path):
    """When nobody reads its output any more it ends by itself, with 0 and without a traceback."""
    for message, channel in ((True, os.pipe), (False, socket_pair)):
        reader, writer = channel()
        with Tail(tmp_path, carol, stdout=writer) as tail:
            os.close(writer)
            publish(config)  # it is up
            os.close(reader)
            if message:
                gilmsg.publish(topic="u", msg={}, recipients=[])
            assert tail.end() == 0
            assert tail.err() == ""


def test_nothing_from_the_bus_ends_it(bus, config, carol, tmp_path):
    """A message that cannot be shown as asked is logged, and the next one is shown."""
    unchecked = dict(carol, validate_signatures=False)
    with Tail(tmp_path, unchecked, "--pretty") as tail:
        publish(config)

        def spoil(message):
            del message["timestamp"]

        gilmsg.publish(topic="odd", msg={}, recipients=["carol"], ack_timeout=10.0, pre_fire_hook=spoil)
        receipt = publish(config, text="fine")
        tail.wait_for(receipt.msg_id)
        assert "timestamp" in tail.err() and "signature" not in tail.out()
        assert tail.signalled(signal.SIGINT) == 0


def logger_on_a_terminal(bus, lines, *arguments):
    """Run gilmsg-logger with stderr on a pseudo terminal; return exit status, stdout, stderr."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    words = [sys.executable, "-m", "gilmsg.commands.logger", *arguments]
    try:
        done = processes.run(words, bus.directory, "\n".join(lines), env={"HOME": os.getcwd()}, stderr=theirs)
    finally:
        os.close(theirs)
    shown = b""
    with open(ours, "rb", 0) as terminal, contextlib.suppress(OSError):  # at the end, which is an error of a terminal
        while piece := terminal.read(4096):  # the kernel hands it over bit by bit
            shown += piece
    return done.returncode, done.stdout, shown.decode()


def test_a_long_input_shows_progress_on_a_terminal(bus):
    """On a terminal the number of messages done is shown while it runs, complaints in between."""
    few = ["--recipients", "nobody", "--ack-timeout", "0.4"]
    status, output, terminal = logger_on_a_terminal(bus, "abcd", *few)
    assert (status, output) == (1, "")
    assert re.search(r"[1-4] messages \[", terminal), terminal
    complaints = [line for line in re.split(r"[\r\n]+", terminal) if "missing: nobody" in line]
    assert len(complaints) == 4 and all("messages [" not in line for line in complaints)


def test_in_a_pipe_it_is_silent(bus):
    """Where stderr is no terminal nothing is shown, however long it takes."""
    few = ["--recipients", "nobody", "--ack-timeout", "0.4"]
    done = run("gilmsg.commands.logger", *few, cwd=bus.directory, text="a\nb\nc\nd\n", HOME=os.getcwd())
    assert done.returncode == 1 and "messages [" not in done.stderr
    assert len(done.stderr.splitlines()) == 4


def test_verbose_tells_who_confirmed(bus):
    """gilmsg-logger --verbose prints a line per message: topic, id, who, and after what time."""
    done = run(
        "gilmsg.commands.logger", "--recipients", "alice,bob", "--ack-timeout", "5", "--verbose",
        "--message", "x", cwd=bus.directory, HOME=os.getcwd(),
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"org.example.dev.logger.log \d{4}-\S+ confirmed by ((alice|bob) \(\d+\.\d ms\)(, )?)+\n", done.stdout
    )


def test_ctrl_c_ends_the_demo(tmp_path):
    """Exit status 130 and no traceback."""
    words = [sys.executable, "-m", "gilmsg.commands.demo"]
    with processes.Program(words, tmp_path, {"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for("starting 3 recipients")
        demo.send(signal.SIGINT)
        assert (demo.end(), demo.err(), os.listdir(str(tmp_path))) == (130, "", [])


def test_one_bad_line_does_not_stop_the_others(bus):
    """Each good line is published, each bad one told with its number; at the end the exit status is 2."""
    inbox = Inbox(bus, "badline")
    options = ["--json-input", "--topic", "badline", "--recipients", "alice", "--ack-timeout", "5"]
    done = run(
        "gilmsg.commands.logger", *options, cwd=bus.directory,
        text='{"n": 1}\n[2]\n{"gilmsg": 3}\nfour\n{"n": 5}\n', HOME=os.getcwd(),
    )
    assert (done.returncode, done.stdout) == (2, "")
    told = [re.match(r"gilmsg-logger: line (\d): .*(\[2\]|'gilmsg'|'four')", line) for line in done.stderr.splitlines()]
    assert [one and one.group(1) for one in told] == ["2", "3", "4"], done.stderr
    assert [message["msg"].get("n") for message in inbox.messages()] == [1, 5]


LOGGED = {
    "version": 1,
    "handlers": {
        "shown": {"class": "logging.StreamHandler", "level": "DEBUG", "stream": "ext://sys.stderr"},
        "kept": {"class": "logging.FileHandler", "filename": "kept"},
    },
    "root": {"level": "INFO", "handlers": ["shown", "kept"]},
}


@pytest.mark.parametrize("recipients", [["--recipients", "nobody"], pytest.param([], marks=pytest.mark.slow)])
def test_nothing_is_told_twice(config, tmp_path, recipients):
    """Where fedmsg.d logs to stderr too, what the command tells there is there once; other logs have it."""
    alone = dict(config, relay_inbound="tcp://127.0.0.1:1", logging=LOGGED)
    alone["gilmsg.head_start"] = 0
    write_config(tmp_path, alone)
    words = recipients + ["--ack-timeout", "0.1", "--cert-prefix", "shell", "--message", "x"]
    done = run("gilmsg.commands.logger", *words, cwd=tmp_path)
    assert done.returncode == (1 if recipients else 0)
    told = "missing: nobody" if recipients else "without recipients|no recipients"
    [line] = [line for line in done.stderr.splitlines() if re.search(told, line)]
    assert line.startswith("gilmsg-logger: "), done.stderr
    assert len(re.findall(told, (tmp_path / "kept").read_text())) == 1


def shell(line, cwd):
    """Run *line* in a shell, "gilmsg NAME" being a command of ours; return its exit status and stderr."""
    line = re.sub(r"gilmsg (\w+)", r'"$0" -m gilmsg.commands.\1', line)
    done = processes.run(["bash", "-c", line, sys.executable], cwd, env={"HOME": os.getcwd()})
    return done.returncode, done.stdout, done.stderr


#: A line for the shell, and its exit status.
STREAMS = [
    ("gilmsg logger --recipients alice <&- >&- 2>&-", 0),
    ("gilmsg logger --recipients nobody --ack-timeout 0.1 --message x 2>&-", 1),
    ("gilmsg logger --no-such-option <&- 2>&-", 2),
    ("gilmsg check --recipients alice <&- >&- 2>&-", 0),
    ("gilmsg demo <&- >&- 2>&-", 0),
    ("gilmsg tail --include '(' <&- >&- 2>&-", 2),
    ("timeout 8 gilmsg tail --name carol <&- >&- 2>&-", 124),  # until it is told to end
    ("gilmsg check --recipients alice | true; exit $PIPESTATUS", 0),
    ("gilmsg demo | true; exit $PIPESTATUS", 0),
    ("gilmsg sandbox --help | true; exit $PIPESTATUS", 0),
    ("gilmsg sandbox --help >&-", 0),
    ("gilmsg sandbox --recipients r1 -- sh -c 'exit 5' <&- >&- 2>&-", 5),
    ("gilmsg logger --recipients nobody --ack-timeout 0.1 --message x 2>&1 | true; exit $PIPESTATUS", 1),
]


@pytest.mark.parametrize(
    "line, status", sampled(STREAMS, ("gilmsg sandbox --no-such-option 2>&1 | true; exit $PIPESTATUS", 2))
)
def test_streams_that_are_closed_or_unread(bus, line, status):
    """Closed streams, and pipes that nobody reads, change no exit status and cause no noise."""
    assert shell(line, bus.directory) == (status, "", "")


@pytest.mark.slow
def test_all_is_published_though_nobody_reads(bus):
    """With --verbose into a closed pipe every line is still published; a full disk is told."""
    inbox = Inbox(bus, "unread")
    words = "gilmsg logger --topic unread --recipients alice --ack-timeout 20 --verbose"
    unread = f"printf '1\\n2\\n3\\n' | {words} | true; exit ${{PIPESTATUS[1]}}"
    assert shell(unread, bus.directory) == (0, "", "")
    assert [message["msg"]["log"] for message in inbox.messages()] == ["1", "2", "3"]
    status, _, told = shell(f"echo 1 | {words} > /dev/full", bus.directory)
    assert (status, told) == (2, "gilmsg-logger: [Errno 28] No space left on device\n")
