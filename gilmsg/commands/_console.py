"""What may happen to a running sandbox: a typed line, a signal, the end of its command.

Signals only leave a note (and wake whoever sleeps): raised in the midst of starting a process
they would leave it running. ``check`` raises them where it is safe.
"""

import os
import select
import signal
from types import FrameType
from typing import Any, Dict, Iterator, List, Optional

from .._wakeup import Wakeup

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Seconds between looks whether we have come to the foreground of the terminal.
_BACKGROUND = 1.0


class Ended(Exception):
    """A signal asks us to end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__("ended by signal %d" % number)


class Console:
    """Our stdin and the signals. A context manager; for the main thread only."""

    def __init__(self) -> None:
        self._signal: Optional[int] = None
        self._rest = b""
        self._listening = True
        self._wakeup = Wakeup()
        self._former: Dict[int, Any] = {}

    def __enter__(self) -> "Console":
        self._former_wakeup = signal.set_wakeup_fd(self._wakeup.wakeup_fd(), warn_on_full_buffer=False)
        for number in SIGNALS:
            self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_wakeup)
        self._wakeup.close()

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self._signal = self._signal or number

    def check(self) -> None:
        """Raise Ended if we have been asked to end."""
        if self._signal is not None:
            raise Ended(self._signal)

    def wake(self) -> None:
        """Make ``sleep`` return; from any thread."""
        self._wakeup.wake()

    def sleep(self) -> None:
        """Return when something may have happened that is not a typed line.

        Raises:
            Ended: we have been asked to end.
        """
        self.check()
        self._await(False, None)
        self.check()

    def lines(self) -> Iterator[str]:
        """Yield each line typed, for ever: the end of stdin does not end us.

        Raises:
            Ended: we have been asked to end.
        """
        while True:
            self.check()
            foreground = _in_foreground()
            if self._await(self._listening and foreground, None if foreground else _BACKGROUND):
                for line in self._typed():
                    yield line
                    self.check()

    def _await(self, stdin: bool, limit: Optional[float]) -> bool:
        """Return when we are woken, at the latest after *limit* seconds; or if *stdin*, when there is something.

        Returns whether there is.
        """
        poller = select.poll()  # select() knows no descriptor beyond 1023
        poller.register(self._wakeup, select.POLLIN)
        if stdin:
            poller.register(0, select.POLLIN)
        ready = [descriptor for descriptor, _ in poller.poll(None if limit is None else limit * 1000)]
        if self._wakeup.fileno() in ready:
            self._wakeup.clear()
        return 0 in ready

    def _typed(self) -> List[str]:
        """Read what is there; return the lines that are complete."""
        try:
            data = os.read(0, 65536)
        except OSError:
            data = b""
        self._listening = bool(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop() if data else b""
        return [line.decode("utf-8", "replace") for line in lines if data or line]


def _in_foreground() -> bool:
    """Whether reading a terminal on stdin would not stop us (a job in the background)."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True  # no terminal


def is_terminal() -> bool:
    """Whether stdin is a terminal."""
    return os.isatty(0)
