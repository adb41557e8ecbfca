"""A program that uses Buses, and ends as its argument says: "exit", "error", "close", "with" or "fork"."""

import os
import sys

import psutil

import gilmsg
from gilmsg.testing import Buses

END = sys.argv[1]


def publish():
    """Publish on a bus; return the pid of the stand-in and the folder of its keys."""
    with buses.bus(["cn1"]) as bus:
        gilmsg.publish(topic="t", msg={}, recipients=["cn1"], ack_timeout=10)
        [stand_in] = psutil.Process().children()
        return stand_in.pid, bus.directory


buses = Buses()
pid, directory = publish()
print(pid, directory, flush=True)
if END == "error":
    raise SystemExit("on purpose")
if END == "close":
    buses.close()
if END == "with":
    with buses:
        pass
if END in ("close", "with"):
    buses.close()
    assert not os.path.exists(directory)
if END == "fork":
    # A child that exits as Python programs do leaves its parent's bus alone.
    if os.fork() == 0:
        sys.exit()
    assert os.wait()[1] == 0
    assert publish() == (pid, directory)
