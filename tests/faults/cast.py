"""The participants of a run, as their director sees them: processes that can be harmed and healed."""

import itertools
import json
import os
import pathlib
import threading
import time

from ..helpers import Hub
from .talker import Talker

#: Seconds that a process may take to be ready, on a slow machine.
PATIENCE = 60.0


class Actor:
    """One participant: a process, started anew as often as it dies; a log; perhaps a host.

    Args:
        task: what it is told, see *module*.
        host: a :class:`tests.faults.hosts.Host`, or None for this one.
        module: which its process runs; of a hub, in which its consumer is.
    """

    MODULE = "tests.faults.actors"

    def __init__(self, folder, name, task, host, module=None):
        self.name = name
        self.host = host
        self._module = module or self.MODULE
        self.log = os.path.join(folder, name + ".log")
        self.slow_file = os.path.join(folder, name + ".slow")
        self._folder = folder
        self._task = dict(task, log=self.log, slow=self.slow_file)
        self._incarnations = itertools.count(1)
        self._process = None
        open(self.log, "w").close()

    @property
    def _prefix(self):
        return self.host.prefix if self.host else []

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        """Start its process; do not wait."""
        seed = f"{self._task['seed']}/{next(self._incarnations)}"
        self._process = Talker(self._module, dict(self._task, seed=seed), cwd=self._folder, prefix=self._prefix)

    def wait(self):
        """Return when its process is ready."""
        self._process.hear("ready", limit=PATIENCE)

    def finish(self, limit):
        """Have a publisher end its work; return whether it has said so within *limit* seconds."""
        self._process.order("finish")
        try:
            self._process.hear("finished", limit=limit)
        except (TimeoutError, AssertionError):
            return False
        return True

    def end(self):
        """Kill its process, whatever state it is in. Idempotent."""
        if self._process is not None:
            self._process.__exit__()

    def entries(self):
        """What stands in its log."""
        with open(self.log) as stream:
            return [json.loads(line) for line in stream]

    def slow(self, seconds):
        """Make it take *seconds* for each message; 0 ends that."""
        temporary = self.slow_file + ".new"
        with open(temporary, "w") as stream:
            stream.write(f"{seconds:g}")
        os.replace(temporary, self.slow_file)


class HubActor(Actor):
    """A consumer in a fedmsg-hub."""

    MODULE = "tests.faults.actors_hub"

    def start(self):
        folder = pathlib.Path(self._folder) / (f"{self.name}-{next(self._incarnations)}")
        config = dict(self._task["config"], **{"moksha.workers_per_consumer": 2})
        self._process = Hub(folder, config, ["Logger"], self._module, self._prefix)

    @property
    def pid(self):
        return self._process.pid

    def wait(self):
        self._process.wait_until_ready()

    def end(self):
        if self._process is not None:
            # Not what Hub's own exit does: SIGTERM first would be another fault than the one planned, and
            # one that a stopped process does not even notice.
            self._process.kill()
            self._process.__exit__()


class Stalls(threading.Thread):
    """Notices when the whole machine stood still: a thread that wakes late."""

    _EVERY, _LATE = 0.05, 0.3

    def __init__(self):
        super().__init__(daemon=True)
        self.found = []
        self._over = threading.Event()

    def run(self):
        before = time.monotonic()
        while not self._over.wait(self._EVERY):
            now = time.monotonic()
            if now - before > self._LATE:
                self.found.append((before, now))
            before = now

    def stop(self):
        self._over.set()
        self.join()


def send(actor, number):
    """Send a signal to the process of *actor*."""
    os.kill(actor.pid, number)
