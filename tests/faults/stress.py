"""Callers in several threads for a bounded time, and what must be true of every call.

``python -m tests.faults.PROGRAM --seconds 60 --seed N`` runs one of the programs handlers, interrupts, forks, exits
on a bus of its own; test_stress.py runs each. In a program *calls* are made at random, while it does what it is
named after. Each call ends by its deadline; what alice, a process of its own, confirms is among the messages that she
was handed, bob (silent) and nobody (absent) confirm nothing; and nothing is left behind. The seed is printed: a run
that is repeated by it is alike, and not the same, for the scheduler has a say.
"""

import argparse
import collections
import faulthandler
import gc
import json
import os
import random
import sys
import threading
import time

import psutil
import zmq

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..helpers import own_descriptors
from ..processes import module, wait_for
from .children import UNMEASURED, say

#: Seconds by which a call may miss its deadline, on a machine that is busy with everything else.
LATE = 10.0

#: Seconds past its time in which a program must have ended: its last calls, and what is given back late.
_END = 60.0

#: Recipients, ack_timeout, head start, and whether the call has to be confirmed.
_KINDS = (
    (["alice"], 10.0, 20.0, True),
    (["alice,nobody"], 10.0, 20.0, True),
    (["alice", "bob"], 0.1, 0.0, False),
    (["nobody"], 0.02, 0.0, False),
)


class Calls:
    """Calls at random, from any thread, and what came of them.

    Args:
        allowed: exceptions that may end a call, besides.
        plain: the share of messages that nobody is to confirm.
        excused: asked where a call ends by another exception: whether that is no fault.
    """

    def __init__(self, config, allowed=(), plain=0.1, excused=lambda: False):
        self._config, self._allowed, self._plain, self._excused = config, allowed, plain, excused
        self.counts = collections.Counter()
        self._futures = []

    def make(self, chance, waits=True):
        """Publish and judge the outcome; or, of what has a future, leave that to `settle` (*waits*: not always)."""
        kind = chance.choice(_KINDS)
        recipients, ack_timeout, head_start, _ = kind
        until = time.monotonic() + head_start + ack_timeout + LATE
        call = dict(
            self._config, topic="t", msg={}, recipients=recipients, ack_timeout=ack_timeout,
            **{"gilmsg.head_start": head_start},
        )  # fmt: skip
        if chance.random() < self._plain:
            self._judge(lambda: gilmsg.publish(**dict(call, recipients=[], post_init_sleep=0)), None, until)
        elif chance.random() < 0.7:
            self._judge(lambda: gilmsg.publish(**call), kind, until)
        elif waits and chance.random() < 0.5:
            self._judge(lambda: gilmsg.publish_async(**call).result(), kind, until)
        else:
            self._judge(lambda: self._futures.append((gilmsg.publish_async(**call), kind, until)), None, until)

    def settle(self):
        """Judge what the futures say, but for the last ones, which a thread may be adding."""
        while self._futures:
            future, kind, until = self._futures.pop()
            # No limit of our own: a future that is never settled is a call that never ends.
            self._judge(future.result, kind, until)

    def _judge(self, call, kind, until):
        try:
            receipt = call()
        except gilmsg.Timeout as late:
            self.counts["timed out"] += 1
            if kind is None or kind[3]:
                say(f"wrong: {late}")
            if set(late.acks) - {"alice"}:
                say(f"wrong: acknowledged by {list(late.acks)}")
        except self._allowed:
            self.counts["ended"] += 1
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            if not self._excused():
                say(f"wrong: {error!r}")
        else:
            if kind is not None:
                self.counts["confirmed"] += 1
                say(f"confirmed: {receipt.msg_id}")
                if not kind[3] or list(receipt.acks) != ["alice"]:
                    say(f"wrong: {kind[0]} confirmed by {list(receipt.acks)}")
        if time.monotonic() > until:
            say(f"wrong: {time.monotonic() - until:.2f} s too late: {kind}")


