"""gilmsg-tail, what all commands share, and gilmsg-logger on a terminal."""

import contextlib
import importlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import psutil
import pytest

import gilmsg
from gilmsg import _meta
from gilmsg.commands import _common, _inputs, _lines, _streams
from gilmsg.commands import tail as tail_command
from gilmsg.commands._display import described
from gilmsg.commands._family import end_group
from gilmsg.commands._streams import printable

from . import processes
from . import talking as _process
from .conftest import own_config
from .helpers import REPOSITORY, Inbox, ack_body, signed, write_config

PATIENT = {"gilmsg.ack_timeout": 10.0, "gilmsg.head_start": 20.0}


def console_scripts():
    """(name, module) of each console script, from setup.py: those of later days too."""
    return re.findall(r'"(gilmsg-[\w-]+) = ([\w.]+):main"', (REPOSITORY / "setup.py").read_text())


@pytest.mark.parametrize("name, module", console_scripts())
def test_every_command_has_help_with_an_example(tmp_path, name, module):
    """--help works without any configuration, is all on stdout, shows an example, tells the exit status."""
    done = run(module, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: %s" % name)
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

        _process.wait_for(alice_heard, "what alice says is printed")
        tail.wait_for("from publisher")  # acknowledged before it is printed
        lines = [line for line in tail.out().splitlines() if "from publisher" in line]
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d org.example.dev.tests.t %s from publisher for carol alice: "
            r'{"text": "h\\u00e9\\n\\u001b\[31m"}' % receipt.msg_id, lines[0],
        )
        assert tail.signalled(number) == 0
        assert tail.err() == ""


def test_tail_acknowledges_under_the_name_of_its_option(bus, config, tmp_path):
    """--name wins over the configured name, in the ACK too."""
    with Tail(tmp_path, own_config(bus), "--name", "carol", "--terse") as tail:
        receipt = publish(config)
        assert list(receipt.acks) == ["carol"]
        tail.wait_for("tests.t")


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


def test_config_filename_stands_alone(carol, tmp_path):
    """--config-filename works where no other configuration can be found."""
    (tmp_path / "only.py").write_text("config = %r" % dict(carol, environment="prod"))
    done = run("gilmsg.commands.tail", "--config-filename", "only.py", "--print-config", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["environment"] == "prod", done.stderr


def test_exec_gets_each_message_as_json(bus, config, carol, tmp_path):
    """CMD runs through the shell once per message, in order, the message as JSON on its stdin."""
    command = "cat >> got; echo >> got; echo ran; test $(wc -l < got) -ne 2"
    with Tail(tmp_path, carol, "--include", r"\.tests\.", "--exec", command) as tail:
        ids = [publish(config, n=n).msg_id for n in range(3)]
        _process.wait_for(lambda: tail.out().count("ran\n") == 3, "it ran three times: " + tail.err())
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
        _process.wait_for(lambda: "exit status -9" in tail.err(), "it tells of the signal")
        assert list(publish(config).acks) == ["carol"]


def test_ending_ends_a_running_command(bus, config, carol, tmp_path):
    """SIGTERM while CMD runs ends CMD, and what CMD has started, too."""
    with Tail(tmp_path, carol, "--exec", "echo $$ > pid; sleep 60 & wait") as tail:
        publish(config)
        pid = _process.wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "pid")
        assert tail.signalled(signal.SIGTERM) == 0
        _process.wait_for(lambda: not alive_in_group(int(pid)), "the command has ended", 5)


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


def message(**changes):
    base = {
        "topic": "org.example.dev.logger.log", "msg_id": "2026-x", "timestamp": 0, "username": "joe",
        "i": 1, "msg": {"log": "hello"}, "signature": "s", "certificate": "c",
    }
    return dict(base, **changes)


def shown(config, **options):
    base = dict.fromkeys(["pretty", "really_pretty", "query", "terse", "cowsay", "users", "packages"])
    base.update(exclusive_regexp="_heartbeat", inclusive_regexp="^((?!_heartbeat).)*$")
    base.update(config, **options)
    one = message()
    return _lines.formatter(base)(one) if _lines.wanted(base)(one["topic"], one) else None


