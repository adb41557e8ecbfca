"""Children that talk, and waiting for them."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from gilmsg.sandbox import processes, standin
from gilmsg.sandbox.processes import Talker, wait_for

from ..helpers import REPOSITORY


@pytest.fixture
def echo():
    talkers = []

    def start(first, on_event=None):
        talkers.append(Talker("tests.programs.echo", first, cwd=str(REPOSITORY), on_event=on_event))
        return talkers[-1]

    yield start
    for talker in talkers:
        talker.kill()


def until(talker, kind):
    return wait_for(lambda: talker.said(kind), kind)


def test_a_child_is_heard(echo):
    """What it says is an event, in lines of any length; one that is no JSON is one too; all can be forgotten."""
    talker = echo(200000 * "x")
    assert until(talker, 200000 * "x")
    talker.tell("stubborn")
    assert until(talker, "text") == {"event": "text", "text": "no JSON"}
    talker.clear()
    assert talker.events() == []


def test_a_child_that_has_ended_hears_nothing(echo):
    """To tell it something is no error, to wait for it ends at once, with a reason, and what it said stays."""
    talker = echo("hello")
    until(talker, "hello")
    talker.stop()
    assert not talker.alive
    talker.tell("more")
    with pytest.raises(TimeoutError, match="ended before it said 'more'"):
        until(talker, "more")
    talker.stop()
    assert talker.events() == [{"event": "hello"}]


@pytest.mark.parametrize("end", [Talker.stop, Talker.kill])
def test_what_is_left_in_a_broken_pipe_is_no_error(echo, end):
    """A child that was killed from outside while more is told to it can still be stopped, or killed."""
    talker = echo("hello")
    until(talker, "hello")
    os.kill(talker.pid, signal.SIGKILL)
    wait_for(lambda: not talker.alive, "it is dead")
    talker.tell("x" * 100)
    end(talker)
    assert talker.status == -signal.SIGKILL


def test_a_stubborn_child_is_killed(echo):
    """One that does not end with its stdin is killed once the limit has passed."""
    talker = echo("stubborn")
    until(talker, "stubborn")
    talker.stop(0.05)
    assert talker.status == -signal.SIGKILL


def test_on_event_hears_all_and_may_raise(echo, caplog, monkeypatch):
    """All is told when stop() returns; what on_event raises is logged and hides nothing of what comes next."""
    monkeypatch.setattr(processes, "STOP_LIMIT", 30.0)  # for which it waits for us, who may be slow
    heard = []

    def on_event(event):
        heard.append(event["event"])
        raise RuntimeError("on purpose")

    talker = echo("first", on_event)
    wait_for(lambda: heard, "the first is told")
    talker.tell("second")
    until(talker, "second")
    talker.stop()
    assert heard == ["first", "second"]
    assert [record.name for record in caplog.records] == ["gilmsg.sandbox"] * 2
    assert caplog.text.count("on_event failed at") == caplog.text.count("RuntimeError: on purpose") == 2


def test_what_a_stand_in_says_is_not_mixed(tmp_path, monkeypatch):
    """Two threads report at a time, in long lines: each stays whole."""
    event = {"event": "message", "text": "x" * 200000}
    plain, said = os.write, tmp_path / "said"
    with open(said, "wb") as file, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(standin.os, "write", lambda to, data: plain(file.fileno() if to == 1 else to, data))
        for done in [pool.submit(standin.say, **event) for _ in range(10)]:
            done.result()
    assert [json.loads(line) for line in said.read_text().splitlines()] == [event] * 10


def test_a_condition_that_never_comes_true():
    """wait_for names what it waited for."""
    with pytest.raises(TimeoutError, match=r"not within 0\.02 s: the end of days"):
        wait_for(lambda: False, "the end of days", 0.02)
