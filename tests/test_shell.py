"""Each command in a shell: --help, --version, completion, ``python -m gilmsg``, what needs no extra for these, and the log."""

import os
import re
import shutil
import signal
import sys

import pytest
import shtab

import gilmsg
from gilmsg.commands.parsing import SHELLS

from . import processes
from .conftest import own_config
from .docs.pages import shown
from .helpers import REPOSITORY, sampled, write_config
from .test_commands import console_scripts

COMMANDS = [name.partition("-")[2] for name, _ in console_scripts()]

#: Libraries that only extras bring.
EXTRAS = ("aiosqlite", "asyncpg", "prometheus_client", "psycopg", "pytest", "sqlalchemy")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Runs ``python -m gilmsg`` with arguments as where no extra is installed, in an empty folder, and returns its stdout."""
    blocked, empty = tmp_path_factory.mktemp("blocked"), tmp_path_factory.mktemp("empty")
    for name in EXTRAS:
        (blocked / f"{name}.py").write_text("raise ImportError('no module of that name')")
    paths = os.pathsep.join([str(blocked), str(REPOSITORY)])

    def run(*words, status=0):
        env = {"PYTHONPATH": paths, "HOME": str(empty), "COLUMNS": "100"}
        done = processes.module("gilmsg", *words, cwd=empty, env=env)
        assert done.returncode == status and (done.stderr == "") is (status == 0), done
        return done.stdout or done.stderr

    return run


@pytest.mark.slow
def test_python_m_gilmsg_knows_every_command(bare):
    """``python -m gilmsg COMMAND`` works like ``gilmsg-COMMAND``; it lists all commands, and refuses others in one line."""
    told = bare("--help")
    assert all(f"\n    {name} " in told for name in COMMANDS) and f"one of {', '.join(COMMANDS)}" in told
    assert bare("--version") == f"python -m gilmsg {gilmsg.__version__}\n"
    assert "COMMAND" in bare(status=2) and "'lst'" in bare("lst", status=2)
    assert bare("tail", "--nothing", status=2).startswith("gilmsg-tail: unrecognized arguments: --nothing")


@pytest.mark.parametrize("name", sampled(COMMANDS))
def test_help_is_short_and_begins_with_what_is_our_own(bare, name):
    """At 100 columns --help has 60 lines at most, none of them longer; options of fedmsg's commands come last."""
    lines = bare(name, "--help").splitlines()
    assert len(lines) <= 60 and max(map(len, lines)) <= 100
    ours, _, theirs = "\n".join(lines).partition("\noptions of ")
    assert all(option in ours for option in ("--version", "--print-completion"))
    inherited = ("--io-threads", "--topic-prefix", "--high-water-mark", "--json-input", "--cowsay")
    assert name == "sandbox" or not any(f"\n  {option}" in ours for option in inherited)
    assert ("--config-filename" in theirs) is (name in ("check", "logger", "tail"))


@pytest.mark.parametrize("name", sampled(COMMANDS))
def test_version_and_completion(bare, name):
    """Each command prints its version, and a script for each shell that shtab knows of a terminal's."""
    assert bare(name, "--version") == f"gilmsg-{name} {gilmsg.__version__}\n"
    for shell in ("bash", "fish"):
        assert f"gilmsg-{name}" in bare(name, "--print-completion", shell)
    assert "csh" in bare(name, "--print-completion", "csh", status=2)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_takes_the_script(bare, shell, tmp_path):
    """What is printed for a shell, that shell can read; bash, which is everywhere, completes options and subcommands by it."""
    assert set(SHELLS) <= set(shtab.SUPPORTED_SHELLS)
    script = tmp_path / "script"
    script.write_text(bare("outbox", "--print-completion", shell))
    assert "gilmsg-outbox" in script.read_text()
    if shutil.which(shell):  # only bash is everywhere
        check = ["-f", "-c", f"source {script}"] if shell == "tcsh" else ["-n", str(script)]
        assert processes.run([shell, *check], tmp_path).stderr == ""
    if shell == "bash":
        line = "COMP_WORDS=(gilmsg-outbox {}); COMP_CWORD={}; _shtab_gilmsg_outbox; echo ${{COMPREPLY[@]}}; "
        code = f". {script}; " + line.format("re", 1) + line.format("run --na", 2)
        assert processes.run(["bash", "-c", code], tmp_path).stdout.split() == ["retry", "--name"]


def test_the_log_answers_the_first_questions(bus, config, tmp_path, entry=shown("operations/logging", "config =")):
    """With the page's entry in fedmsg.d a command logs as whom it works, from where, with whom, and what has ended."""
    write_config(tmp_path, own_config(bus, name="carol"))
    write_config(tmp_path, entry, "logging.py")
    words = [sys.executable, "-m", "gilmsg", "tail"]
    with processes.Program(words, tmp_path, {"HOME": str(tmp_path)}) as tail:

        def told(*lines):
            processes.wait_for(lambda: all(re.search(line, tail.err()) for line in lines), f"{lines}: {tail}")

        told(r"gilmsg.receive +INFO\] acknowledging as carol from tcp://")
        told(r"gilmsg.publish +INFO\] publishing as carol from tcp://127\.0\.0\.1:\d+, signed with carol")
        assert gilmsg.publish(topic="log", msg={}, recipients=["carol"], ack_timeout=20, **config)
        # Our listener, which is no consumer, is nobody who listens to messages.
        assert not re.search(r"'[0-9a-f]{12}' listens to us", tail.err())
        tail.send(signal.SIGTERM)
        assert tail.end() == 0
        told(r"gilmsg.receive +INFO\] no longer acknowledging as carol", r"gilmsg.listener +INFO\] ended: ")


def test_a_publisher_logs_who_is_connected(bus, config, caplog):
    """Who listens to it, to whom its listener is connected, and what it gives up: each once, and nothing without level INFO."""
    with caplog.at_level("INFO", "gilmsg"):
        gilmsg.publish(topic="log", msg={}, recipients=["alice", "bob"], ack_timeout=20, **{**config, "gilmsg.head_start": 20.0})
        [endpoint] = [text.split()[4] for text in told(caplog, "publishing as publisher")]
        for name in ("alice", "bob"):
            processes.wait_for(lambda name=name: told(caplog, f"'{name}' listens to us at {endpoint.rstrip(',')}"), f"{name} is told")
            where = config["endpoints"][name][0]
            processes.wait_for(lambda where=where: told(caplog, f"connected to {where}"), f"{where} is told")
        gilmsg.publish(topic="log", msg={}, recipients=["alice"], ack_timeout=20)
        gilmsg.destroy()
        assert len(told(caplog, "ended: ")) == len(told(caplog, "publishing as ")) == len(told(caplog, "'alice' listens")) == 1


def told(caplog, beginning):
    """The lines that begin so."""
    return [text for text in map(str, caplog.messages) if text.startswith(beginning)]