def test_the_options_mean_what_they_mean_in_fedmsg_tail(config, tmp_path, monkeypatch):
    """--pretty, --really-pretty, --query, --terse, --cowsay, --users, --exclude, --include."""
    assert "2026-x from joe: {\"log\": \"hello\"}" in shown(config)
    assert "'timestamp': '" + time.ctime(0) in shown(config, pretty=True)
    assert "signature" not in shown(config, pretty=True) + shown(config, really_pretty=True)
    assert "\x1b[" in shown(config, really_pretty=True)
    assert shown(config, query="msg.log,username,none.such") == "hello, joe, None"
    assert shown(config, terse=True).strip() == "logger.log -- hello (joe)"
    assert shown(config, users="ann, joe") and shown(config, users="ann") is None
    assert shown(config, packages="kernel") is None
    assert shown(config, exclusive_regexp="log$") is None and shown(config, inclusive_regexp="git") is None
    # cowsay is a program that need not be installed: this one stands for it.
    cow = tmp_path / "cowsay"
    cow.write_text("#!/bin/sh\nprintf 'moo: '; cat\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shown(config, cowsay=True) == "\ncowsay cannot be run: [Errno 13] Permission denied: 'cowsay'"
    cow.chmod(0o755)
    monkeypatch.setenv("PATH", "%s:/usr/bin:/bin" % tmp_path)
    assert shown(config, cowsay=True) == "\nmoo: hello (joe)"


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"msg": None}, {"timestamp": "x"}, {"timestamp": 1e300}, {"topic": None, "msg": [1]},
        {"topic": "a\nb\x1b[2J"}, {"certificate": 7}, {"username": ["x"]}, {"msg": {"gilmsg": 3}},
        {"topic": "x.gilmsg.ack", "msg": {"ack_msg_id": 5}}, {"msg": {"gilmsg": {"recipients": [None]}}},
    ],
)
def test_any_message_makes_one_clean_line(odd):
    """Whatever a message holds, its line is one line that cannot drive a terminal."""
    line = _lines.one_line(message(**odd) if odd else {})
    assert line and line.isprintable()


def test_an_ack_reads_as_a_sentence(bus, config):
    """An ACK is shown as what it says."""
    ack = signed(config, "carol", ack_body(message()))
    assert _lines.one_line(ack).endswith("carol confirmed receipt of 2026-x")
    assert _meta.who(dict(ack, certificate="rubbish", username="joe")) == "joe"
    assert _meta.who({}) == "somebody"


def logger_on_a_terminal(bus, lines, *arguments):
    """Run gilmsg-logger with stderr on a pseudo terminal; return exit status, stdout, stderr."""
    ours, theirs = os.openpty()
    env = {"HOME": os.getcwd(), "TERM": "xterm", "COLUMNS": "80"}
    words = [sys.executable, "-m", "gilmsg.commands.logger", *arguments]
    try:
        done = processes.run(words, bus.directory, "\n".join(lines), env=env, stderr=theirs)
    finally:
        os.close(theirs)
    shown = io.BytesIO()
    try:
        while shown.write(os.read(ours, 4096)):
            pass
    except OSError:  # its end, on Linux
        pass
    os.close(ours)
    return done.returncode, done.stdout, shown.getvalue().decode()


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


def test_the_demo_fails_if_a_dead_recipient_counts(bus, monkeypatch, capsys):
    """Should publish return though one was to be dead, the demo says so and fails. (It is not killed here.)"""
    from gilmsg.commands import demo

    monkeypatch.setattr(demo, "RECIPIENTS", ["alice", "bob"])
    monkeypatch.setattr(demo, "ACK_TIMEOUT", 10.0)
    monkeypatch.setattr(bus, "dead", lambda name: None)
    assert demo._shows_timeout(bus) is False
    assert "this must never happen" in capsys.readouterr().err


def test_ctrl_c_ends_the_demo(monkeypatch, capsys):
    """Exit status 130 and no traceback."""
    from gilmsg.commands import demo

    def interrupted(_):
        signal.raise_signal(signal.SIGINT)

    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(demo, "_run", interrupted)
        assert demo.main([]) == 130
    finally:
        signal.signal(signal.SIGINT, former)
    assert capsys.readouterr().err == ""


