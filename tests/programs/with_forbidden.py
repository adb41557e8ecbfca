"""Tests that use gilmsg_forbidden, or the marker wrongly, run in a pytest of their own; four are to fail."""

import concurrent.futures
import sys

import pytest

# Before anything else: the plugin has loaded nothing of ours.
LOADED = [name for name in sys.modules if name.startswith(("gilmsg", "fedmsg", "moksha."))]


def test_the_plugin_alone_imports_nothing():
    assert LOADED == []


@pytest.mark.parametrize("recipients", [None, ["a"], b"rubbish"])
@pytest.mark.parametrize("name", ["publish", "publish_async", "send_message"])
def test_every_way_to_publish_is_forbidden(gilmsg_forbidden, name, recipients):
    import gilmsg
    from gilmsg.testing import PublishForbidden

    assert issubclass(PublishForbidden, AssertionError)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        there = pool.submit(getattr(gilmsg, name), topic="the.topic", msg={}, recipients=recipients)
        with pytest.raises(PublishForbidden, match=r"the\.topic"):
            there.result()
    with pytest.raises(PublishForbidden, match=r"the\.topic"):
        getattr(gilmsg, name)(topic="the.topic", msg={}, recipients=recipients)
    assert getattr(gilmsg, "__local").__dict__ == {}
    assert not [one for one in sys.modules if one.startswith("moksha.")]


@pytest.mark.parametrize("order", [["gilmsg_bus", "gilmsg_forbidden"], ["gilmsg_forbidden", "gilmsg_bus"]])
def test_both_fixtures_in_either_order(request, order):
    for name in order:
        request.getfixturevalue(name)
    from gilmsg import publish
    from gilmsg.testing import PublishForbidden

    bus = request.getfixturevalue("gilmsg_bus")
    with pytest.raises(PublishForbidden):
        publish(topic="t", msg={}, recipients=bus.recipients)
    assert dict(bus.received) == {name: [] for name in bus.recipients}


def test_afterwards_it_is_allowed_again(gilmsg_bus):
    from gilmsg import publish

    assert publish(topic="t", msg={}, recipients=gilmsg_bus.recipients, ack_timeout=5).acks


def test_an_uncaught_one_fails_the_test(gilmsg_forbidden):
    import gilmsg

    gilmsg.publish_async(topic="x")


@pytest.mark.gilmsg_recipients()
def test_nobody(gilmsg_bus):
    pass


@pytest.mark.gilmsg_recipients("../x")
def test_a_bad_name(gilmsg_bus):
    pass


@pytest.mark.gilmsg_recipients(["a", "b"])
def test_a_list(gilmsg_bus):
    pass


def test_of_one_string_is_one_name():
    from gilmsg.testing import Buses

    with pytest.raises(ValueError, match="'a,b' cannot be the name"), Buses().bus("a,b"):
        pass
