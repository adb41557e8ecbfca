"""What a process has of fedmsg is put aside and brought back; what was opened meanwhile is closed."""

import threading

import fedmsg
import pytest
import zmq

import gilmsg
from gilmsg import _bus, _config_files, _isolation, _listeners, _outlets, testing
from gilmsg.sandbox import Sandbox

from .conftest import own_config
from .talking import wait_for


def test_what_was_open_stays_and_what_was_opened_is_closed(bus, config):
    """Publishers and listeners of before go on; those of meanwhile end, those of consumers too, in whatever thread."""
    gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10, **config)
    context, outlets, listeners = _bus.current(), dict(_outlets._outlets), dict(_listeners._listeners)
    other = own_config(bus, name="carol", environment="prod")
    with _isolation.isolated(other):
        assert _bus.current() is None
        gilmsg.init()
        _listeners.listener_for(_bus.directory(_bus.current()).bus, _bus.current().c)
        # As a GilmsgConsumer has one, which no context knows.
        address = _outlets.Address("consumer", (bus.ports.endpoint(),), False)
        _outlets.SharedPublisher(address, other)
        kept = _outlets.SharedPublisher(address, other)
        assert len(_outlets._outlets) == len(_listeners._listeners) + 1 == 3
    assert kept.address not in _outlets._outlets
    assert _bus.current() is context
    assert (dict(_outlets._outlets), dict(_listeners._listeners)) == (outlets, listeners)
    assert gilmsg.publish(topic="t", msg={}, recipients=["alice"], ack_timeout=10).acks


def test_contexts_of_every_kind_are_closed(config):
    """Also one that publishes nothing, one that fedmsg has destroyed, and, in its own time, one that is still read."""
    reading, over, contexts = threading.Event(), threading.Event(), []

    def read():
        contexts.append(gilmsg.init(mute=True))
        with contexts[0].context.socket(zmq.SUB) as subscriber:
            subscriber.linger = 0
            reading.set()
            assert over.wait(30)

    thread = threading.Thread(target=read)
    with _isolation.isolated(config):
        thread.start()
        assert reading.wait(30)
        gilmsg.init(mute=True)
        fedmsg.destroy()  # leaves None in its place
        contexts.append(gilmsg.init(mute=True))
    try:
        assert not contexts[0].context.closed
    finally:
        over.set()
        thread.join()
    assert contexts[1].context is None
    contexts[0].destroy()


@pytest.fixture
def buses():
    buses = testing.Buses()
    yield buses
    buses.close()


def test_few_buses_are_kept(bus, buses, monkeypatch):
    """Of the buses that tests name only the last few are kept; one that a test has destroyed is in order."""
    monkeypatch.setattr(testing, "_KEPT", 1)
    names = tuple(bus.recipients)
    # Not started: the session's own bus takes the other's place, to save the time to start some.
    idle = buses._sandboxes[("idle",)] = Sandbox([])
    buses._sandboxes[names] = bus
    try:
        with buses.bus(names) as given:
            assert gilmsg.publish(topic="t", msg={}, recipients=given.recipients, ack_timeout=10).acks
            gilmsg.destroy()
        assert list(buses._sandboxes) == [names]
        with pytest.raises(gilmsg.ConfigurationError):
            idle.silent("idle")
        assert idle._folder._hold is None
    finally:
        buses._sandboxes.pop(names)


def test_a_bus_that_is_out_of_order_is_not_used_again(buses, monkeypatch):
    """If a recipient does not answer any more at the end of a test, its bus is stopped; the next test gets another."""
    with buses.bus(["r1"]) as given:
        sandbox = given._sandbox
        sandbox.authority.revoke("r1")
        monkeypatch.setattr(testing, "_PATIENCE", 0.3)
    assert buses._sandboxes == {} and not sandbox.is_alive("r1")
    wait_for(lambda: sandbox._folder._hold is None, "it is stopped", 5)


def test_a_bus_that_does_not_become_well_is_not_used_again(bus, buses, monkeypatch):
    """If a recipient does not obey before a test, that test fails and the next one gets another bus."""

    def does_not(name):
        raise TimeoutError(name)

    class Unwell(Sandbox):
        well = staticmethod(does_not)

    # Not started, to save the time: whether it is stopped, its folder tells.
    unwell = buses._sandboxes[("idle",)] = Unwell([])
    unwell.recipients = ["idle"]
    with pytest.raises(TimeoutError, match="idle"), buses.bus(["idle"]):
        pytest.fail("it is in use")
    assert buses._sandboxes == {} and unwell._folder._hold is None


def test_what_cannot_be_closed_spoils_nothing_else(config):
    """Though a context fails to close, the process is configured as it was, and all else is closed."""

    def fails():
        raise RuntimeError("on purpose")

    before = _config_files.kept(), dict(fedmsg.config.conf), _outlets.opened(), _listeners.started()
    with pytest.raises(RuntimeError, match="on purpose"):
        with _isolation.isolated(config) as start_anew:
            contexts = [gilmsg.init(mute=True)]
            for mute in (False, True):
                start_anew()
                contexts.append(gilmsg.init(mute=mute))
            _listeners.listener_for(_bus.directory(contexts[1]).bus, contexts[1].c)
            contexts[0].destroy, destroy = fails, contexts[0].destroy
    assert before == (_config_files.kept(), dict(fedmsg.config.conf), _outlets.opened(), _listeners.started())
    assert [one.context for one in contexts[1:]] == [None, None] and _bus.current() is None
    destroy()
