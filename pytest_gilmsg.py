"""pytest's plugin of gilmsg: the fixtures ``gilmsg_bus`` and ``gilmsg_forbidden``.

It stands outside the package gilmsg, because pytest loads it in every run on a machine where gilmsg
is installed: there it must not import gilmsg, which imports fedmsg, before a test asks for it.
What the fixtures do is in :mod:`gilmsg.testing`.
"""

import pytest


def pytest_configure(config):
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "gilmsg_recipients(cn, ...): the common names of the recipients on gilmsg_bus in this test; "
        "two of its own choice by default.",
    )


@pytest.fixture(scope="session")
def _gilmsg_buses():
    """The running buses of this session (of this worker, under pytest-xdist)."""
    from gilmsg.testing import Buses

    with Buses() as buses:
        yield buses


@pytest.fixture
def gilmsg_bus(request, _gilmsg_buses):
    """A real, signed bus: ``recipients``, ``received[cn]``, ``silence(cn)``, ``kill(cn)``, ``outbox()``, ``config``.

    While it is in use, gilmsg.publish without any configuration publishes on it.
    """
    marker = request.node.get_closest_marker("gilmsg_recipients")
    with _gilmsg_buses.bus(*[] if marker is None else [marker.args]) as bus:
        yield bus


@pytest.fixture
def gilmsg_forbidden():
    """Whatever publishes by gilmsg fails: ``gilmsg.testing.PublishForbidden``, from the call itself."""
    from gilmsg import testing

    with testing.forbidden():
        yield
