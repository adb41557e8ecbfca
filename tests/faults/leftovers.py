"""What many publishes leave behind: ``python -m tests.faults.leftovers --count 10000``.

Half of them are confirmed, half time out, on distinct topics, from several threads of one
process; a tenth more go out without recipients. Every figure is taken after a warm-up of the
same kind and again at the end, both times after a garbage collection.
"""

import argparse
import contextlib
import ctypes
import gc
import json
import os
import sys
import threading
import time
import tracemalloc

import psutil
import zmq

import gilmsg
from gilmsg.sandbox import Sandbox

from .. import inside
from ..helpers import own_descriptors
from ..processes import module, wait_for

#: What must be the same after as before, to the last one.
EXACT = (
    "threads", "descriptors", "ports", "contexts", "timeouts", "messages", "outcomes", "entries", "deadlines", "outs",
    "ears", "handles", "names seen",
)  # fmt: skip

#: Bytes, for each kind of memory: what is forgiven, however many publishes there were.
FORGIVEN = {"python memory": 512 * 1024, "resident": 8 * 1024 * 1024}


class Load:
    """So many publishes from so many threads; what fails otherwise than asked is kept."""

    def __init__(self, config, threads):
        self._config = config
        self._threads = threads
        self.wrong = []
        self.counts = {"confirmed": 0, "timeout": 0}
        self._lock = threading.Lock()

    def run(self, count, label):
        each = [count // self._threads + (n < count % self._threads) for n in range(self._threads)]
        workers = [
            threading.Thread(target=self._work, args=(one, f"{label}.{number}"))
            for number, one in enumerate(each)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, count, label):
        for number in range(count):
            try:
                self._one(number, f"{label}.{number}")
            except Exception as error:  # noqa: BLE001  whatever it is, it is told
                self.wrong.append(repr(error))

    def _one(self, number, topic):
        lost = number % 2 == 1
        call = dict(self._config, topic=topic, msg={"n": number})
        # Distinct names, too: whatever is kept per recipient would show.
        call["recipients"] = ["nobody-" + topic] if lost else ["alice"]
        call["ack_timeout"] = 0.005 if lost else 30.0
        if number % 10 == 0:
            gilmsg.publish(**dict(call, recipients=[]))
        try:
            if number % 4 < 2:
                gilmsg.publish(**call)
            else:
                gilmsg.publish_async(**call).result(60)
            came = "confirmed"
        except gilmsg.Timeout:
            came = "timeout"
        with self._lock:
            self.counts[came] += 1
        if (came == "timeout") != lost:
            self.wrong.append(f"{topic}: {came}")


def figures():
    """Return every figure, once the callback threads have nothing left to do."""
    inside.workers_done()
    gc.collect()
    _trim()
    process = psutil.Process()
    alive = gc.get_objects()
    return {
        "threads": process.num_threads(),
        "descriptors": own_descriptors(),
        "ports": len(inside.listening_ports()),
        "contexts": sum(issubclass(type(one), zmq.Context) for one in alive),
        "timeouts": sum(issubclass(type(one), gilmsg.Timeout) for one in alive),
        **inside.kinds_of(alive),
        **inside.sizes(),
        "python memory": tracemalloc.get_traced_memory()[0],
        "resident": process.memory_info().rss,
    }


def _trim():
    """Have glibc give back what is free: what stays resident is then in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measured(config, count, threads):
    """Return (before, after, what went wrong, counts); run in the process that is measured."""
    load = Load(dict(config, **{"gilmsg.head_start": 0, "post_init_sleep": 0}), threads)
    gilmsg.publish(**dict(config, topic="first", msg={}, recipients=["alice"], ack_timeout=30.0))
    tracemalloc.start()
    # Enough for every bounded memory to be full: topics warned of, remembered chain checks.
    load.run(max(threads * 20, count // 10), "warm")
    inside.fill_warnings()
    _settle()
    before = figures()
    load.run(count, "real")
    _settle()
    return before, _lasting(before), load.wrong, load.counts


def _lasting(before, patience=10.0):
    """Return the figures once nothing has grown since *before*, at the latest after so many seconds.

    Threads of the system, and connections that are tried again and again, end a moment later than the
    call that ends them: what is left behind is what stays.
    """
    deadline = time.monotonic() + patience
    while True:
        after = figures()
        if not grown(before, after) or time.monotonic() > deadline:
            return after


def _settle():
    """Wait until nothing is waited for; the deadlines of what is settled are forgotten with the next look."""
    wait_for(lambda: not inside.outstanding() and not inside.held(), "nothing is waited for")
    call = {"topic": "last", "msg": {}, "recipients": ["nobody"], "ack_timeout": 0.001, "gilmsg.head_start": 0}
    with contextlib.suppress(gilmsg.Timeout):
        gilmsg.publish(**call)


def grown(before, after):
    """Return what has grown, in words; nothing if nothing is left behind."""
    found = [f"{key}: {before[key]} -> {after[key]}" for key in EXACT if after[key] > before[key]]
    for key, forgiven in FORGIVEN.items():
        if after[key] - before[key] > forgiven:
            found.append(f"{key}: {after[key] - before[key]} bytes more")
    return found


def in_a_process(config, count, threads=8, limit=1800):
    """Measure in a process of its own; return what `measured` returns."""
    done = module("tests.faults.leftovers", "--child", text=json.dumps([config, count, threads]), limit=limit)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        import logging

        logging.getLogger("gilmsg").setLevel(logging.CRITICAL)
        json.dump(measured(*json.load(sys.stdin)), sys.stdout)
        return 0
    began = time.monotonic()
    with Sandbox(["alice"]) as bus:
        before, after, wrong, counts = in_a_process(bus.config, arguments.count, arguments.threads)
    for key in before:
        print(f"{key:<14} {before[key]:12} -> {after[key]:12}")
    print(f"{counts} in {time.monotonic() - began:.0f} s, on {os.cpu_count() or 0} CPUs")
    failures = wrong[:10] + grown(before, after)
    print("\n".join(["LEFT BEHIND OR WRONG:"] + failures) if failures else "nothing left behind")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
