"""gilmsg.testing puts aside what a process has of fedmsg and gilmsg, and brings it back."""

import fedmsg
import fedmsg.config

import gilmsg
from gilmsg import testing

from . import inside
from .helpers import in_threads


def test_contexts_of_every_kind_are_closed():
    """Also one that publishes nothing, and one that fedmsg has destroyed; in another thread, too."""
    with testing.Buses() as buses, buses.bus(["r1"]):
        gilmsg.init(mute=True)
        fedmsg.destroy()  # leaves None in its place
        contexts = [gilmsg.init(mute=True), *in_threads(lambda: gilmsg.init(mute=True))]
    assert [one.context for one in contexts] == [None, None] and not any(inside.running())
