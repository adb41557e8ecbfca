"""Handlers, interrupts, forks and exits at random moments of many calls: see ``stress``."""

import collections
import os

import pytest
import zmq

import gilmsg

from ..conftest import own_config
from ..helpers import sampled
from . import stress

#: Program -> what it counts, and must have done at least once, and for each 10 s.
DONE = {
    "handlers": {"signals": 20, "confirmed": 10},
    "interrupts": {"struck": 10, "threads struck": 5, "confirmed": 10},
    "forks": {"children": 5, "confirmed": 10},
    "exits": {"lives": 4},
}


@pytest.mark.parametrize("seconds", sampled([20.0], brief=1.5))
@pytest.mark.parametrize("name", DONE)
def test_whatever_comes_in_between_the_promise_holds(bus, name, seconds):
    """Every call ends by its deadline, none is confirmed wrongly, and nothing is left behind."""
    seed = os.environ["GILMSG_SEED"]
    print(f"seed {seed}")
    done = collections.Counter()
    for turn in range(4):  # a busy machine needs more than one for all that is to happen
        wrong, counts = stress.check(name, bus, own_config(bus), seconds, f"{seed}/{turn}" if turn else seed)
        print(*wrong, sep="\n")  # whole: pytest shortens it
        assert wrong == []
        done += counts
        if all(done[what] >= max(1, least * seconds // 10) for what, least in DONE[name].items()):
            break
    else:
        pytest.fail(f"too little has happened: {done}")


def test_a_tail_that_is_interrupted_while_a_socket_is_made_ends(config, monkeypatch):
    """The interrupt comes out of tail_messages; its zmq context does not wait for a socket that nobody knows."""
    real, left = zmq.Context._add_socket, [2]

    def struck(context, socket):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        real(context, socket)

    gilmsg.init(**config)
    monkeypatch.setattr(zmq.Context, "_add_socket", struck)
    with pytest.raises(KeyboardInterrupt):
        gilmsg.tail_messages(**config)
