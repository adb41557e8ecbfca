"""A child process that talks in JSON lines: started, listened to and stopped with deadlines."""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

log = logging.getLogger(__name__)

Event = Dict[str, Any]

START_LIMIT = 60.0
STOP_LIMIT = 3.0

#: Seconds after which the thread that reads looks whether it is still to do so.
_LOOK_AGAIN = 1.0


def environment(extra: Optional[Mapping[str, str]] = None) -> Dict[str, str]:
    """Return an environment in which a child imports the gilmsg that runs here."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [package] + [path for path in [os.environ.get("PYTHONPATH")] if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(extra or {})}


def wait_for(condition: Callable[[], Any], what: str, limit: float = START_LIMIT) -> Any:
    """Return the first true value of *condition*; poll for it, at most for *limit* seconds.

    Raises:
        TimeoutError: naming *what* did not come true.
    """
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError("not within %g s: %s" % (limit, what))
        time.sleep(0.005)


class Talker:
    """A Python module run as a child: JSON lines on its stdout are events, its stdin is ours.

    A thread reads the events, so that the child never blocks on a full pipe; ``events`` reads
    what is in the pipe before it answers, so that nothing which the child wrote before some
    evidence reached us (an ACK, say) is missing.

    Args:
        module: run as ``python -m``.
        first: sent as the first line, in JSON.
        cwd: its working directory.
        on_event: called with each event, on the reading thread or in ``events``; what it raises is logged.
        prefix: put before the command, to run it elsewhere (``ip netns exec <name>``, say); it
            must become the command, as ``exec`` does, or ``pid`` and ``kill`` mean the wrong process.
    """

    def __init__(
        self,
        module: str,
        first: Any,
        cwd: Optional[str] = None,
        on_event: Optional[Callable[[Event], None]] = None,
        prefix: Sequence[str] = (),
    ) -> None:
        command = [sys.executable, "-m", module]
        self._process = start(command, cwd, prefix, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None)
        assert self._process.stdout is not None
        self._descriptor = self._process.stdout.fileno()
        os.set_blocking(self._descriptor, False)
        self._lock = threading.RLock()
        self._on_event = on_event
        self._rest = b""
        self._ended = self._forgotten = False
        self._events: List[Event] = []
        self._thread = threading.Thread(target=self._listen, name="gilmsg-talker", daemon=True)
        self._thread.start()
        self.tell(first)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def tell(self, line: Any) -> None:
        """Send it one line; a child that has ended hears nothing."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode("ascii") + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def events(self) -> List[Event]:
        """Return all it has said so far."""
        with self._lock:
            self._take()
            return list(self._events)

    def wait_for(self, kind: str, limit: float = START_LIMIT) -> Event:
        """Return its first event of *kind*.

        Raises:
            TimeoutError: it did not come within *limit* seconds, or the child ended.
        """
        found: Event = wait_for(lambda: self.said(kind), "the event %r" % kind, limit)
        return found

    def said(self, kind: str, after: int = 0, **fields: Any) -> Optional[Event]:
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
            raise TimeoutError("the process ended before it said %r" % kind)
        return None

    def clear(self) -> None:
        """Forget all it has said so far."""
        with self._lock:
            self._take()
            self._events.clear()

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.alive:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once (SIGKILL), and forget it."""
        self.signal(signal.SIGKILL)
        self._forget()

    def hang_up(self) -> None:
        """Close its stdin, which ends it, and do not wait for it. Idempotent."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass

    def stop(self, limit: float = STOP_LIMIT) -> None:
        """Close its stdin, which ends it; after *limit* seconds, kill it. Idempotent."""
        self.hang_up()
        try:
            self._process.wait(limit)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
        self._forget()

    def _forget(self) -> None:
        self._process.wait()
        self._thread.join(STOP_LIMIT)
        if self._thread.is_alive():  # some child of its own holds the pipe open
            self._forgotten = True
            self._thread.join(STOP_LIMIT)  # soon: it looks again and again
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def _listen(self) -> None:
        poller = select.poll()  # select() knows no descriptor beyond 1023
        poller.register(self._descriptor, select.POLLIN)
        while not (self._ended or self._forgotten):
            poller.poll(_LOOK_AGAIN * 1000)
            with self._lock:
                self._take()

    def _take(self) -> None:
        """Read what is in the pipe. The lock is held."""
        while not (self._ended or self._forgotten):
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return
            self._ended = not data
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                self._note(line)

    def _note(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = {"event": "text", "text": line.decode("utf-8", "replace")}
        self._events.append(event)
        try:
            if self._on_event is not None:
                self._on_event(event)
        except Exception:  # somebody else's code; what the child says next is still to be heard
            log.exception("on_event failed at %.200r", event)


def start(
    command: Sequence[str],
    cwd: Optional[str],
    prefix: Sequence[str] = (),
    env: Optional[Mapping[str, str]] = None,
    **streams: Any,
) -> "subprocess.Popen[bytes]":
    """Start *command* in *cwd*, in a session of its own, with the gilmsg that runs here.

    *prefix* is put before it, *env* is added to its environment; of *streams* (stdin, stdout, stderr) those that
    are not given are /dev/null.
    """
    files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    return subprocess.Popen([*prefix, *command], cwd=cwd, env=environment(env), start_new_session=True, **files)


def stop(process: "subprocess.Popen[Any]", limit: float = STOP_LIMIT, number: int = signal.SIGINT) -> None:
    """End *process*: the signal *number*, and after *limit* seconds SIGKILL. Idempotent."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def can_connect(endpoint: str) -> bool:
    """Whether something accepts connections at *endpoint*."""
    host, _, port = endpoint.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True


def script(function: str, tied: bool = False) -> Sequence[str]:
    """Return a command that runs a console script's function (``module:name``) in this Python.

    If *tied*, it ends when its stdin does: with a pipe there, when we end, in whatever way.
    """
    module, _, name = function.partition(":")
    run = "import sys; from %s import %s as f; sys.exit(f())" % (module, name)
    if tied:
        watch = "lambda: (os.read(0, 1), os._exit(0))"
        run = "import os, threading; threading.Thread(target=%s, daemon=True).start(); %s" % (watch, run)
    return [sys.executable, "-c", run]
