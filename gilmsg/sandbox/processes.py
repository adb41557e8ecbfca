"""Child processes that talk in JSON lines, and waiting for what they do."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, Callable

log = logging.getLogger("gilmsg.sandbox")

Event = dict[str, Any]

#: Seconds.
START_LIMIT = 60.0
STOP_LIMIT = 3.0

#: Seconds between two looks for what *on_event* is to be told.
_LOOK_AGAIN = 0.02

#: From where a child imports the gilmsg that runs here.
_OURS = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def wait_for(condition: Callable[[], Any], what: str, limit: float = START_LIMIT) -> Any:
    """Return the first true value of *condition*; poll for it, at most for *limit* seconds.

    Raises:
        TimeoutError: naming *what* did not come true.
    """
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {limit:g} s: {what}")
        time.sleep(0.002)
    return value


class Talker:
    """A Python module run as a child: what it writes on stdout, a JSON line each, are events; its stdin is ours.

    It writes to a file: it never waits for us, and all that it wrote before some evidence reached us (an ACK, say)
    is among its ``events``. It is to end when its stdin does: so it ends with us, in whatever way we end.

    Args:
        module: run as ``python -m``.
        first: sent as the first line, in JSON.
        cwd: its working directory.
        on_event: called with each event, on a thread of the child's; what it raises is logged.
        prefix: put before the command, to run it elsewhere (``ip netns exec <name>``, say).
    """

    def __init__(
        self,
        module: str,
        first: Any,
        cwd: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  stop() closes it
        self._offset, self._rest = 0, b""
        self._events: list[Event] = []
        self._untold: collections.deque[Event] = collections.deque()
        self._reporter: threading.Thread | None = None
        paths = [_OURS, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", module],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=self._file,
            start_new_session=True,
        )
        if on_event is not None:
            self._reporter = threading.Thread(target=self._report, args=(on_event,), name="gilmsg-talker", daemon=True)
            self._reporter.start()
        self.tell(first)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative if a signal ended it; None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Tell if it still runs."""
        return self.status is None

    def tell(self, line: Any) -> None:
        """Send it one line; a child that has ended hears nothing."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(line).encode("ascii") + b"\n")
            self._process.stdin.flush()

    def events(self) -> list[Event]:
        """Return all it has said so far; a line that is no JSON is an event "text"."""
        with self._lock:
            self._read()
            return list(self._events)

    def said(self, kind: str, after: int = 0, **fields: Any) -> Event | None:
        """Return its first event of *kind* with these *fields*, or None; the first *after* events are left out.

        Raises:
            TimeoutError: there is none, and the child has ended.
        """
        over = not self.alive
        wanted = dict(fields, event=kind).items()
        for event in self.events()[after:]:
            if wanted <= event.items():
                return event
        if over:
            raise TimeoutError(f"the process ended before it said {kind!r}")
        return None

    def clear(self) -> None:
        """Forget all it has said so far."""
        with self._lock:
            self._read()
            self._events.clear()

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL); what it said stays. Idempotent."""
        self.signal(signal.SIGKILL)
        self.stop()

    def hang_up(self) -> None:
        """Close its stdin, which ends it, and do not wait for it. Idempotent."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """Close its stdin, which ends it; after *limit* seconds, kill it. What it said stays. Idempotent."""
        self.hang_up()
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
        if self._reporter is not None:
            self._reporter.join(STOP_LIMIT)
        with self._lock:
            self._read()
            self._file.close()

    def _read(self) -> None:
        """Read what the child has written since. The lock is held."""
        while not self._file.closed:
            # The offset of the file itself is the child's, too: it must not move.
            data = os.pread(self._file.fileno(), 1 << 20, self._offset)
            if not data:
                return
            self._offset += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": "text", "text": line.decode("utf-8", "replace")}
                self._events.append(event)
                if self._reporter is not None:
                    self._untold.append(event)

    def _report(self, on_event: Callable[[Event], None]) -> None:
        """Tell *on_event* of each event until the child has ended."""
        over = False
        while not over:
            over = not self.alive  # before the last look
            self.events()
            while self._untold:
                event = self._untold.popleft()
                try:
                    on_event(event)
                except Exception:  # somebody else's code; what the child says next is still to be heard
                    log.exception("on_event failed at %.200r", event)
            time.sleep(0 if over else _LOOK_AGAIN)


def can_connect(endpoint: str) -> bool:
    """Tell if something accepts connections at *endpoint*."""
    host, _, port = endpoint.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True
