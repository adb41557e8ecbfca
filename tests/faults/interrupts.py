"""Exceptions at any moment of publish and of a tail, by signals and from other threads: ``-m tests.faults.interrupts``.

In the main thread a signal's handler raises, at random; other threads are struck by ``PyThreadState_SetAsyncExc``, as
a debugger or a time limit does. What was struck is gone, and the others go on.
"""

import ctypes
import gc
import logging
import random
import signal
import sys
import threading
import time

import gilmsg

from . import stress

#: Seconds until an interrupt, in the middle: of a publish, and of the making or the closing of a tail.
_EVERY = 0.01


class Interrupted(BaseException):
    """As KeyboardInterrupt is."""


def strike(*_):
    raise Interrupted


def struck(job, chance):
    """Do *job* again and again until a signal strikes; its clean-up is not struck."""
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.expovariate(1 / _EVERY) + 1e-6, 5.0)
            while True:
                job()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Interrupted:
        return


def tail(config):
    """Take one message off a tail, if one comes: alice's ACKs do."""
    messages = gilmsg.tail_messages(**config)
    try:
        next(messages)
    finally:
        messages.close()


class Victim:
    """A thread that makes calls until it is struck."""

    def __init__(self, calls, chance):
        self._calls, self._chance = calls, chance
        self._over = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
        while not self._over:
            self._calls.make(self._chance, waits=False)

    def strike(self):
        """Have it end, by the exception mostly; where it is about to wait that comes late."""
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(Interrupted))
        self._over = True

    def end(self):
        self._thread.join(stress.LATE + 30)
        if self._thread.is_alive():
            stress.say("wrong: a thread that was struck does not end")


def strike_others(calls, over, seed):
    """Have two victims at a time, each struck soon, until it is over."""
    number = 0
    while not over.is_set():
        victims = []
        for _ in range(2):
            number += 1
            victims.append(Victim(calls, random.Random(f"{seed}/{number}")))
        for victim in victims:
            over.wait(random.Random(f"{seed}/strike {number}").expovariate(1 / (5 * _EVERY)))
            victim.strike()
            calls.counts["threads struck"] += 1
        for victim in victims:
            victim.end()


def quiet(plain, lost):
    """Let what was to be struck be struck anywhere, in silence; tell *lost* of a ``__del__`` that was, and so not done."""

    def hook(what):
        if not issubclass(what.exc_type or Exception, Interrupted):
            plain(what)
        elif getattr(what, "object", None) is not None:
            lost()

    return hook


def work(config, seconds, seed):
    # An interrupt between two lines of logging leaves a handler's lock taken, and the next log call waits for ever.
    logging.getLogger("gilmsg").setLevel(logging.CRITICAL)
    chance = random.Random(f"{seed}/main")
    calls = stress.Calls(config, (gilmsg.ListenerError,))
    over = threading.Event()
    with stress.Leftovers(config) as leftovers:
        # A zmq context whose end was interrupted stays, whoever it is that collects the garbage.
        lost = lambda: leftovers.forgiven.update(("descriptors", "threads", "contexts"))
        leftovers.forgiven.add("descriptors")  # one whose making was interrupted has an eventfd already, and no object yet
        threading.excepthook, sys.unraisablehook = quiet(threading.excepthook, lost), quiet(sys.unraisablehook, lost)
        signal.signal(signal.SIGALRM, strike)
        with stress.Threads(calls, 2, seed):
            striker = threading.Thread(target=strike_others, args=(calls, over, seed))
            striker.start()
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                if chance.random() < 0.02:
                    gilmsg.destroy()
                job = (lambda: tail(config)) if chance.random() < 0.3 else lambda: calls.make(chance, waits=False)
                struck(job, chance)
                calls.counts["struck"] += 1
                gc.collect()
            over.set()
            striker.join()
        calls.settle()
    return calls.counts


if __name__ == "__main__":
    sys.exit(stress.main(work))
