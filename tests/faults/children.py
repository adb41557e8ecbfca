"""Child processes that publish: how a test runs one, and what it finds in there."""

import json
import os
import sys
import threading

import gilmsg

from .. import inside
from ..processes import Program, wait_for

#: The environment of a process whose coverage is not measured. coverage takes a lock of its own, in Python
#: code, whenever a thread first meets a file. A signal handler that interrupts that and waits for another thread
#: would wait for what waits for it; and one that raises there leaves the lock taken, and the process never ends.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


class Child(Program):
    """Runs the function *case* of the module *name* of this folder; it says lines on stdout."""

    def __init__(self, name, case, config, cwd, flags=(), env=None):
        words = [sys.executable, *flags, "-m", "tests.faults." + name, case, json.dumps(config)]
        super().__init__(words, cwd, env)


def run(name, case, config, cwd, limit=60.0, **options):
    """Run a `Child` to its end; return (exit status, lines of stdout, stderr)."""
    with Child(name, case, config, cwd, **options) as child:
        return child.end(limit), child.lines, child.err()


# In the child.

#: What the parent has handed over.
config = {}


def main(cases):
    """Do what the command line says."""
    config.update(json.loads(sys.argv[2]))
    cases[sys.argv[1]]()


def say(what):
    """Write one line, in one step: no other thread's is mixed into it, no other process's either."""
    os.write(1, (f"{what}\n").encode())


def arguments(recipients=("alice",), **more):
    """Those of a call; for alice, who is there or on her way, with a long head start."""
    patient = {"gilmsg.head_start": 20.0, "ack_timeout": 10.0} if "alice" in recipients else {}
    return {**config, "topic": "t", "msg": {}, "recipients": recipients, **patient, **more}


def publish(*recipients, **more):
    """gilmsg.publish to *recipients*, or to alice."""
    return gilmsg.publish(**arguments(recipients or ("alice",), **more))


def publish_async(*recipients, **more):
    """The same of gilmsg.publish_async."""
    return gilmsg.publish_async(**arguments(recipients or ("alice",), **more))


def acks(**more):
    """Who confirmed a publish to alice."""
    return list(publish(**more).acks)


def first_of(tail):
    """What *tail* yields first. Publish again and again until then: nobody is told when a tail is connected."""
    over = threading.Event()

    def work():
        while not over.wait(0.2):
            publish()

    thread = beside(work)
    try:
        return next(tail)
    finally:
        over.set()
        thread.join()


def until(condition, what, limit=40.0):
    """Wait for *condition*; give up with a status of its own."""
    try:
        wait_for(condition, what, limit)
    except TimeoutError as error:
        say(error)
        os._exit(99)


def until_one_waits():
    """Return when a message of this process waits for its ACK."""
    until(inside.outstanding, "one waits")


def beside(job, *arguments, daemon=True):
    """Start a thread that does *job*; return it."""
    thread = threading.Thread(target=job, args=arguments, daemon=daemon)
    thread.start()
    return thread


def when_one_waits(job):
    """Do *job* on a thread when a message of this process waits for its ACK."""
    beside(lambda: (until_one_waits(), job()))
