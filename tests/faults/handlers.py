"""Signal handlers that publish, and destroy, at any moment of their thread's own publish: ``-m tests.faults.handlers``.

They also come while the thread holds what the engine's other threads wait for: a future's lock, that of logging.
"""

import io
import logging
import random
import signal
import sys
import time

import gilmsg

from . import stress

#: Seconds between two signals, in the middle; how many handlers are on top of each other at most.
_EVERY, _DEEPEST = 0.01, 3


class Handler:
    """Does something with each SIGALRM, and has the next one come, while it is at it perhaps."""

    def __init__(self, calls, chance):
        self._calls, self._chance = calls, chance
        self._depth = 0
        self.over = False

    def __call__(self, *_):
        self._calls.counts["signals"] += 1
        self._depth += 1
        try:
            if self._depth < _DEEPEST:
                self.arm()
            if self._chance.random() < 0.03:
                gilmsg.destroy()
            else:
                self._calls.make(self._chance)
        finally:
            self._depth -= 1
            self.arm()

    def arm(self):
        if not self.over:
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + self._chance.expovariate(1 / _EVERY))


def hold_a_future(config):
    """As in ``result()``, ``add_done_callback()``, ``as_completed()`` of this thread's own."""
    call = dict(config, topic="t", msg={}, recipients=["nobody"], ack_timeout=0.01, **{"gilmsg.head_start": 0})
    with gilmsg.publish_async(**call)._condition:
        signal.raise_signal(signal.SIGALRM)


def hold_logging(logged):
    """As in a log call of this thread's own."""
    with logged.lock:
        signal.raise_signal(signal.SIGALRM)


def work(config, seconds, seed):
    logged = logging.StreamHandler(io.StringIO())
    logging.getLogger("gilmsg").addHandler(logged)
    chance = random.Random(f"{seed}/main")
    calls = stress.Calls(config, (gilmsg.ListenerError,))
    handler = Handler(calls, random.Random(f"{seed}/handler"))
    with stress.Leftovers(config):
        signal.signal(signal.SIGALRM, handler)
        with stress.Threads(calls, 3, seed):
            until = time.monotonic() + seconds
            handler.arm()
            while time.monotonic() < until:
                calls.make(chance, waits=False)
                if chance.random() < 0.1:
                    hold_logging(logged)
                if chance.random() < 0.1:
                    try:
                        hold_a_future(config)
                    except gilmsg.ListenerError:
                        calls.counts["ended"] += 1
            handler.over = True  # not SIG_IGN: Python complains of a signal that comes while that is set
            signal.setitimer(signal.ITIMER_REAL, 0)
        calls.settle()
    return calls.counts


if __name__ == "__main__":
    sys.exit(stress.main(work))
