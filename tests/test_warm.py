"""A warm publisher fails in time, and a recipient that comes back is usable; see tests.warm."""

import pytest

from gilmsg.sandbox import Sandbox

from . import warm


@pytest.fixture
def own_bus():
    with Sandbox(["alice"]) as bus:
        yield bus


def test_a_timeout_comes_in_time(own_bus):
    """A recipient that has gone costs an old publisher ack_timeout: never less, and little more."""
    late = warm.overruns(own_bus, 30)
    assert len(late) == 30
    assert min(late) > -0.001 and sorted(late)[15] < 0.5


@pytest.mark.slow
def test_a_recipient_that_restarts_is_usable_again(own_bus):
    """Killed and restarted, it gets every message once its presence is seen, and none before."""
    for _, failures, away in warm.restarts(own_bus, 3, ack_timeout=5.0):
        assert (failures, away) == (0, 5)