class Threads:
    """So many threads that make *calls* until the block ends."""

    def __init__(self, calls, number, seed):
        self._calls = calls
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(f"{seed}/{one}"),), daemon=True)
            for one in range(number)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self, chance):
        while not self._over.is_set():
            self._calls.make(chance)
            self._calls.settle()


class Leftovers:
    """A block after which as much as before is open, and nothing waits; what is more is said, but for the *forgiven*."""

    def __init__(self, config):
        self._config = config
        self.forgiven = set()

    def __enter__(self):
        self._warm()
        self._before = self._state()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._warm()
            try:
                wait_for(lambda: not self._more(), "all is given back", 30)
            except TimeoutError:
                opened = [os.path.realpath(one.path) for one in os.scandir("/proc/self/fd")]
                say(f"wrong: left behind, now and before: {self._more()}; open: {opened}")

    def _warm(self):
        """Publish, which still works, and give everything back; the threads that stay, by design, are there then.

        And what is imported on first use is: an import that is struck keeps its lock, and whoever is next waits for ever.
        """
        call = {**self._config, "gilmsg.head_start": 20.0, "topic": "t", "msg": {}, "recipients": ["alice"]}
        gilmsg.publish(**{**call, "recipients": [], "post_init_sleep": 0})
        gilmsg.tail_messages(**self._config).close()
        assert gilmsg.publish_async(**{**call, "ack_timeout": 10.0}).result().acks
        inside.workers_done()
        wait_for(lambda: not inside.outstanding() and not inside.held(), "nothing waits", 30)
        gilmsg.destroy()

    def _more(self):
        now = self._state()
        return {key: (now[key], self._before[key]) for key in now if now[key] > self._before[key] and key not in self.forgiven}

    def _state(self):
        gc.collect()
        contexts = [one for one in gc.get_objects() if issubclass(type(one), zmq.Context)]
        return {
            "threads": psutil.Process().num_threads(),
            "descriptors": own_descriptors(),
            "ports": len(inside.listening_ports()),
            "contexts": sum(not one.closed for one in contexts),
            "waiting": inside.outstanding() + inside.held(),
        }


def check(name, bus, config, seconds, seed):
    """Run a program on *bus*, whose bob is told to be silent; return (what is wrong, counts)."""
    bus.silent("bob")
    done = module(
        "tests.faults." + name, "--seconds", str(seconds), "--seed", str(seed), "--child", text=json.dumps(config),
        limit=seconds + 2 * _END, env=UNMEASURED,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    confirmed = {line.partition(": ")[2] for line in lines if line.startswith("confirmed: ")}
    counts = collections.Counter(json.loads(lines[-1]) if done.returncode == 0 and lines else {})
    wrong = [line for line in lines if line.startswith("wrong: ")]
    unknown = confirmed - {message["msg_id"] for message in bus.received("alice")}
    wrong += [f"confirmed, and alice was not handed {one}" for one in unknown]
    if done.returncode or "Traceback" in done.stderr or "Fatal" in done.stderr:
        wrong.append(f"status {done.returncode}: {done.stderr[-6000:]}")
    return wrong, counts


def main(work):
    """Run *work*(config, calls for how many seconds, seed), which returns counts; or `check` that on a bus of its own."""
    parser = argparse.ArgumentParser(description=sys.modules[work.__module__].__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default=os.environ.get("GILMSG_SEED") or str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        faulthandler.dump_traceback_later(options.seconds + _END, exit=True)
        counts = work(json.load(sys.stdin), options.seconds, options.seed)
        say(json.dumps(counts))
        return 0
    print(f"seed {options.seed}", flush=True)
    name = work.__code__.co_filename.rpartition("/")[2].partition(".")[0]
    with Sandbox(["alice", "bob"]) as bus:
        wrong, counts = check(name, bus, dict(bus.config), options.seconds, options.seed)
    print(dict(counts), *wrong, sep="\n")
    return 1 if wrong else 0
