"""A command of the user's as our child, and everything that it starts: none of it outlives us.

On Linux we adopt what the command's processes leave behind (a "child subreaper"), whatever
session they have moved to, so that it can be found and ended. Elsewhere only the command and
its process group are ended.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, List, Optional, Sequence, Set

_PR_SET_CHILD_SUBREAPER = 36

#: Seconds. What was killed is gone in a moment, unless the kernel holds it.
_REAP_LIMIT = 0.5


class Command:
    """A running command.

    On a terminal it stays in our process group, so that it may read what is typed, and Ctrl-C
    reaches it without our doing. Elsewhere it has a session of its own and we pass signals on.

    Args:
        words: the command and its arguments.
        cwd: its working directory.
        terminal: whether our stdin is a terminal.
        on_end: called when it has ended, on a thread of its own.

    Raises:
        OSError: it cannot be run.
    """

    def __init__(
        self, words: Sequence[str], cwd: str, terminal: bool, on_end: Callable[[], None]
    ) -> None:
        self._ours = _children()
        _adopt_orphans(True)
        self._own_session = not terminal
        self._process = subprocess.Popen(words, cwd=cwd, start_new_session=self._own_session)
        self._on_end = on_end
        self._thread = threading.Thread(target=self._watch, name="gilmsg-command", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        self._process.wait()
        self._on_end()

    @property
    def status(self) -> Optional[int]:
        """Its exit status, 128 + n if signal n ended it; None while it runs."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def end(self, number: int, patience: float) -> Optional[int]:
        """Pass on the signal *number*; return the status if it ends within *patience* seconds."""
        if self._own_session or number != signal.SIGINT:
            self._signal(number)
        self._thread.join(patience)
        return self.status

    def clear_away(self) -> None:
        """Kill what is left of it, and of all that it started."""
        self._signal(signal.SIGKILL)
        self._thread.join(_REAP_LIMIT)
        deadline = time.monotonic() + _REAP_LIMIT
        left = _children() - self._ours
        while left and time.monotonic() < deadline:
            for pid in left:
                _kill(pid)
            # The children of those are ours now.
            left = _children() - self._ours
            time.sleep(0.002)
        _adopt_orphans(False)

    def _signal(self, number: int) -> None:
        if self._own_session:
            signal_group(self._process.pid, number)
        elif self.status is None:
            try:
                os.kill(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                pass  # it has ended


def signal_group(pid: int, number: int) -> None:
    """Send the signal *number* to what is left of the process group that *pid* leads or led."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended


def end_group(process: "subprocess.Popen[Any]", limit: float) -> None:
    """End *process*, which leads a group, and all else in it: SIGTERM, then, *limit* s later at most, SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(process.pid, number)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            pass


def _adopt_orphans(adopt: bool) -> None:
    """Become the parent of what our descendants leave behind, or leave that to init again."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def _kill(pid: int) -> None:
    """Kill a child, and forget it once it has ended."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError, PermissionError):
        pass


def _children() -> Set[int]:
    """Return the process ids of our children; none where there is no /proc."""
    me = str(os.getpid())
    return {int(pid) for pid in _processes() if _parent(pid) == me}


def _processes() -> List[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _parent(pid: str) -> str:
    try:
        with open("/proc/%s/stat" % pid, encoding="utf-8", errors="replace") as stream:
            # The command's name, in brackets, may hold anything.
            return stream.read().rpartition(")")[2].split()[1]
    except (OSError, IndexError):
        return ""  # it has ended
