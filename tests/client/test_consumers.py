"""GilmsgConsumer on stand-ins for a hub, as unit tests of services have them, and with work of their own."""

import types
from unittest import mock

import pytest
from fedmsg.consumers import FedmsgConsumer

import gilmsg
from gilmsg import _protocol, _trust
from gilmsg.errors import Refused

CONFIG = {"mine.enabled": True, "validate_signatures": False, "moksha.blocking_mode": True}


def consumer(hub, base=None, **attributes):
    """A consumer that notes what it was given."""

    def consume(self, message):
        given.append(message)

    given = []
    kind = type("Mine", (base or gilmsg.GilmsgConsumer,), dict(attributes, consume=consume, __module__=__name__))
    kind.topic, kind.config_key = "org.example.dev", "mine.enabled"
    one = kind(hub)
    one.given = given
    return one


def bare():
    return types.SimpleNamespace(config=dict(CONFIG), subscribe=lambda topic, callback: None)


HUBS = {
    "a Mock": lambda: mock.Mock(config=dict(CONFIG)),
    "a MagicMock": lambda: mock.MagicMock(config=dict(CONFIG)),
    "config and subscribe": bare,
}


@pytest.mark.parametrize("hub", HUBS.values(), ids=HUBS)
def test_a_stand_in_for_a_hub_will_do(hub):
    """Whatever a FedmsgConsumer can be built on: it consumes, and acknowledges nothing."""
    one = consumer(hub(), validate_signatures=False)
    body = {"topic": "org.example.dev.t", "msg": {}, "msg_id": "2026-1"}
    one.consume({"topic": "org.example.dev.t", "body": body})
    assert [given["body"] for given in one.given] == [body]


def test_the_init_of_the_base_class_may_be_patched_away():
    """Services do that to test their consume() alone."""
    with mock.patch.object(FedmsgConsumer, "__init__", lambda self, hub: None):
        one = consumer(mock.Mock(config=dict(CONFIG)))
    one.consume({"topic": "t", "body": {"topic": "t", "msg": {}}})
    assert len(one.given) == 1


class Named:
    """An item that no attribute can be given to."""

    __slots__ = ("event",)


ITEMS = [{"event": 1}, {}, {"topic": "t"}, None, 7, "text", ["body"], Named(), object(), mock.Mock(), mock.MagicMock()]


@pytest.mark.parametrize("item", ITEMS, ids=[type(item).__name__ for item in ITEMS])
def test_what_is_no_envelope_goes_on_to_validate_and_consume(item):
    """What a service queues of its own arrives as it was put, where its validate() lets it pass; and has no ACK.

    Who overrides nothing gets of it what a FedmsgConsumer gets.
    """
    ours, theirs = consumer(bare()), consumer(bare(), FedmsgConsumer)
    assert ours._do_work(item) == theirs._do_work(item)
    assert ours.given == theirs.given
    one = consumer(bare(), validate=lambda self, message: None)
    one._acknowledger = mock.Mock(due=mock.Mock(side_effect=AssertionError))
    assert one._do_work(item) and one._consume(item)
    one.consume(item)
    assert all(given is item for given in one.given[::2]) and len(one.given) == 3
    assert not one._acknowledger.acknowledge.called


#: What becomes of a message in a worker: in either mode, and where consume() fails.
ORDERS = {
    ("before", False): ["pre_consume", ("ack", "2026-1"), ("consume", "2026-1"), "post_consume"],
    ("before", True): ["pre_consume", ("ack", "2026-1"), ("consume", "2026-1"), "post_consume"],
    ("after", False): ["pre_consume", ("consume", "2026-1"), ("ack", "2026-1"), "post_consume"],
    ("after", True): [
        "pre_consume", ("consume", "2026-1"), ("nack", "2026-1", "consume() raised ValueError('hot')"), "post_consume",
    ],
}  # fmt: skip


class Ordered(gilmsg.GilmsgConsumer):
    """Notes in which order all happens."""

    topic, config_key, fails = "org.example.dev", "mine.enabled", False

    def __init__(self, hub):
        super().__init__(hub)
        self.blocking_mode, self.order = False, []
        self._acknowledger = mock.Mock(
            due=lambda received, validated: {"ack_msg_id": received.message["msg_id"]} if "gilmsg" in received.message["msg"] else None,
            acknowledge=lambda body: self.order.append(("ack", body["ack_msg_id"])),
            reject=lambda body, reason: self.order.append(("nack", body["ack_msg_id"], reason)),
        )

    def pre_consume(self, message):
        self.order.append("pre_consume")

    def post_consume(self, message):
        self.order.append("post_consume")

    def consume(self, message):
        self.order.append(("consume", message["msg_id"]))
        if self.fails:
            raise ValueError("hot")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("mode", "fails"), ORDERS)
def test_an_ack_is_signed_by_the_worker_and_not_by_the_reactor(mode, fails, named):
    """The hub's thread only looks; the ACK leaves just before consume(), or after it. What owes none has none."""
    one = type("Mine", (Ordered,), {"acknowledge": mode, "fails": fails})(bare())
    body = {"topic": "t", "msg": _protocol.marked({}, ["carol"]) if named else {}, "msg_id": "2026-1"}
    one._consume({"topic": "t", "body": body})
    assert one.order == []
    assert one._do_work(one.incoming.get(timeout=30)) is not fails
    assert one.order == [step for step in ORDERS[mode, fails] if named or step[0] not in ("ack", "nack")]


@pytest.mark.parametrize("value", ["later", None, True])
def test_a_consumer_acknowledges_before_or_after(value):
    """Another value is refused when the consumer is made, that is when the hub starts; not of one that is disabled."""
    with pytest.raises(gilmsg.ConfigurationError, match=r"Mine\.acknowledge must be 'before' or 'after'; it is "):
        consumer(bare(), acknowledge=value)
    hub = bare()
    hub.config["mine.enabled"] = False
    consumer(hub, acknowledge=value)


@pytest.mark.filterwarnings("ignore:The 'warn' method")  # fedmsg's own
def test_what_is_refused_is_told_to_its_publisher(monkeypatch):
    """When validate() drops it; the code goes along. Not where the envelope differs: that is no message of his."""
    refused = []
    monkeypatch.setattr(_trust, "validate", lambda message, config, covered: Refused("no", code="policy"))
    one = consumer(bare(), validate_signatures=True)
    one._acknowledger = mock.Mock(refuse=lambda received, code: refused.append((received.message["msg_id"], code)))
    for topic in ("t", "other"):
        one._consume({"topic": topic, "body": {"topic": "t", "msg": {}, "msg_id": topic}})
        assert refused == [("t", "policy")]
    assert not one.given and not one._acknowledger.acknowledge.called


@pytest.mark.parametrize("validates", [True, False])
def test_what_cannot_be_encoded_again_is_not_acknowledged(validates, monkeypatch):
    """A body that is nested too deeply has no digest: no ACK, and where it has to be validated, no consume()."""

    def due(received, validated):
        assert not validated, "it would be refused"

    monkeypatch.setattr(_trust, "validate", lambda message, config, covered: covered() and None)
    one = consumer(bare(), validate_signatures=validates)
    one._acknowledger = mock.Mock(due=due)
    body = {"topic": "t", "msg": {}}
    for _ in range(100_000):
        body["msg"] = {"deep": body["msg"]}
    assert one._do_work({"topic": "t", "body": body}) is not validates
    assert len(one.given) == (not validates)
    assert not one._acknowledger.acknowledge.called
