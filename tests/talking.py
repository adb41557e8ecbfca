"""Processes that tests start, with the gilmsg that runs here: what stands below `processes`, and children that talk."""

import os
import signal
import subprocess
import sys

from gilmsg.sandbox import processes
from gilmsg.sandbox.processes import START_LIMIT, STOP_LIMIT, can_connect, wait_for
from gilmsg.sandbox.standin import say

__all__ = [
    "START_LIMIT", "STOP_LIMIT", "Talker", "can_connect", "environment", "say", "script", "start", "stop", "wait_for"
]


class Talker(processes.Talker):
    """A module of the tests as a child that talks in JSON lines."""

    def said(self, kind, after=0):
        """Return its first event of *kind*, the first *after* of all left out, or None; TimeoutError as ever."""
        ended = not self.alive
        found = next((event for event in self.events()[after:] if event["event"] == kind), None)
        if ended and not found:
            raise TimeoutError(f"the process ended before it said {kind!r}")
        return found

    def wait_for(self, kind, limit=START_LIMIT):
        """Return its first event of *kind*; TimeoutError if it does not come in time, or the child ended."""
        return wait_for(lambda: self.said(kind), f"the event {kind!r}", limit)


def environment(extra=None):
    """An environment, with *extra*, in which a child imports the gilmsg that runs here."""
    paths = [processes._OURS, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def start(command, cwd, prefix=(), env=None, **streams):
    """Start *command* in *cwd*, in a session of its own.

    *prefix* is put before it, *env* is added to its environment; of *streams* (stdin, stdout, stderr) those that
    are not given are /dev/null.
    """
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    return subprocess.Popen([*prefix, *command], cwd=cwd, env=environment(env), start_new_session=True, **files)


def stop(process, limit=STOP_LIMIT, number=signal.SIGINT):
    """End *process*: the signal *number*, and after *limit* seconds SIGKILL. Idempotent."""
    process.send_signal(number)
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def script(function):
    """A command that runs a console script's function (``module:name``) in this Python."""
    module, _, name = function.partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {name} as f; sys.exit(f())"]
