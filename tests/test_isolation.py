"""gilmsg.testing puts aside what a process has of fedmsg and gilmsg, and brings it back."""

import fedmsg
import fedmsg.config
import pytest

import gilmsg
from gilmsg import testing

from . import inside
from .helpers import in_threads, publish
from .processes import wait_for


@pytest.fixture
def buses():
    with testing.Buses() as buses:
        yield buses


def own_context():
    return getattr(getattr(fedmsg, "__local"), "__context", None)


def test_what_was_open_stays_and_what_was_opened_is_closed(config, buses):
    """Publisher and listener of before go on after it; those of meanwhile, of whatever thread, are closed."""
    assert publish(["alice"], **config).acks
    running, port = inside.running(), inside.endpoint()
    context, conf = own_context(), dict(fedmsg.config.conf)
    with buses.bus(["r1"]) as bus:
        assert own_context() is not context
        assert list(publish(["r1"]).acks) == ["r1"]
        [publisher] = in_threads(lambda: gilmsg.init(name="publisher").publisher)
    assert own_context() is context and dict(fedmsg.config.conf) == conf
    assert (inside.running(), inside.endpoint()) == (running, port)
    assert publish(["alice"]).acks
    with pytest.raises(gilmsg.ListenerError):
        publisher.send_multipart([b"a", b"{}"])
    assert bus.recipients == ["r1"]


def test_contexts_of_every_kind_are_closed(buses):
    """Also one that publishes nothing, and one that fedmsg has destroyed; in another thread, too."""
    with buses.bus(["r1"]):
        gilmsg.init(mute=True)
        fedmsg.destroy()  # leaves None in its place
        contexts = [gilmsg.init(mute=True), *in_threads(lambda: gilmsg.init(mute=True))]
    assert [one.context for one in contexts] == [None, None] and not any(inside.running())


def test_a_bus_that_a_test_has_destroyed_is_in_order(buses):
    """destroy() within the test, and a recipient that was killed, are undone before the next."""
    with buses.bus(["r1"]) as bus:
        assert publish(["r1"], ack_timeout=10).acks
        gilmsg.destroy()
        bus.kill("r1")
    with buses.bus(["r1"]) as bus:
        receipt = publish(["r1"], ack_timeout=10)
        wait_for(lambda: [one["msg_id"] for one in bus.received["r1"]] == [receipt.msg_id], "it is the only one", 5)
