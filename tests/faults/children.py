"""Child processes that publish: told what to run, listened to and ended with deadlines."""

import json
import sys

from ..processes import Program

#: The environment of a process whose coverage is not measured. coverage takes a lock of its own, in Python
#: code, whenever a thread first meets a file. A signal handler that interrupts that and waits for another thread
#: would wait for what waits for it; and one that raises there leaves the lock taken, and the process never ends.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}

PRELUDE = """
import atexit, gc, json, os, signal, subprocess, sys, threading, time
import gilmsg
from gilmsg import _wakeup, _listener, _listeners, _outlet, _outlets
from .. import talking as _process

config = json.loads(sys.argv[1])


def say(text):
    os.write(1, (str(text) + chr(10)).encode())


def publish(*recipients, **more):
    call = dict(config, topic="t", msg={}, recipients=recipients or ["alice"], ack_timeout=10.0)
    if not recipients:  # alice is there, or on her way
        call.setdefault("gilmsg.head_start", 20.0)
    call.update(more)
    return gilmsg.publish(**call)


def waiting():
    return any(len(one._ledger) for one in list(_listeners._listeners.values()))


def until(condition, limit=40.0):  # longer than a head start: should that be waited for in vain, let publish say so
    try:
        _process.wait_for(condition, condition.__name__, limit)
    except TimeoutError as error:
        say(error)
        os._exit(99)


def wake_until(condition):
    # Again and again: the round before may take in a wake-up too.
    until(lambda: [one._wakeup.wake() for one in list(_listeners._listeners.values())] and condition())


def when(condition, job):
    def watch():
        until(condition)
        job()

    threading.Thread(target=watch, daemon=True).start()
"""


class Child(Program):
    """Runs *code* after PRELUDE."""

    def __init__(self, code, config, cwd, flags=(), environment=None):
        words = [sys.executable, *flags, "-c", PRELUDE + code, json.dumps(config)]
        super().__init__(words, cwd, environment)


def run(code, config, cwd, limit=60.0, **options):
    """Run *code* to its end; return (exit code, lines of stdout, stderr)."""
    with Child(code, config, cwd, **options) as child:
        status = child.end(limit)
        return status, child.lines, child.err()