def given(text, **config):
    stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    return list(_inputs.inputs(dict({"json_input": True}, **config), stdin))


@pytest.mark.parametrize(
    "text, expected",
    [
        (b'{"a": 1}', [{"a": 1}]),
        (b'\n{"a": 1}\n\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        (b'{\n "a": 1,\n\n "b": 2\n}\n', [{"a": 1, "b": 2}]),
        (b'{"a":\n1}', [{"a": 1}]),
        (b'{"a": 1}\n\nx\n{"b": 2}', [{"a": 1}, "line 3: 'x' is not JSON: Expecting value at column 1", {"b": 2}]),
        (b'x\n{"b": 2}', ["line 1: 'x' is not JSON: Expecting value at column 1", {"b": 2}]),
        (b'{"a": 1\n{"b": 2}', ["line 1: '{\"a\": 1' is not JSON: Expecting ',' delimiter at column 8", {"b": 2}]),
        # Nothing of a document over several lines is published if it is none.
        (b'[\n{"a": 1},\n\n{"b": 2}\n}\n', ["line 5: '}': the document that begins in line 1 is not JSON: "
                                             "Expecting ',' delimiter at column 1"]),
        (b'{\n', ["line 1: '{': the document that begins in line 1 is not JSON: "
                  "Expecting property name enclosed in double quotes at column 1"]),
        (
            b'{"a": 1}\n{"b": "\xff"}\n{}',
            [{"a": 1}, "line 2: b'{\"b\": \"\\xff\"}' is not text in this locale's encoding", {}],
        ),
        (b'[\n"\xff"]', ["line 2: b'\"\\xff\"]' is not text in this locale's encoding"]),
        (b"[" * 200000, ["line 1: '%s...' is not JSON: it is nested too deeply" % ("[" * 80)]),
    ],
)
def test_json_input_is_told_line_by_line(text, expected):
    """One document, or one a line; what is none is told with its line, and hides none of the others."""
    assert [one.body if one.problem is None else one.where + one.problem for one in given(text)] == expected


def test_there_must_be_json():
    """With --json-input an empty standard input is bad usage."""
    with pytest.raises(_common.Unusable, match="standard input is empty"):
        given(b"\n")


def test_lines_are_handed_out_as_they_come():
    """A line is published when it comes, not when the input ends: it may be a log that is followed."""
    for json_input, line in ((True, b'{"a": 1}\n'), (False, b"a\n")):
        reader, writer = os.pipe()
        with os.fdopen(reader, encoding="utf-8") as stdin, os.fdopen(writer, "wb", 0) as end:
            end.write(line)
            assert next(_inputs.inputs({"json_input": json_input}, stdin)).problem is None


def test_what_is_no_text_is_told():
    """Bytes that are no text are told with their line, whatever the locale makes of them."""
    first, bad, last = given(b"a\n\xffb\nc\n", json_input=False)
    assert (first.body, last.body) == ({"log": "a"}, {"log": "c"})
    assert bad.where + bad.problem == "line 2: b'\\xffb' is not text in this locale's encoding"
    for json_input in (False, True):
        assert "is not text" in given(b"", json_input=json_input, logger_message="\udcff")[0].problem


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
    assert len(re.findall(told, done.stderr)) == 1 and done.stderr.startswith("gilmsg-logger: "), done.stderr
    assert len(re.findall(told, (tmp_path / "kept").read_text())) == 1


def test_the_unexpected_is_one_line_too(capsys):
    """Whatever a command raises, people read one line, never a traceback; Ctrl-C is 130."""
    def interrupted():
        raise KeyboardInterrupt

    def unproven():
        raise gilmsg.ListenerError("over")

    with warnings.catch_warnings():
        assert _common.run("prog", lambda: 1 // 0) == 2
        assert _common.run("prog", unproven) == 1
        assert _common.run("prog", interrupted) == 130
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 2
    assert told.err.startswith("prog: unexpected failure: ZeroDivisionError(")


@pytest.mark.parametrize(
    "value", [3, {"version": 2}, {"version": 1, "incremental": True, "handlers": {"none": {"level": "INFO"}}}]
)
def test_a_logging_key_that_cannot_be_used_is_named(value):
    """What is wrong with the key logging is told with its value."""
    with pytest.raises(_common.Unusable, match=re.escape("logging: %r cannot be used" % (value,))):
        _common._log_as_configured(value)


@pytest.fixture
def unread(monkeypatch):
    """A function that makes stdout, or stderr, a pipe that nobody reads; gives the stream."""
    with contextlib.ExitStack() as opened:

        def make(name):
            reader, writer = os.pipe()
            os.close(reader)
            stream = os.fdopen(writer, "w")
            opened.callback(stream.close)
            monkeypatch.setattr(sys, name, stream)
            return stream

        yield make


def test_nobody_reads_what_is_told(unread):
    """Into pipes that nobody reads, a command tells, complains, and flushes what is left, without an error."""
    out, err = unread("stdout"), unread("stderr")
    _streams.tell("x")
    _streams.complain("prog", "x")
    for stream in (out, err):
        print("x", file=stream, flush=True)  # goes to nowhere by now
    for name in ("stdout", "stderr"):
        print("x", file=unread(name))
    _streams.flush()
    print("x", file=sys.stdout, flush=True)


def test_logging_that_is_configured_is_left_as_it_is(caplog):
    """Where somebody already takes gilmsg's log lines, none of them go to stderr besides."""
    _common.log_to_stderr("prog")  # pytest takes them
    assert logging.getLogger("gilmsg").handlers == []


def test_a_signal_is_held_back_where_it_would_leave_a_command_behind(monkeypatch):
    """While it is held, SIGTERM is kept; released, it is a KeyboardInterrupt; a second one is none any more."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # what it was afterwards
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    told = tail_command._Told()
    try:
        told.listen()
        told.held = True
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            told.release()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def test_where_stdout_is_no_file_nobody_watches_it(monkeypatch):
    """A stdout that was replaced, in a program that calls our main, is left alone."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    tail_command._end_when_unread()
    assert not any(one.name == "gilmsg-tail-stdout" for one in threading.enumerate())


def test_a_query_that_finds_nothing_prints_nothing(config, capsys):
    """A message in which the query finds an empty text has no line."""
    base = dict.fromkeys(["pretty", "really_pretty", "terse", "cowsay", "users", "packages", "topic", "exec"])
    base.update(exclusive_regexp="_heartbeat", inclusive_regexp=".", query="msg.log")
    command = tail_command._Command(dict(config, **base))
    for text in ("", "hello"):
        command._take("t", message(msg={"log": text}))
    assert capsys.readouterr().out == "hello\n"


def shell(line, cwd):
    """Run *line* in a shell, "gilmsg NAME" being a command of ours; return its exit status and stderr."""
    line = re.sub(r"gilmsg (\w+)", r'"$0" -m gilmsg.commands.\1', line)
    done = processes.run(["bash", "-c", line, sys.executable], cwd, env={"HOME": os.getcwd()})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "line, status",
    [
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
        ("gilmsg sandbox --no-such-option 2>&1 | true; exit $PIPESTATUS", 2),
        ("gilmsg sandbox --recipients r1 -- sh -c 'exit 5' <&- >&- 2>&-", 5),
        ("gilmsg logger --recipients nobody --ack-timeout 0.1 --message x 2>&1 | true; exit $PIPESTATUS", 1),
    ],
)
def test_streams_that_are_closed_or_unread(bus, line, status):
    """Closed streams, and pipes that nobody reads, change no exit status and cause no noise."""
    assert shell(line, bus.directory) == (status, "", "")


@pytest.mark.slow
def test_all_is_published_though_nobody_reads(bus):
    """With --verbose into a closed pipe every line is still published; a full disk is told."""
    inbox = Inbox(bus, "unread")
    words = "gilmsg logger --topic unread --recipients alice --ack-timeout 5 --verbose"
    unread = "printf '1\\n2\\n3\\n' | %s | true; exit ${PIPESTATUS[1]}" % words
    assert shell(unread, bus.directory) == (0, "", "")
    assert [message["msg"]["log"] for message in inbox.messages()] == ["1", "2", "3"]
    status, _, told = shell("echo 1 | %s > /dev/full" % words, bus.directory)
    assert (status, told) == (2, "gilmsg-logger: [Errno 28] No space left on device\n")


#: A signal that is taken in a finalizer, which Python lets nothing out of; and then a wait without end.
IN_A_FINALIZER = """
import os, signal, sys
from gilmsg.commands.tail import _Told

class Finalized:
    def __init__(self, strike):
        self.__class__.__del__ = lambda self: strike()

def strike():
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    for _ in range(1000): pass

_Told().listen()
try:
    Finalized(strike)
    signal.pause()
except KeyboardInterrupt:
    print("ended")
    Finalized(lambda: 1 / 0)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_in_a_finalizer_ends_it_too(tmp_path, name):
    """It is neither lost nor printed; anything else that goes wrong there is printed, as ever."""
    done = processes.python(IN_A_FINALIZER, tmp_path, name)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    assert "KeyboardInterrupt" not in done.stderr and "ZeroDivisionError" in done.stderr


def test_what_has_ended_is_ended_again():
    """To end a command of --exec that has ended by itself meanwhile does nothing; a stubborn one is killed."""
    done = subprocess.Popen(["true"], start_new_session=True)
    done.wait()
    end_group(done, 10)
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"], start_new_session=True, stdout=subprocess.PIPE
    )
    with stubborn:
        assert stubborn.stdout.readline() == b"\n"
        end_group(stubborn, 0.1)
        assert stubborn.wait(10) == -signal.SIGKILL


def test_a_reader_that_has_gone_is_no_message_that_went_wrong(config, unread):
    """A line that cannot be printed, for nobody reads, is a reason to end, not one to log and go on."""
    base = dict.fromkeys(["pretty", "really_pretty", "query", "terse", "cowsay", "users", "packages", "topic", "exec"])
    command = tail_command._Command(dict(config, **base, exclusive_regexp="_heartbeat", inclusive_regexp="."))
    unread("stdout")
    with pytest.raises(BrokenPipeError):
        command._take("t", message())
    _streams.forget(sys.stdout)  # or what it still holds would be written when it is closed


def test_a_chosen_file_is_all_the_configuration(tmp_path, monkeypatch):
    """With --config-filename nothing that other files say comes in, neither now nor when a context is made of it."""
    # It would close the handlers that pytest has put into this process.
    monkeypatch.setattr(_common, "_log_as_configured", lambda wanted: None)
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text("config = {'endpoints': {}, 'other': 1}")
    (tmp_path / "only.py").write_text("config = {'endpoints': {}, 'mute': True, 'io_threads': 2}")
    config = _common.configuration("prog", [], "", ["--config-filename", "only.py", "--topic-prefix", "com.acme"])
    made = gilmsg.init(name="x", **config).c
    for one in (config, made):
        assert "other" not in one and (one["io_threads"], one["topic_prefix"]) == (2, "com.acme")
    with pytest.raises(gilmsg.ConfigurationError, match="config_filename: 'none.py' is not a file"):
        _common.configuration("prog", [], "", ["--config-filename", "none.py"])
    (tmp_path / "only.py").write_text("config = {")
    with pytest.raises(_common.Unusable, match="cannot be loaded: only.py: it cannot be read: SyntaxError"):
        _common.configuration("prog", [], "", ["--config-filename", "only.py"])


def test_what_is_shown_cannot_turn_a_line_round():
    """Neither gilmsg-tail nor gilmsg-sandbox shows what a terminal might obey, or a text that reads backwards."""
    text = "a\x1b\x9b\r\n\t\u2028\u202e\u2066\u200fb \u00e9\u65e5"
    event = {"event": "message", "due": True, "message": {"msg": {"x": text}}}
    clean = "a%sb \u00e9\u65e5" % ("?" * 9)
    assert clean in _lines.one_line(message(topic=text)) and clean in described(dict(event, topic=text))
    assert printable(text) == "a???\n\t\u2028???b \u00e9\u65e5"
