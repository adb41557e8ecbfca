"""What an operator relies on: keys in fedmsg.d, groups, the log lines, what the pages say of them."""

import ast
import functools
import logging
import re
import runpy

import pytest

import gilmsg

from .docs.pages import text_of
from .helpers import lost_when, publish, publish_async, write_config
from .processes import REPOSITORY, program, wait_for

SAMPLE = REPOSITORY / "fedmsg.d" / "gilmsg.py"


PATIENT = {"gilmsg.ack_timeout": 5.0, "gilmsg.head_start": 20.0}


def test_a_producer_gains_the_guarantee_by_a_file(bus, config, tmp_path):
    """Without a change to its code a producer gets confirmations when a file lies in fedmsg.d."""
    write_config(tmp_path, dict(config, post_init_sleep=0), "base.py")
    words = {"topic": "finished", "modname": "compose", "msg": {"id": 7}}
    assert "AttributeError" in program("publish", words, cwd=tmp_path).stderr  # fedmsg returns None
    rules = {"org.example": ["nobody"], "org.example.dev.compose": ["alice", "bob"]}
    write_config(tmp_path, dict(PATIENT, **{"gilmsg.recipients": rules}), "gilmsg.py")
    done = program("publish", words, cwd=tmp_path)
    assert sorted(done.stdout.split()) == ["alice", "bob", "org.example.dev.compose.finished"], done.stderr


def test_groups_in_python_and_in_configuration(bus, config):
    """A group is any_of() or a plain string, everywhere; Timeout tells of each of its members."""
    rules = {"gilmsg.recipients": {"org.example.dev.tests.t": ["alice,bob"]}}
    # Both are there from now on: of a group, the first that is present ends the head start.
    publish(["alice", "bob"], **dict(config, **PATIENT))
    bus.silent("alice")
    assert list(publish(None, **rules).acks) == ["bob"]
    for group in (gilmsg.any_of("alice", "bob"), "alice,bob", ["alice, bob"]):
        assert list(publish(group).acks) == ["bob"]
    timeout = lost_when(lambda one: one.acks, ["bob", "alice,nobody"])
    assert list(timeout.acks) == ["bob"] and list(timeout.missing) == ["alice,nobody"]
    sentence = timeout.missing["alice,nobody"]
    assert sentence.startswith("alice: listening, but silent") and " | nobody: never connected" in sentence


def sample():
    return runpy.run_path(str(SAMPLE))["config"]


def test_the_sample_is_right(config):
    """The sample holds every key of the page's table with its default, passes the checks, and does what it says."""
    rows = re.findall(r"^``(gilmsg\.[a-z]\w+)`` .* ([\d]+\.?[\d]*|{}|True|False) +\S", text_of("reference/keys"), re.MULTILINE)
    defaults = {key: ast.literal_eval(value) for key, value in rows}
    assert len(rows) >= 3 and sample() == dict(defaults, **{"gilmsg.recipients": sample()["gilmsg.recipients"]})
    config.update(sample(), **{"gilmsg.head_start": 0})
    for topic, expected in (
        ("compose.finished", ["backend01.example.com", "archive01.example.com"]),
        ("compose.x", ["backend01.example.com"]),
        ("deploy.x", ["web01.example.com", "web02.example.com"]),
        ("compose.progress", []),
    ):
        assert list(gilmsg.check(None, "org.example.prod." + topic, **config).recipients) == expected


def outcomes(caplog):
    """The log records that tell what became of a message."""
    return [record for record in caplog.records if hasattr(record, "msg_id")]


@pytest.mark.parametrize("way", ["publish", "publish_async"])
def test_a_publish_logs_one_line(bus, config, caplog, way):
    """Success is one DEBUG line, Timeout one WARNING, both with the same fields as extra."""
    caplog.set_level(logging.DEBUG, logger="gilmsg")
    gilmsg.init(**config)
    bus.silent("bob")

    def send(*recipients, **options):
        return publish(recipients, **options) if way == "publish" else publish_async(recipients, **options).result(30)

    receipt = send("alice", ack_timeout=5.0)
    record = wait_for(lambda: outcomes(caplog), "a line is logged")[0]
    assert record.levelno == logging.DEBUG and f"``{record.name}``" in text_of("operations/logging")
    assert (record.topic, record.msg_id) == (receipt.topic, receipt.msg_id)
    assert (record.acked, record.missing) == (["alice"], [])
    for lines, ack_timeout in enumerate((1.0, 3.0, 20.0), 2):  # on a busy machine alice's ACK takes longer
        with pytest.raises(gilmsg.Timeout) as raised:
            send("alice", "bob,nobody", ack_timeout=ack_timeout)
        wait_for(lambda lines=lines: len(outcomes(caplog)) == lines, "another line is logged")
        if raised.value.acks:
            break
    record = outcomes(caplog)[-1]
    assert record.levelno == logging.WARNING and f"``{record.name}``" in text_of("operations/logging")
    assert record.msg_id == raised.value.msg_id and record.topic == raised.value.topic
    assert (record.acked, record.missing) == (["alice"], ["bob,nobody"])
    assert record.getMessage() == str(raised.value) and "\n" not in record.getMessage()
    assert len(outcomes(caplog)) == lines


def test_the_pages_tell_what_there_is():
    """Every field of the monitoring JSON is named, and that routing needs no policy for ACKs."""
    told = text_of("operations/logging")
    assert all(word in told for word in ("acks_sent", "acks_failed", "last_ack_error", "handler_failures"))
    assert "routing_policy" in text_of("operations/network")


@pytest.mark.parametrize(
    "key, value, named",
    [("topic_prefix", 3, "3"), ("endpoints", {"other": ["tcp://host:99999"]}, "['other'] holds 'tcp://host:99999'")],
)
def test_a_value_of_fedmsg_that_cannot_be_used_is_refused(config, key, value, named):
    """A wrong value in one of fedmsg's keys is refused with key and value, by check in a line; nothing keeps it."""
    wrong = dict(config, **{key: value})
    for call in (gilmsg.init, gilmsg.tail_messages, functools.partial(publish, ["alice"])):
        with pytest.raises(gilmsg.ConfigurationError) as raised:
            call(**wrong)
        assert key in str(raised.value) and named in str(raised.value)
    report = gilmsg.check(["alice"], **wrong)
    assert any(key in line and named in line for line in report.failures())
    gilmsg.init(**config)
