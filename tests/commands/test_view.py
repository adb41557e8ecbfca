"""How gilmsg-tail and gilmsg-sandbox show a message."""

import io
import json
import re
import time

import pytest

import gilmsg
from gilmsg import commands
from gilmsg.commands import Paint
from gilmsg.commands.sandbox import event_line
from gilmsg.commands.tail import View, one_line


def message(**changes):
    return {
        "topic": "org.example.dev.logger.log", "msg_id": "2026-x", "timestamp": 0, "username": "joe",
        "i": 1, "msg": {"log": "hello"}, "signature": "s", "certificate": "c", **changes,
    }


def view(config, **options):
    base = dict.fromkeys(["pretty", "really_pretty", "query", "terse", "cowsay", "users", "packages"])
    base.update(exclusive_regexp="_heartbeat", inclusive_regexp="^((?!_heartbeat).)*$")
    return View({**base, **config, **options})


def shown(config, **options):
    one, made = message(), view(config, **options)
    return made.text(one) if made.wanted(one["topic"], one) else None


def test_the_options_mean_what_they_mean_in_fedmsg_tail(config, tmp_path, monkeypatch):
    """--pretty, --really-pretty, --query, --terse, --cowsay, --users, --exclude, --include."""
    assert "2026-x from joe: {\"log\": \"hello\"}" in shown(config)
    assert "'timestamp': '" + time.ctime(0) in shown(config, pretty=True)
    assert "signature" not in shown(config, pretty=True) + shown(config, really_pretty=True)
    assert "\x1b[" in shown(config, really_pretty=True)
    assert shown(config, query="msg.log,username,none.such") == "hello, joe, None"
    assert view(config, query="msg.log").text(message(msg={"log": ""})) == ""
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
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
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
    line = one_line(message(**odd) if odd else {})
    assert line and line.isprintable()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colours_are_for_terminals(config, monkeypatch):
    """They are in what a terminal shows, and nowhere else: not under NO_COLOR; the text between them is the same."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ack = {"event": "ack", "msg_id": "2026-x"}
    due = {"event": "message", "topic": "t", "due": True, "message": message()}
    answers = [message(topic=f"x.gilmsg.{one}", msg={"ack_msg_id": "5"}) for one in ("ack", "nack")]

    def lines(paint):
        return [*(one_line(one, paint) for one in (message(), *answers)), *(event_line("r1", one, paint) for one in (ack, due))]

    coloured, plain = lines(Paint(Terminal())), lines(Paint(io.StringIO()))
    assert all("\x1b[" in line for line in coloured) and all(line.isprintable() for line in plain)
    assert [re.sub("\x1b\\[[0-9]+m", "", line)[8:] for line in coloured] == [line[8:] for line in plain]  # but for the time
    assert "\x1b[32m" in coloured[1] and "\x1b[31m" in coloured[2]
    for name, value in (("TERM", "dumb"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
        assert all(line.isprintable() for line in lines(Paint(Terminal())))
    assert "\x1b[" not in shown(config, really_pretty=True)


def test_json_is_one_object_a_line(config):
    """--json shows the whole message, whatever it holds, in one line; it is no addition to another format."""
    odd = message(topic="a\nb\x1b[2J", msg={"a": "h\u00e9\u2028\x7f\x9b"})
    made = View({**view(config)._config}, True, Paint(Terminal()))
    line = made.text(odd)
    assert line.isprintable() and line.isascii() and json.loads(line) == odd
    with pytest.raises(gilmsg.ConfigurationError, match="--json .* --terse"):
        View({**made._config, "terse": True}, True)


def test_a_line_of_the_sandbox_is_one_line():
    """Whatever a message holds, it is shown as one line of bounded length, without our own key."""
    odd = {"msg_id": "1\n2", "msg": {"a": "\x1b[2J" + 1000 * "x", "gilmsg": {"recipients": []}}}
    line = event_line("r1", {"event": "message", "topic": "t\r\n", "due": False, "message": odd})
    assert line.isprintable() and len(line) < 420 and "recipients" not in line and "no ACK" in line
    assert event_line("r1", {"event": "message", "topic": "a.b.gilmsg.ack", "due": False, "message": {}}) == ""
    assert event_line("r1", {"event": "obeys"}) == ""
    line = event_line("r1", {"event": "message", "topic": "t", "due": True, "message": {"msg": [1, 2]}})
    assert line.endswith("  r1            received  None  t  [1, 2]")


def test_what_is_shown_cannot_turn_a_line_round():
    """Neither gilmsg-tail nor gilmsg-sandbox shows what a terminal might obey, or a text that reads backwards."""
    text = "a\x1b\x9b\r\n\t\u2028\u202e\u2066\u200fb \u00e9\u65e5"
    clean = "a%sb \u00e9\u65e5" % ("?" * 9)
    event = {"event": "message", "due": True, "message": {"msg": {"x": text}}, "topic": text}
    assert clean in one_line(message(topic=text)) and clean in event_line("r1", event)
    assert commands.printable(text) == "a???\n\t\u2028???b \u00e9\u65e5"
