"""The parts that all commands share."""

import functools
import logging
import os
import re
import signal
import sys
import threading
import warnings

import pytest

import gilmsg
from gilmsg import commands
from gilmsg.commands import demo, tail

from ..processes import LIMIT, wait_for


def test_the_unexpected_is_one_line_too(capsys):
    """Whatever a command raises, people read one line, never a traceback; Ctrl-C is 130."""

    def raising(error):
        @commands.script("prog")
        def command(_):
            raise error

        return command()

    with warnings.catch_warnings():
        assert raising(ZeroDivisionError()) == 2
        assert raising(gilmsg.ListenerError("over")) == 1
        assert raising(gilmsg.ConfigurationError("bad")) == 2
        assert raising(KeyboardInterrupt()) == 130
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[1:] == ["prog: over", "prog: bad"]
    assert told.err.startswith("prog: unexpected failure: ZeroDivisionError(")


@pytest.mark.parametrize(
    "value", [3, {"version": 2}, {"version": 1, "incremental": True, "handlers": {"none": {"level": "INFO"}}}]
)
def test_a_logging_key_that_cannot_be_used_is_named(tmp_path, value):
    """What is wrong with the key logging is told with its value."""
    (tmp_path / "only.py").write_text(f"config = {{'endpoints': {{}}, 'logging': {value!r}}}")
    with pytest.raises(gilmsg.ConfigurationError, match=re.escape(f"logging: {value!r} cannot be used")):
        commands.configuration(commands.parsed("prog", [], "", ["--config-filename", "only.py"]))


def test_a_chosen_file_is_all_the_configuration(tmp_path, monkeypatch):
    """With --config-filename nothing that other files say comes in, neither now nor when a context is made of it."""
    # It would close the handlers that pytest has put into this process.
    monkeypatch.setattr(commands.logging.config, "dictConfig", lambda wanted: None)
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text("config = {'endpoints': {}, 'other': 1}")
    (tmp_path / "only.py").write_text("config = {'endpoints': {}, 'mute': True, 'io_threads': 2}")
    config = commands.configuration(commands.parsed("prog", [], "", ["--config-filename", "only.py", "--topic-prefix", "com.acme"]))
    made = gilmsg.init(name="x", **config).c
    for one in (config, made):
        assert "other" not in one and (one["io_threads"], one["topic_prefix"]) == (2, "com.acme")


def test_logging_that_is_configured_is_left_as_it_is(caplog):
    """Where somebody already takes gilmsg's log lines, none of them go to stderr besides."""
    commands.log_to_stderr("prog", logging.WARNING)  # pytest takes them
    assert logging.getLogger("gilmsg").handlers == []


@pytest.fixture
def signals():
    former, hook = {one: signal.getsignal(one) for one in (signal.SIGUSR1, signal.SIGALRM)}, sys.unraisablehook
    yield commands.Signals(signal.SIGUSR1)
    for number, handler in former.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


def test_signals_are_raised_where_they_may_be(signals):
    """Elsewhere they are noted, and raised at the next place; one that follows interrupts nothing."""
    with pytest.raises(commands.Ended), signals.raised():
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.raise_signal(signal.SIGUSR1)
    for _ in range(2):
        with pytest.raises(commands.Ended), signals.raised():
            raise AssertionError("it was forgotten")


def test_a_signal_that_comes_within_a_destructor_is_not_lost(signals, monkeypatch):
    """Python swallows what its handler raises there: it comes again, and nothing is printed. Other errors are printed."""

    class Destroyed:
        def __init__(self, act):
            self.act = act

        def __del__(self):
            self.act()

    told = []
    monkeypatch.setattr(sys, "unraisablehook", functools.partial(signals._swallowed, told.append))
    with pytest.raises(commands.Ended), signals.raised():
        Destroyed(lambda: signal.raise_signal(signal.SIGUSR1))
        assert not threading.Event().wait(LIMIT), "it did not come again"
    assert told == []
    Destroyed(lambda: 1 / 0)
    assert [one.exc_type for one in told] == [ZeroDivisionError]
    told.clear()  # it keeps the object


def test_a_stubborn_command_of_exec_is_killed(signals, tmp_path, monkeypatch):
    """One that ignores SIGTERM has a moment to end, and then no choice."""
    monkeypatch.setattr(tail, "_STOP_LIMIT", 0.1)
    monkeypatch.chdir(tmp_path)
    main = threading.get_ident()

    def interrupt():
        wait_for((tmp_path / "pid").exists, "it runs")
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(commands.Ended):
        tail._execute("trap '' TERM; echo $$ > tmp; mv tmp pid; while :; do sleep 0.1; done", {}, signals)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_demo_fails_if_a_dead_recipient_counts(bus, monkeypatch, capsys):
    """Should publish return though one was to be dead, the demo says so and fails. (It is not killed here.)"""
    monkeypatch.setattr(demo, "RECIPIENTS", ["alice", "bob"])
    monkeypatch.setattr(bus, "dead", lambda name: None)
    monkeypatch.setattr(bus, "config", {**bus.config, "gilmsg.head_start": 20.0})
    assert demo._shows_timeout(bus) is False
    assert "this must never happen" in capsys.readouterr().err
