"""Programs under a monkey patch of gevent's or eventlet's, each in a process of its own."""

import pytest

from .conftest import own_config
from .helpers import sampled
from .processes import program

WHAT = ["asynchronous", "tail", "late"]
LONGER = ["once", "many", "destroyed", "after", "check", "half", "late_unused"]


@pytest.mark.parametrize("what", [*WHAT, *(pytest.param(one, marks=pytest.mark.slow) for one in LONGER)])
@pytest.mark.parametrize("library", sampled(["gevent", "eventlet"]))
def test_greenlets(bus, library, what):
    """It works, and other greenlets run meanwhile; or it is refused with words that name the patch."""
    bus.dead("bob")
    config = own_config(bus, **{"gilmsg.head_start": 20.0})
    ended = program("greenlets", library, what, config, limit=120)
    assert (ended.returncode, ended.stdout) == (0, "well done\n"), ended.stderr
    assert "Traceback" not in ended.stderr or what == "late"  # threading's, of the thread that was there before
