"""ACKs in fedmsg.meta, by its own test base, on Fedora's prefix and on others."""

import re
import unittest

import fedmsg.meta
import fedmsg.tests.test_meta as base
import pytest

from gilmsg import _meta
from gilmsg._keypair import KeyPair
from gilmsg.sandbox import pki as _pki

from .helpers import REPOSITORY

ID = "2026-8dbf1fd8-4c6b-4a0c-9a6f-3a1d9fb8a1d1"


def signed_by(folder, name, topic, user, number, **body):
    message = {
        "i": 1, "msg": dict(body, ack_msg_id=ID), "msg_id": "2026-ack-%d" % number,
        "timestamp": 1344352873 + number, "topic": topic, "username": user,
    }
    return KeyPair(folder, name).sign(message)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    authority = _pki.Authority(str(tmp_path_factory.mktemp("pki")))
    for name in ("app01.example.com", "app02.example.com", "app03.example.com", "app04.example.com"):
        authority.issue(name)
    return authority.folder


@pytest.fixture(autouse=True)
def registered(request, keys):
    """fedmsg.meta with the processor that setup.py registers, and the prefix that the test wants.

    The checkout under test need not be the gilmsg that is installed: what fedmsg would load from
    the entry point is loaded from setup.py's. test_packaging sees to it that it is registered.
    """
    prefix = getattr(request.cls, "prefix", "org.fedoraproject")
    config = {"topic_prefix": prefix, "topic_prefix_re": re.escape(prefix) + r"\.(dev|stg|prod)"}
    before = fedmsg.meta.processors
    fedmsg.meta.processors = [processor()(fedmsg.meta._, **config), fedmsg.meta.DefaultProcessor(str, **config)]
    if request.cls is not None:
        request.cls.keys = keys
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
    body = {"ack_digest": "0" * 64}
    user = "apache"
    expected_title = "gilmsg.ack"
    expected_subti = expected_long_form = "app01.example.com confirmed receipt of " + ID
    expected_subjective = {"apache": "you confirmed receipt of " + ID, "joe": expected_subti}
    expected_link = ""
    expected_icon = expected_secondary_icon = None
    expected_usernames = {"apache"}
    expected_agent = "apache"
    expected_packages = expected_objects = set()
    expected_emails = expected_avatars = {}

    @classmethod
    def prepare(cls):
        topic = cls.prefix + ".prod.gilmsg.ack"
        cls.msg = signed_by(cls.keys, "app01.example.com", topic, cls.user, 1, **cls.body)


class TestAck(Ack):
    """An ACK on Fedora's bus."""

    __test__ = True


class TestAckElsewhere(Ack):
    """An ACK on a bus whose prefix has more dots."""

    __test__ = True
    prefix = "com.example.eu.bus"


class TestAckOfOldGilmsg(Ack):
    """An ACK of gilmsg 0.1.x has no digest."""

    __test__ = True
    body = {}


class TestUnsignedAck(Ack):
    """Without a certificate, the user name says who."""

    __test__ = True
    expected_subti = expected_long_form = "apache confirmed receipt of " + ID
    expected_subjective = {"apache": "you confirmed receipt of " + ID, "joe": expected_subti}

    @classmethod
    def prepare(cls):
        super().prepare()
        del cls.msg["certificate"], cls.msg["signature"]


class Many(base.ConglomerateBase):
    """Many ACKs of one message are one line; that of another message stays alone."""

    __test__ = False
    prefix = "org.fedoraproject"

    @classmethod
    def prepare(cls):
        topic = cls.prefix + ".prod.gilmsg.ack"
        names = ["app0%d.example.com" % number for number in (1, 2, 3, 4, 4)]
        cls.originals = [
            signed_by(cls.keys, name, topic, "user%d" % (number % 2), number, **({} if number else {"ack_digest": "0"}))
            for number, name in enumerate(names)
        ]
        other = signed_by(cls.keys, names[0], topic, "user0", 9)
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
    import arrow

    return {
        "subtitle": subtitle, "subjective": subtitle, "link": "", "icon": None, "secondary_icon": None,
        "start_time": min(times), "end_time": max(times), "timestamp": sum(times) / len(times),
        "human_time": arrow.get(times[0]).humanize(), "usernames": users, "packages": set(),
        "topics": {topic}, "categories": {"gilmsg"},
    }


class TestMany(Many):
    """On Fedora's bus."""

    __test__ = True


class TestManyElsewhere(Many):
    """On a bus whose prefix has more dots."""

    __test__ = True
    prefix = "com.example.eu.bus"


@pytest.mark.parametrize(
    "changes, subtitle",
    [
        ({"topic": "org.fedoraproject.prod.gilmsg.other"}, ""),
        ({"topic": "org.fedoraproject.prod.gilmsg"}, ""),
        ({"msg": None}, ""),
        ({"msg": {"ack_msg_id": 7}}, ""),
        ({"certificate": "rubbish", "username": None}, "somebody confirmed receipt of " + ID),
    ],
)
def test_what_is_no_right_ack_is_no_failure(keys, registered, changes, subtitle):
    """What looks like an ACK and is none has no subtitle, raises nothing, and stays ungrouped."""
    topic = "org.fedoraproject.prod.gilmsg.ack"
    odd = dict(signed_by(keys, "app01.example.com", topic, "joe", 1), **changes)
    assert fedmsg.meta.msg2subtitle(odd, **registered) == subtitle
    assert fedmsg.meta.msg2title(odd, **registered).startswith("gilmsg")
    assert fedmsg.meta.msg2usernames(odd, **registered) in (set(), {"joe"})
    assert len(fedmsg.meta.conglomerate([odd, dict(odd, msg_id="b")], **registered)) == (1 if subtitle else 2)


def test_another_bus_is_not_ours(registered):
    """The processor handles its own bus only, as those of fedmsg do."""
    assert not isinstance(
        fedmsg.meta.msg2processor({"topic": "org.other.prod.gilmsg.ack"}, **registered), _meta.GilmsgProcessor
    )
