"""ACKs in fedmsg.meta, by its own test base, on Fedora's prefix and on others."""

import base64
import functools
import os
import pathlib
import re
import tempfile
import unittest
from typing import ClassVar

import arrow
import fedmsg.meta
import fedmsg.tests.test_meta as base
import pytest

import gilmsg  # noqa: F401  as whoever imports the processor does

from . import inside
from .processes import REPOSITORY, program

pytestmark = pytest.mark.filterwarnings("ignore:Using .load_config.:DeprecationWarning")  # fedmsg's own test base

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


@pytest.fixture(autouse=True)
def registered(request):
    """fedmsg.meta with the processor that setup.py registers, and the prefix that the test wants.

    The checkout under test need not be the gilmsg that is installed: what fedmsg would load from
    the entry point is loaded from setup.py's. test_packaging sees to it that it is registered.
    """
    prefix = getattr(request.cls, "prefix", "org.fedoraproject")
    config = {"topic_prefix": prefix, "topic_prefix_re": re.escape(prefix) + r"\.(dev|stg|prod)"}
    before = fedmsg.meta.processors
    fedmsg.meta.processors = [processor()(fedmsg.meta._, **config), fedmsg.meta.DefaultProcessor(str, **config)]
    if request.cls is not None:
        request.cls.assertEquals = unittest.TestCase.assertEqual  # Python 3.12 dropped it
        request.cls.prepare()
    yield config
    fedmsg.meta.processors = before


def processor():
    text = (REPOSITORY / "setup.py").read_text()
    module, name = re.search(r'"fedmsg.meta": \["gilmsg = ([\w.]+):(\w+)"\]', text).groups()
    return getattr(__import__(module, fromlist=[name]), name)


class Ack(base.Base):
    """What every ACK must give; the prefix differs."""

    __test__ = False
    prefix = "org.fedoraproject"
    body: ClassVar = {"ack_digest": "0" * 64}
    signs = True
    expected_title = "gilmsg.ack"
    expected_subti = expected_long_form = "app01.example.com confirmed receipt of " + ID
    expected_subjective: ClassVar = {"apache": "you confirmed receipt of " + ID, "joe": expected_subti}
    expected_link = ""
    expected_icon = expected_secondary_icon = None
    expected_usernames: ClassVar = {"apache"}
    expected_agent = "apache"
    expected_packages: ClassVar = set()
    expected_objects: ClassVar = set()
    expected_emails: ClassVar = {}
    expected_avatars: ClassVar = {}

    @classmethod
    def prepare(cls):
        cls.msg = ack("app01.example.com", cls.prefix + ".prod.gilmsg.ack", "apache", 1, **cls.body)
        if not cls.signs:
            del cls.msg["certificate"], cls.msg["signature"]


class TestAckElsewhere(Ack):
    """An ACK of gilmsg 0.1.x, without digest, on a bus whose prefix has more dots."""

    __test__ = True
    prefix = "com.example.eu.bus"
    body: ClassVar = {}


class TestUnsignedAck(Ack):
    """Without a certificate, the user name says who."""

    __test__ = True
    signs = False
    expected_subti = expected_long_form = "apache confirmed receipt of " + ID
    expected_subjective: ClassVar = {"apache": "you confirmed receipt of " + ID, "joe": expected_subti}


class TestMany(base.ConglomerateBase):
    """Many ACKs of one message are one line; that of another message stays alone."""

    __test__ = True
    prefix = "com.example.eu.bus"

    @classmethod
    def prepare(cls):
        topic = cls.prefix + ".prod.gilmsg.ack"
        names = [f"app0{number}.example.com" for number in (1, 2, 3, 4, 4)]
        cls.originals = [ack(name, topic, f"user{number % 2}", number) for number, name in enumerate(names)]
        other = ack(names[0], topic, "user0", 9)
        other["msg"]["ack_msg_id"] = "2026-other"
        cls.originals.insert(2, other)
        cls.expected = [
            line(topic, "app01.example.com, app02.example.com, and 2 others confirmed receipt of " + ID,
                 [0, 1, 2, 3, 4], {"user0", "user1"}),
            line(topic, "app01.example.com confirmed receipt of 2026-other", [9], {"user0"}),
        ]
        cls.expected[1]["categories"] = {topic.split(".")[3]}  # fedmsg's own, for what stays alone


def line(topic, subtitle, numbers, users):
    times = [1344352873 + number for number in numbers]
    return {
        "subtitle": subtitle, "subjective": subtitle, "link": "", "icon": None, "secondary_icon": None,
        "start_time": min(times), "end_time": max(times), "timestamp": sum(times) / len(times),
        "human_time": arrow.get(times[0]).humanize(), "usernames": users, "packages": set(),
        "topics": {topic}, "categories": {"gilmsg"},
    }


@pytest.mark.parametrize(
    "changes, subtitle",
    [
        ({"topic": "org.fedoraproject.prod.gilmsg.other"}, ""), ({"topic": "org.fedoraproject.prod.gilmsg"}, ""),
        ({"msg": None}, ""), ({"msg": {"ack_msg_id": 7}}, ""),
        ({"certificate": "rubbish", "username": None}, "somebody confirmed receipt of " + ID),
    ],
)
def test_what_is_no_right_ack_is_no_failure(registered, changes, subtitle):
    """What looks like an ACK and is none has no subtitle, raises nothing, and stays ungrouped."""
    topic = "org.fedoraproject.prod.gilmsg.ack"
    odd = dict(ack("app01.example.com", topic, "joe", 1), **changes)
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
