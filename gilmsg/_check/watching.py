"""Changes from one check to the next: a recipient comes or goes, a certificate is about to end, a setting breaks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

from .._engine import Port
from .report import OK, Line, Report, Seen, worst


class Change(NamedTuple):
    """One thing that is not as it was: of a recipient (its common name), or of ourselves (the name of a check)."""

    name: str
    #: ``came``, ``went``, ``absent`` (at the first look), or the state that holds now.
    what: str
    detail: str


class Watch:
    """A check that is repeated: *check* makes the report; *hold* opens the port that stays open in between, if it can."""

    def __init__(self, check: Callable[[], Report], hold: Callable[[contextlib.ExitStack], Port | None]) -> None:
        self._check, self._hold = check, hold
        self._handles = contextlib.ExitStack()
        self._port: Port | None = None
        self._before: Report | None = None

    def look(self) -> list[Change]:
        """Check, and return what has changed since the last look; at the first, who is there, and what is not in order."""
        if self._port is None or not self._port.alive:
            self.close()
            self._port = self._hold(self._handles)
        report, before = self._check(), self._before
        self._before = report
        return list(changes(before, report))

    def close(self) -> None:
        """Give up what is open."""
        self._port = None
        self._handles.close()


def changes(before: Report | None, after: Report) -> Iterator[Change]:
    """Yield what *after* says that *before* did not; what is in order needs no words."""
    known: dict[str, Any] = {} if before is None else _conditions(before.lines)
    for name, (state, detail) in _conditions(after.lines).items():
        if (state, detail) != known.pop(name, (OK, "")):
            yield Change(name, state, detail or "in order again")
    for name, (state, _) in known.items():
        if state != OK:
            yield Change(name, OK, "in order again, or not looked at any more")
    for name, seen in after.recipients.items():
        former = None if before is None else before.recipients.get(name)
        if former is None or _is_there(seen) != _is_there(former):
            yield Change(name, "came" if _is_there(seen) else "absent" if former is None else "went", seen.detail)
        for warning in seen.warnings:
            if former is None or warning not in former.warnings:
                yield Change(name, "warning", warning)


def _is_there(seen: Seen) -> bool:
    return seen.listening and seen.reachable is not False


def _conditions(lines: list[Line]) -> dict[str, tuple[str, str]]:
    """Return name of a check -> its state, and what is to be said of that; nothing where it is in order."""
    found: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(line.check for line in lines):
        own = [line for line in lines if line.check == name]
        state = worst(line.state for line in own)
        found[name] = state, "" if state == OK else "; ".join(line.detail for line in own if line.state == state)
    return found
