"""Tests that use gilmsg_bus, run in a pytest of their own: each clause of what guides/testing says of it."""

import os
import threading

import fedmsg
import pytest

import gilmsg
from gilmsg import publish
from tests.processes import wait_for


def test_two_recipients_confirm_without_any_configuration(gilmsg_bus):
    assert len(gilmsg_bus.recipients) == 2
    receipt = publish(topic="t", msg={"a": 1}, recipients=gilmsg_bus.recipients, ack_timeout=5)
    assert sorted(receipt.acks) == sorted(gilmsg_bus.recipients)
    for name in gilmsg_bus.recipients:
        [message] = gilmsg_bus.received[name]
        assert message["msg_id"] == receipt.msg_id and message["msg"]["a"] == 1
    assert repr(gilmsg_bus.received) == repr({name: gilmsg_bus.received[name] for name in gilmsg_bus.recipients})


def test_messages_of_another_test_are_gone(gilmsg_bus):
    assert dict(gilmsg_bus.received) == {name: [] for name in gilmsg_bus.recipients}
    for _ in range(50):
        gilmsg.publish_async(topic="t", msg={}, recipients=gilmsg_bus.recipients)


def test_messages_on_their_way_do_not_turn_up_later(gilmsg_bus):
    test_two_recipients_confirm_without_any_configuration(gilmsg_bus)


@pytest.mark.parametrize("what", ["silence", "kill"])
def test_one_that_does_not_answer(gilmsg_bus, what):
    first, second = gilmsg_bus.recipients
    publish(topic="t", msg={}, recipients=[first], ack_timeout=5)
    getattr(gilmsg_bus, what)(first)
    with pytest.raises(gilmsg.Timeout) as raised:
        publish(topic="t", msg={}, recipients=[first], ack_timeout=0.2)
    assert list(raised.value.missing) == [first]
    assert publish(topic="t", msg={}, recipients=[second], ack_timeout=5).acks
    if what == "silence":
        wait_for(lambda: len(gilmsg_bus.received[first]) >= 2, "it received all the same")
    else:
        assert len(gilmsg_bus.received[first]) == 1
        with pytest.raises(gilmsg.ConfigurationError):
            gilmsg_bus.silence(first)


def test_that_is_undone(gilmsg_bus):
    gilmsg.init(**gilmsg_bus.config)  # as code that passes it
    test_two_recipients_confirm_without_any_configuration(gilmsg_bus)


@pytest.mark.gilmsg_recipients("cn1")
def test_the_marker_names_the_recipients(gilmsg_bus):
    assert gilmsg_bus.recipients == ["cn1"] == list(gilmsg_bus.received)
    publish(topic="t", msg={}, recipients=["cn1"], ack_timeout=5)
    with pytest.raises(gilmsg.Timeout):
        publish(topic="t", msg={}, recipients=["recipient1"], ack_timeout=0.1)
    with pytest.raises(KeyError, match="'recipient1' is not a recipient here; these are: cn1"):
        gilmsg_bus.received["recipient1"]
    for method in (gilmsg_bus.silence, gilmsg_bus.kill):
        with pytest.raises(gilmsg.ConfigurationError, match=r"nobody.*cn1"):
            method("nobody")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fedmsg's, of itself
def test_any_thread_publishes_here_and_plain_messages_too(gilmsg_bus):
    receipts = []

    def run():
        receipts.append(publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in gilmsg_bus.recipients:
        assert {message["msg_id"] for message in gilmsg_bus.received[name]} == {one.msg_id for one in receipts}
    fedmsg.publish(topic="plain", msg={"b": 2}, modname="m")
    for name in gilmsg_bus.recipients:
        wait_for(lambda name=name: len(gilmsg_bus.received[name]) == 4, "received")


def test_an_outbox_delivers(gilmsg_bus):
    box = gilmsg_bus.outbox()
    msg_id = box.put(topic="t", msg={"a": 1}, recipients=gilmsg_bus.recipients)
    wait_for(lambda: box.get(msg_id).state == "delivered", "it is delivered")
    for name in gilmsg_bus.recipients:
        assert msg_id in [message["msg_id"] for message in gilmsg_bus.received[name]]
    gilmsg_bus.kill("recipient1")
    with box.engine.begin() as transaction:
        box.put(transaction, topic="t", msg={}, recipients=["recipient1"])
    test_an_outbox_delivers.path = box.engine.url.database


def test_its_outboxes_end_with_a_test(gilmsg_bus):
    assert not os.path.exists(test_an_outbox_delivers.path)
    assert "gilmsg-outbox" not in [thread.name for thread in threading.enumerate()]
    assert gilmsg_bus.outbox().counts()["waiting"] == 0
