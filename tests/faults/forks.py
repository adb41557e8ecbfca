"""Children forked from any thread while all threads publish; they publish, too: ``python -m tests.faults.forks``."""

import atexit
import os
import random
import signal
import sys
import threading
import time
import warnings

import gilmsg

from . import stress

#: Seconds in which a child must have ended: two calls of its own in each of two threads.
_CHILD = 90

#: How many children live at once: each needs a port of its own.
_MOST = 3


def child(config, seed, futures):
    """Publish from two threads, ask for what is the parent's, and end in one way or another; the status is 0 then."""
    signal.alarm(_CHILD)
    chance = random.Random(seed)
    calls = stress.Calls(config)
    if chance.random() < 0.3:
        gilmsg.destroy()
    with stress.Threads(calls, 1, seed):
        for _ in range(2):
            calls.make(chance)
    calls.settle()
    for future in futures:
        if not future.done():
            refused(future)
    return chance.choice(("exit", "_exit", "atexit"))


def refused(future):
    """Ask in a child for the outcome that its parent waits for."""
    try:
        future.result()
    except gilmsg.ListenerError as error:
        if "before it forked" not in str(error):
            stress.say(f"wrong: {error}")
    except gilmsg.Timeout:
        pass  # settled in the moment of the fork
    else:
        stress.say("wrong: a child got the outcome of its parent's message")


def fork(config, seed, futures):
    """Fork a child that does all that and ends; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        way = child(config, seed, futures)
        if way == "exit":
            gilmsg.destroy()
        if way == "atexit":  # what is registered runs, as in a child of multiprocessing
            threading._shutdown()
            atexit._run_exitfuncs()
    except BaseException as error:  # noqa: BLE001  whatever it is, it is told
        stress.say(f"wrong: in a child: {error!r}")
        os._exit(1)
    os._exit(0)


class Forker(threading.Thread):
    """Forks one child after the other, until it is over; alone or several at a time."""

    def __init__(self, calls, config, seed, until):
        super().__init__()
        self._calls, self._config, self._seed, self._until = calls, config, seed, until

    def run(self):
        chance, number = random.Random(self._seed), 0
        call = dict(self._config, topic="t", msg={}, recipients=["nobody"], ack_timeout=0.5)
        while time.monotonic() < self._until:
            number += 1
            time.sleep(chance.uniform(0, 0.05))  # the fault's own moment: nothing is waited for
            outstanding = gilmsg.publish_async(**dict(call, **{"gilmsg.head_start": 0}))
            pid = fork(self._config, f"{self._seed}/{number}", [outstanding])
            self._calls.counts["children"] += 1
            _, status = os.waitpid(pid, 0)
            if status:
                stress.say(f"wrong: a child ended with {status}")


def work(config, seconds, seed):
    # From Python 3.12 on a fork of a process with threads is warned of; what is tested is that it works.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    # Plain messages are signed by fedmsg, which loads the key each time, and OpenSSL has locks of its own for that: a
    # child that is forked meanwhile inherits them held, and hangs when it loads a key. docs/guides/web.rst says so.
    calls = stress.Calls(config, plain=0)
    with stress.Leftovers(config):
        with stress.Threads(calls, 2, seed):
            until = time.monotonic() + seconds
            forkers = [Forker(calls, config, f"{seed}/forker {one}", until) for one in range(_MOST - 1)]
            for forker in forkers:
                forker.start()
            main = Forker(calls, config, f"{seed}/main", until)
            main.run()
            for forker in forkers:
                forker.join()
        calls.settle()
    return calls.counts


if __name__ == "__main__":
    sys.exit(stress.main(work))
