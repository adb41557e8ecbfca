"""The environment's settings, as services see them: what a publish does, and what gilmsg-check says of each."""

import json

import pytest

from . import processes
from .helpers import write_config

PUBLISH = """
import sys, fedmsg.config, gilmsg
given = fedmsg.config.load_config() if sys.argv[1] == "loaded" else {}
own = {"gilmsg.ack_timeout": 0.2} if sys.argv[1] == "keyword" else {}
for _ in range(2):
    try:
        gilmsg.publish(topic="t", modname="m", msg={}, **{**given, **own})
    except gilmsg.Timeout as timeout:
        print(timeout.ack_timeout, *timeout.missing)
"""


@pytest.mark.parametrize("way, seconds", [("loaded", 0.1), ("bare", 0.1), ("keyword", 0.2)])
def test_a_publish_takes_what_the_environment_says(bus, config, tmp_path, way, seconds):
    """Recipients and times are those of the variables, whether the call hands on load_config() or not; keywords win."""
    recipients = {"org.example.dev": ["nobody"]}
    write_config(tmp_path, {**config, "gilmsg.ack_timeout": 9.0, "gilmsg.required": False})
    said = {"ACK_TIMEOUT": "0.1", "HEAD_START": "0", "RECIPIENTS": json.dumps(recipients), "REQUIRED": "true"}
    env = {"HOME": str(tmp_path), **{f"GILMSG_{name}": text for name, text in said.items()}}
    done = processes.python(PUBLISH, tmp_path, way, env=env)
    assert done.stdout == f"{seconds} nobody\n" * 2, done


def test_check_tells_the_source_of_each_value(config, tmp_path):
    """Variable, file, or default; a database's URL is not shown; a bad value, or a misspelt name, is a line of its own."""
    write_config(tmp_path, {**config, "gilmsg.head_start": 1.0, "gilmsg.required": True})
    last = write_config(tmp_path, {"gilmsg.required": False, "gilmsg.outbox.database": "secret"}, "z.py")

    def told(**variables):
        env = {"HOME": str(tmp_path), "GILMSG_ACK_TIMEOUT": "0.5", **variables}
        done = processes.module("gilmsg", "check", "--json", cwd=tmp_path, env=env)
        return [line["detail"] for line in json.loads(done.stdout)["self"] if line["check"] == "settings"]

    [line] = told(GILMSG_OUTBOX_WINDOW="7", GILMSG_HEAD_START="", GILMSG_RECIPIENTS='{"org": []}')
    assert line.split(", ") == [
        "gilmsg.recipients of 1 topics (GILMSG_RECIPIENTS)", "gilmsg.ack_timeout 0.5 s (GILMSG_ACK_TIMEOUT)",
        f"gilmsg.head_start 1 s ({tmp_path / 'fedmsg.d' / 'bus.py'})", f"gilmsg.required False ({last})",
        f"gilmsg.outbox.database ({last})", "gilmsg.outbox.window 7 (GILMSG_OUTBOX_WINDOW)",
    ]  # fmt: skip
    near, recipients, head_start = told(GILMSG_HEAD_START="soon", GILMSG_RECIPIENTS="{", GILMSG_ACK_TIMOUT="9")
    assert "GILMSG_ACK_TIMOUT is ignored" in near and recipients.startswith("GILMSG_RECIPIENTS must be JSON")
    assert head_start.startswith("GILMSG_HEAD_START must be")
