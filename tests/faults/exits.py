"""Processes that end, in every way, while their threads publish: ``python -m tests.faults.exits``.

Each is a process of its own, which ends at a random moment; what it was told of by then is confirmed, it ends soon,
by the status of what ended it, and leaves no words but those of its threads' ends.
"""

import atexit
import json
import random
import signal
import sys
import threading
import time

import gilmsg

from ..processes import PROMPT, Program
from . import stress
from .children import UNMEASURED

#: How many live at once.
_MOST = 2

#: What ends a process -> its status.
WAYS = {
    "return": 0, "sys.exit": 7, "exception": 1, "SIGTERM": -signal.SIGTERM, "SIGTERM handled": 5,
    "SIGINT": -signal.SIGINT, "destroy": 0, "publishes at exit": 0,
}  # fmt: skip

#: Said by an exception that is meant to end the process.
_MEANT = "meant"

#: Between two tracebacks of one end: what is struck may have been handling another exception, as an import does.
_CHAINED = ("During handling of the above exception", "direct cause of the following exception")


def live(config, way, seed, seconds):
    """Publish from several threads; end in that *way*."""
    chance = random.Random(seed)
    calls = stress.Calls(config, (gilmsg.ListenerError,), excused=lambda: bool(_struck))
    if chance.random() < 0.5:
        calls.make(chance)  # or the threads race for the first one
    if way == "publishes at exit":
        atexit.register(calls.settle)
        atexit.register(calls.make, random.Random(seed), waits=False)
    number = {"SIGTERM": signal.SIGTERM, "SIGTERM handled": signal.SIGTERM, "SIGINT": signal.SIGINT}.get(way)
    if way in ("SIGTERM handled", "SIGINT"):
        signal.signal(number, strike)
    stress.Threads(calls, 3, seed).__enter__()
    if number is None:
        busy(calls, chance, time.monotonic() + seconds)
    else:
        threading.Timer(seconds, signal.raise_signal, [number]).start()
        busy(calls, chance, float("inf"))
        strike(number)
    if way == "sys.exit":
        sys.exit(7)
    if way == "exception":
        raise RuntimeError(_MEANT)
    if way == "destroy":
        gilmsg.destroy()


#: Signals that came. What a handler raises is swallowed where it interrupts a __del__ or a weakref callback, and within
#: cryptography's is_signature_valid(), which is False then.
_struck = []


def strike(number, *_):
    """Raise what ends the process."""
    _struck.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(5)


def busy(calls, chance, until):
    while time.monotonic() < until and not _struck:
        calls.make(chance, waits=False)


class Life(Program):
    """One process, told how and when to end; a call may be under way then, so it takes as long to end as that may."""

    def __init__(self, config, way, seed, seconds):
        self._way, self._until = way, time.monotonic() + seconds + PROMPT + 30.0
        words = [sys.executable, "-m", "tests.faults.exits", json.dumps([config, way, seed, seconds])]
        super().__init__(words, env=UNMEASURED)

    def judge(self):
        """Wait for its end; say what it said, and what is wrong."""
        try:
            status = self.end(max(0.0, self._until - time.monotonic()))
        except AssertionError as error:
            stress.say(f"wrong: {self._way}: {error}")
            return
        for line in self.lines:
            if line.startswith(("confirmed: ", "wrong: ")):
                stress.say(line)
        told = self.err()
        meant = {"exception": _MEANT, "SIGINT": "KeyboardInterrupt"}.get(self._way)
        ends = told.count("Traceback") - sum(map(told.count, _CHAINED))
        others = ends - told.count("Exception ignored in") - (meant is not None and meant in told)
        if status != WAYS[self._way] or "Fatal" in told or others:
            stress.say(f"wrong: {self._way} ended with {status}: {told[-3000:]!r}")


def work(config, seconds, seed):
    chance = random.Random(f"{seed}/main")
    calls = stress.Calls(config)

    def lives(number):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            way = chance.choice(sorted(WAYS))
            with Life(config, way, f"{seed}/{number}/{chance.random():g}", chance.uniform(0, 0.3)) as life:
                life.judge()
            calls.counts[way] += 1
            calls.counts["lives"] += 1

    threads = [threading.Thread(target=lives, args=(number,)) for number in range(_MOST)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return calls.counts


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("["):
        live(*json.loads(sys.argv[1]))
    else:
        sys.exit(stress.main(work))
