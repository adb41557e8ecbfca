"""gilmsg-outbox and the outbox of gilmsg-demo, from within: what does not happen by itself."""

import signal

import pytest

import gilmsg
from gilmsg import commands
from gilmsg.commands import demo, outbox

from ..helpers import write_config


@pytest.fixture
def in_process(monkeypatch, recwarn):
    """Let a command run in this process, and leave logging and signals as they are."""
    monkeypatch.setattr(commands.logging.config, "dictConfig", lambda wanted: None)
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def test_a_deliverer_that_ends_by_itself_has_failed(in_process, config, tmp_path, monkeypatch, capsys):
    """The exit status is 1: whoever watches over the command starts it again."""
    write_config(tmp_path, config)
    monkeypatch.setattr(gilmsg.outbox.Outbox, "run", lambda box, **config: None)
    assert outbox.main(["run", "--database", str(tmp_path / "box")]) == 1
    assert capsys.readouterr().err == "gilmsg-outbox: the deliverer ended by itself; what it logged says why\n"


def test_a_signal_before_it_delivers_ends_it_too(in_process, config, tmp_path, monkeypatch):
    """It is noted while the database is opened, and counts then: nothing is delivered, and the exit status is 0."""
    write_config(tmp_path, config)
    made = gilmsg.outbox.Outbox.__init__

    def interrupted(box, *arguments):
        signal.raise_signal(signal.SIGTERM)
        made(box, *arguments)

    monkeypatch.setattr(gilmsg.outbox.Outbox, "__init__", interrupted)
    monkeypatch.setattr(gilmsg.outbox.Outbox, "run", lambda box, **config: pytest.fail("it delivers"))
    assert outbox.main(["run", "--database", str(tmp_path / "box")]) == 0


@pytest.mark.parametrize(
    "seconds, told",
    [(-5.0, "0 s"), (0.9, "0 s"), (59.9, "59 s"), (60.0, "1 min"), (7199.0, "1 h"), (86400.0 * 400, "400 d")],
)
def test_a_span_is_told_in_whole_units(seconds, told):
    """Of the largest unit that fits; what a clock that was set back makes negative is nothing."""
    assert outbox._span(seconds) == told


def test_a_body_that_is_no_text_is_shown_by_its_bytes():
    """SQLite stores whatever it is given."""
    assert outbox._decoded(b"\xff") == "b'\\xff'"


@pytest.mark.slow
def test_the_demo_fails_if_nothing_is_delivered(bus, monkeypatch, capsys):
    """Where the recipient does not come back, as in this test, the demo ends, and fails."""
    monkeypatch.setattr(demo, "RECIPIENTS", ["alice", "bob"])
    monkeypatch.setattr(demo, "_PATIENCE", 6.0)
    well = bus.well
    monkeypatch.setattr(bus, "well", lambda name: None)
    assert demo._shows_outbox(bus) is False
    assert "confirmed" not in capsys.readouterr().out
    well("bob")
