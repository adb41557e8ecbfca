"""The buses that gilmsg.testing keeps from test to test."""

import pytest

import gilmsg
from gilmsg import testing
from gilmsg.sandbox import Sandbox

from .processes import wait_for


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
