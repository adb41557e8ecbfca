"""The parts that all commands share."""

import re
import signal
import subprocess
import warnings

import pytest

import gilmsg
from gilmsg.commands import _common, demo, tail


def test_the_unexpected_is_one_line_too(capsys):
    """Whatever a command raises, people read one line, never a traceback; Ctrl-C is 130."""

    def raising(error):
        @_common.script("prog")
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
    with pytest.raises(_common.Unusable, match=re.escape(f"logging: {value!r} cannot be used")):
        _common.configuration("prog", [], "", ["--config-filename", "only.py"])


def test_a_chosen_file_is_all_the_configuration(tmp_path, monkeypatch):
    """With --config-filename nothing that other files say comes in, neither now nor when a context is made of it."""
    # It would close the handlers that pytest has put into this process.
    monkeypatch.setattr(_common.logging.config, "dictConfig", lambda wanted: None)
    (tmp_path / "fedmsg.d").mkdir()
    (tmp_path / "fedmsg.d" / "a.py").write_text("config = {'endpoints': {}, 'other': 1}")
    (tmp_path / "only.py").write_text("config = {'endpoints': {}, 'mute': True, 'io_threads': 2}")
    config = _common.configuration("prog", [], "", ["--config-filename", "only.py", "--topic-prefix", "com.acme"])
    made = gilmsg.init(name="x", **config).c
    for one in (config, made):
        assert "other" not in one and (one["io_threads"], one["topic_prefix"]) == (2, "com.acme")


def test_logging_that_is_configured_is_left_as_it_is(caplog):
    """Where somebody already takes gilmsg's log lines, none of them go to stderr besides."""
    tail._log_to_stderr()  # pytest takes them
    assert tail.logging.getLogger("gilmsg").handlers == []


def test_signals_are_raised_where_they_may_be(monkeypatch):
    """Elsewhere they are noted, and raised at the next place; one that follows interrupts nothing."""
    former = signal.getsignal(signal.SIGUSR1)
    try:
        signals = _common.Signals(signal.SIGUSR1)
        with pytest.raises(_common.Ended), signals.raised():
            with signals.raised(False):
                signal.raise_signal(signal.SIGUSR1)
            raise AssertionError("it was not raised")
        signal.raise_signal(signal.SIGUSR1)
        with pytest.raises(_common.Ended), signals.raised():
            raise AssertionError("it was forgotten")
        signals = _common.Signals(signal.SIGUSR1)
        with pytest.raises(_common.Ended), signals.raised():
            try:
                signal.raise_signal(signal.SIGUSR1)
            finally:
                signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_what_has_ended_is_ended_again():
    """To end a command of --exec that has ended by itself meanwhile does nothing; a stubborn one is killed."""
    done = subprocess.Popen(["true"], start_new_session=True)
    done.wait()
    _common.end_group(done, 10)
    words = ["sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"]
    with subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout.readline() == b"\n"
        _common.end_group(stubborn, 0.1)
        assert stubborn.wait(10) == -signal.SIGKILL


def test_the_demo_fails_if_a_dead_recipient_counts(bus, monkeypatch, capsys):
    """Should publish return though one was to be dead, the demo says so and fails. (It is not killed here.)"""
    monkeypatch.setattr(demo, "RECIPIENTS", ["alice", "bob"])
    monkeypatch.setattr(bus, "dead", lambda name: None)
    monkeypatch.setattr(bus, "config", {**bus.config, "gilmsg.head_start": 20.0})
    assert demo._shows_timeout(bus) is False
    assert "this must never happen" in capsys.readouterr().err
