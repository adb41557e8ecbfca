"""ACKs in fedmsg.meta, on Fedora's prefix and on others."""

import base64
import functools
import os
import pathlib
import re
import tempfile

import fedmsg.meta
import pytest

import gilmsg  # noqa: F401  as whoever imports the processor does

from . import inside
from .processes import REPOSITORY, program

ID = "2026-8dbf1fd8-4c6b-4a0c-9a6f-3a1d9fb8a1d1"


@functools.cache
def certificate(name):
    """A certificate as it comes with a message. Any will do, for nobody checks it here."""
    with tempfile.TemporaryDirectory() as folder:
        inside.authority(folder).issue(name)
        return base64.encodebytes(pathlib.Path(folder, name + ".crt").read_bytes()).decode()


def ack(name, topic, user, number, **body):
    return {
        "i": 1, "msg": dict(body, ack_msg_id=ID), "msg_id": f"2026-ack-{number}", "timestamp": 1344352873 + number,
        "topic": topic, "username": user, "crypto": "x509", "certificate": certificate(name), "signature": "AAAA",
    }


@pytest.fixture(params=["org.fedoraproject", "com.example.eu.bus"])
def registered(request):
    """fedmsg.meta's configuration on a bus of that prefix, with the processor that setup.py registers.

    The checkout under test need not be the gilmsg that is installed: what fedmsg would load from
    the entry point is loaded from setup.py's. test_packaging sees to it that it is registered.
    """
    config = {"topic_prefix": request.param, "topic_prefix_re": re.escape(request.param) + r"\.(dev|stg|prod)"}
    with pytest.MonkeyPatch.context() as patch:
        processors = [processor()(fedmsg.meta._, **config), fedmsg.meta.DefaultProcessor(str, **config)]
        patch.setattr(fedmsg.meta, "processors", processors)
        yield config


def processor():
    text = (REPOSITORY / "setup.py").read_text()
    module, name = re.search(r'"fedmsg.meta": \["gilmsg = ([\w.]+):(\w+)"\]', text).groups()
    return getattr(__import__(module, fromlist=[name]), name)


def of(registered, *more, **body):
    """An ACK on that bus."""
    return ack("app01.example.com", registered["topic_prefix"] + ".prod.gilmsg.ack", *(more or ("apache", 1)), **body)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("body", [{"ack_digest": "0" * 64}, {}], ids=["digest", "0.1.x"])
def test_an_ack_is_told(registered, signed, body):
    """Its signer, or else its user, confirmed receipt of that message; there is nothing else in it."""
    message = of(registered, **body)
    if not signed:
        del message["certificate"], message["signature"]
    told = f"{'app01.example.com' if signed else 'apache'} confirmed receipt of {ID}"
    asked = {name: getattr(fedmsg.meta, "msg2" + name)(message, **registered) for name in (
        "title", "subtitle", "long_form", "usernames", "agent", "packages", "objects", "link", "icon")}  # fmt: skip
    assert asked == {
        "title": "gilmsg.ack", "subtitle": told, "long_form": told, "usernames": {"apache"}, "agent": "apache",
        "packages": set(), "objects": set(), "link": "", "icon": None,
    }  # fmt: skip
    assert fedmsg.meta.msg2subjective(message, subject="apache", **registered) == "you confirmed receipt of " + ID
    assert fedmsg.meta.msg2subjective(message, subject="joe", **registered) == told


def test_many_acks_of_one_message_are_one_line(registered):
    """That of another message stays alone."""
    topic = registered["topic_prefix"] + ".prod.gilmsg.ack"
    names = [f"app0{number}.example.com" for number in (1, 2, 3, 4, 4)]
    messages = [ack(name, topic, f"user{number % 2}", number) for number, name in enumerate(names)]
    other = of(registered, "user0", 9)
    other["msg"]["ack_msg_id"] = "2026-other"
    many, alone = fedmsg.meta.conglomerate([*messages[:2], other, *messages[2:]], **registered)
    assert many["subtitle"] == "app01.example.com, app02.example.com, and 2 others confirmed receipt of " + ID
    assert alone["subtitle"] == "app01.example.com confirmed receipt of 2026-other"
    times = [1344352873 + number for number in range(5)]
    assert (many["start_time"], many["end_time"], many["timestamp"]) == (times[0], times[4], times[2])
    assert (many["usernames"], many["topics"], many["packages"]) == ({"user0", "user1"}, {topic}, set())
    assert sorted(many["msg_ids"]) == sorted(message["msg_id"] for message in messages)


def test_a_nack_is_told_and_stays_apart(registered):
    """It reads as what it is; those of one message are another line than its ACKs, and those for a handler a third."""
    nacks = [of(registered, "joe", number, reason="policy") for number in (1, 2)]
    failed = of(registered, "joe", 4, reason="handler")
    for one in [*nacks, failed]:
        one["topic"] = registered["topic_prefix"] + ".prod.gilmsg.nack"
    told = f"app01.example.com received and dropped {ID}"
    assert fedmsg.meta.msg2subtitle(nacks[0], **registered) == told
    assert fedmsg.meta.msg2title(nacks[0], **registered) == "gilmsg.nack"
    assert fedmsg.meta.msg2subjective(nacks[0], subject="joe", **registered) == "you received and dropped " + ID
    lines = fedmsg.meta.conglomerate([*nacks, of(registered, "joe", 3), failed], **registered)
    handler = f"app01.example.com received, and failed to handle, {ID}"
    assert {line["subtitle"] for line in lines} == {f"app01.example.com confirmed receipt of {ID}", told, handler}


@pytest.mark.parametrize(
    "changes, subtitle",
    [
        ({"topic": "{}.prod.gilmsg.other"}, ""), ({"topic": "{}.prod.gilmsg"}, ""),
        ({"msg": None}, ""), ({"msg": {"ack_msg_id": 7}}, ""),
        ({"certificate": "rubbish", "username": None}, "somebody confirmed receipt of " + ID),
    ],
)
def test_what_is_no_right_ack_is_no_failure(registered, changes, subtitle):
    """What looks like an ACK and is none has no subtitle, raises nothing, and stays ungrouped."""
    changes = {key: value.format(registered["topic_prefix"]) if key == "topic" else value for key, value in changes.items()}
    odd = dict(of(registered, "joe", 1), **changes)
    assert fedmsg.meta.msg2subtitle(odd, **registered) == subtitle
    assert fedmsg.meta.msg2title(odd, **registered).startswith("gilmsg")
    assert fedmsg.meta.msg2usernames(odd, **registered) in (set(), {"joe"})
    assert len(fedmsg.meta.conglomerate([odd, dict(odd, msg_id="b")], **registered)) == (1 if subtitle else 2)


def test_another_bus_is_not_ours(registered):
    """The processor handles its own bus only, as those of fedmsg do."""
    assert not isinstance(fedmsg.meta.msg2processor({"topic": "org.other.prod.gilmsg.ack"}, **registered), processor())


def test_without_crypto_libraries_an_archive_can_be_read(tmp_path):
    """Where they are missing, an ACK is told under its user's name."""
    message = ack("app01.example.com", "org.fedoraproject.prod.gilmsg.ack", "joe", 1)
    words = ["org.fedoraproject", r"org\.fedoraproject\.prod", message]
    assert program("subtitle", *words).stdout == f"app01.example.com confirmed receipt of {ID}\n"
    (tmp_path / "OpenSSL.py").write_text("raise ImportError('taken away')")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    told = program("subtitle", *words, env={"PYTHONPATH": path}, cwd=tmp_path)
    assert told.stdout == f"joe confirmed receipt of {ID}\n", told.stderr
