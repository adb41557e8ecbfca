"""Child processes that talk in JSON lines, and waiting for what they do."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable

log = logging.getLogger("gilmsg.sandbox")

Event = dict[str, Any]

#: Seconds; between two looks for what *on_event* is to be told.
START_LIMIT, STOP_LIMIT, _LOOK_AGAIN = 60.0, 3.0, 0.02

#: From where a child imports the gilmsg that runs here.
_OURS = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def wait_for(condition: Callable[[], Any], what: str, limit: float = START_LIMIT) -> Any:
    """Return the first true value of *condition*; after *limit* seconds raise TimeoutError, naming *what*."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not within {limit:g} s: {what}")
        time.sleep(0.002)
    return value


class Talker:
    """A Python *module* run as a child: what it writes on stdout, a JSON line each, are events; its stdin is ours.

    It writes to a file: it never waits for us, and all that it wrote before some evidence reached us (an ACK, say)
    is among its ``events``. It is to end when its stdin does: so it ends with us, in whatever way we end. It is sent
    *first* at once. *on_event* is called with each event, on a thread of ours.
    """

    def __init__(self, module: str, first: Any, cwd: str, on_event: Callable[[Event], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  stop() closes it
        self._offset, self._rest = 0, b""
        self._events: list[Event] = []
        self._cleared = 0
        paths = [_OURS, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=cwd, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True, stdin=subprocess.PIPE, stdout=self._file,
        )  # fmt: skip
        self.pid = self._process.pid
        self._stdin: Any = self._process.stdin  # a pipe, never None
        self._reporter = threading.Thread(target=self._report, args=[on_event], name="gilmsg-talker", daemon=True)
        if on_event is not None:
            self._reporter.start()
        self.tell(first)

    @property
    def status(self) -> int | None:
        """Its exit status, negative if a signal ended it; None while it runs."""
        return self._process.poll()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.status is None

    def tell(self, line: Any) -> None:
        """Send it one line; a child that has ended hears nothing."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._stdin.write(json.dumps(line).encode("ascii") + b"\n")
            self._stdin.flush()

    def events(self) -> list[Event]:
        """Return all it has said since ``clear()``; a line that is no JSON is an event "text"."""
        with self._lock:
            # The offset of the file itself is the child's, too: it must not move.
            while not self._file.closed and (data := os.pread(self._file.fileno(), 1 << 20, self._offset)):
                self._offset += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._events.extend(map(_event, lines))
            return self._events[self._cleared :]

    def clear(self) -> None:
        """Forget all it has said so far."""
        self._cleared += len(self.events())

    def said(self, kind: str, **fields: Any) -> Event | None:
        """Return its first event of *kind* with these *fields*, or None; TimeoutError, if it has ended, too."""
        over = not self.alive
        wanted = dict(fields, event=kind).items()
        for event in self.events():
            if wanted <= event.items():
                return event
        if over:
            raise TimeoutError(f"the process ended before it said {kind!r}")
        return None

    def kill(self) -> None:
        """End it at once (SIGKILL); what it said stays. Idempotent."""
        self._process.kill()
        self.stop()

    def hang_up(self) -> None:
        """Close its stdin, which ends it, and do not wait for it. Idempotent."""
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """Close its stdin, which ends it; after *limit* seconds, kill it. What it said stays. Idempotent."""
        self.hang_up()
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reporter.is_alive():
            self._reporter.join(STOP_LIMIT)
        self.events()
        with self._lock:
            self._file.close()

    def _report(self, on_event: Callable[[Event], None]) -> None:
        """Tell *on_event* of each event until the child has ended."""
        told, over = 0, False
        while not over:
            over = not self.alive  # before the last look
            self.events()
            for event in self._events[told:]:
                told += 1
                try:
                    on_event(event)
                except Exception:  # somebody else's code; what the child says next is still to be heard
                    log.exception("on_event failed at %.200r", event)
            time.sleep(_LOOK_AGAIN)


def _event(line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError:
        event = {"event": "text", "text": line.decode("utf-8", "replace")}
    return event


def can_connect(endpoint: str) -> bool:
    """Tell if something accepts connections at *endpoint*."""
    host, _, port = endpoint.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True
