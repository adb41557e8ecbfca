"""The answer of a check: a state for each line and recipient, what follows from all, and what changes from look to look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from .. import _protocol
from ..errors import Reason

#: In order, in order but soon or possibly not, not to be told, and wrong; the worst comes last.
OK, WARNING, UNKNOWN, FAIL = STATES = ("ok", "warning", "unknown", "fail")


class Line(NamedTuple):
    """One thing about ourselves: which, its state (``ok``, ``warning``, ``unknown``, ``fail``), and one sentence."""

    check: str
    state: str
    detail: str

    @property
    def ok(self) -> bool:
        """Whether it keeps no publish from success: its state is ``ok`` or ``warning``."""
        return is_ok(self.state)


class Seen(NamedTuple):
    """What is known of one recipient."""

    #: From which its ACKs can come, as far as ``certnames`` tells.
    endpoints: list[str]
    #: Whether the ACK listener is connected to one of them; None where none is known.
    reachable: bool | None
    #: Whether it would get what we publish; behind a relay, whether the relay would.
    listening: bool
    #: ``ok``, ``warning`` (its certificate ends soon), ``unknown`` or ``fail``.
    state: str
    detail: str
    #: What is about to end, one sentence each; they are part of *detail*.
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a publish to it would be expected to succeed."""
        return is_ok(self.state)


def is_ok(state: str) -> bool:
    return state in (OK, WARNING)


def worst(states: Iterable[str]) -> str:
    return max(states, key=STATES.index, default=OK)


class Report:
    """The answer of :func:`gilmsg.check`: true exactly if a publish is expected to succeed (a consumer, to acknowledge).

    ``print(report)`` shows what ``gilmsg-check`` prints.

    Attributes:
        state (str): the worst of all: ``ok``, ``warning``, ``unknown`` (nothing is known to be wrong, and not
            everything can be seen) or ``fail``. Of a group, the best of its members counts.
        ok (bool): whether *state* is ``ok`` or ``warning``; the same as ``bool(report)``.
        lines (list): about ourselves; each has ``check``, ``state``, ``ok`` and ``detail``.
        recipients (dict): common name -> what is known; each has ``endpoints``, ``reachable``
            (None: its endpoints are unknown), ``listening``, ``state``, ``ok``, ``detail`` and ``warnings``. Of a group, each
            member has an entry of its own; one member that is ``ok`` is enough.
        missing (list): the recipients because of which it is not ok; not those for which another of
            their group makes good.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        recipients: Mapping[str, Seen],
        groups: Sequence[Sequence[str]],
        expected: str = "a publish is expected to succeed",
    ) -> None:
        self.lines, self.recipients, self._expected = list(lines), dict(recipients), expected
        best = [min((recipients[name].state for name in group), key=STATES.index) for group in groups]
        self.state = worst([*best, *(line.state for line in lines)])
        self.ok = is_ok(self.state)
        blamed = [(name, state) for group, state in zip(groups, best) if not is_ok(state) for name in group]
        self.missing = list(dict.fromkeys(name for name, state in blamed if recipients[name].state == state))
        for name, seen in recipients.items():
            if not seen.ok and name not in self.missing:
                group = _protocol.join_group(next(group for group in groups if name in group))
                told = f"{seen.detail}; another of the group {group} is enough"
                self.recipients[name] = seen._replace(detail=told)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        told = "; ".join(self.failures() + self.unknowns())
        return f"<gilmsg check: {self.state}{': ' if told else ''}{told}>"

    def __str__(self) -> str:
        own = [(line.state, line.check, line.detail) for line in self.lines]
        theirs = []
        for name, seen in self.recipients.items():
            state = seen.state if seen.ok or name in self.missing else "-"
            theirs.append((state, name, seen.detail + (f" ({', '.join(seen.endpoints)})" if seen.endpoints else "")))
        return "\n".join(["ourselves", *_rows(own), *(["recipients", *_rows(theirs)] if theirs else []), self._verdict()])

    def _verdict(self) -> str:
        failed, unknown = len(self.failures()), len(self.unknowns())
        if failed:
            return f"not ok: {failed} of these lines failed"
        if unknown:
            return f"unknown: {unknown} of these lines cannot be told; nothing else is wrong"
        return f"ok: {self._expected}"

    def failures(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        return self._sentences(FAIL)

    def unknowns(self) -> list[str]:
        """Return what cannot be told, one sentence each."""
        return self._sentences(UNKNOWN)

    def warnings(self) -> list[str]:
        """Return what is in order, but not for long or not as it should be, one sentence each."""
        own = [f"{line.check}: {line.detail}" for line in self.lines if line.state == WARNING]
        return own + [f"{name}: {one}" for name, seen in self.recipients.items() for one in seen.warnings]

    def _sentences(self, state: str) -> list[str]:
        own = [f"{line.check}: {line.detail}" for line in self.lines if line.state == state]
        seen = [(name, self.recipients[name]) for name in self.missing]
        return own + [f"{name}: {one.detail}" for name, one in seen if one.state == state]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data: what ``gilmsg-check --json`` prints."""
        recipients = {name: {**seen._asdict(), "warnings": list(seen.warnings), "ok": seen.ok} for name, seen in self.recipients.items()}
        lines = [{**line._asdict(), "ok": line.ok} for line in self.lines]
        details = {name: self.recipients[name].detail for name in self.missing}
        reasons = {name: detail.as_dict() for name, detail in details.items() if isinstance(detail, Reason)}
        return {"ok": self.ok, "state": self.state, "self": lines, "recipients": recipients, "reasons": reasons}


def _rows(rows: list[tuple[str, str, str]]) -> list[str]:
    width = max((len(name) for _, name, _ in rows), default=0)
    return [
        f"  {'FAIL' if state == FAIL else state:7}  {name:{width}}  {' '.join(detail.split())}".rstrip()
        for state, name, detail in rows
    ]


class Change(NamedTuple):
    """One thing that is not as it was: of a recipient (its common name), or of ourselves (the name of a check)."""

    name: str
    #: ``came``, ``went``, ``absent`` (at the first look), or the state that holds now.
    what: str
    detail: str


class Watch:
    """A check that is repeated. *look* makes the report, and has *handles* close what it opens.

    What one look has opened closes after the next, which shares it: publisher and listener stay open in between, and
    recipients find them once.
    """

    def __init__(self, look: Callable[[contextlib.ExitStack], Report]) -> None:
        self._look, self._handles = look, contextlib.ExitStack()
        self._before = Report([], {}, [])

    def look(self) -> list[Change]:
        """Check, and return what has changed since the last look; at the first, who is there, and what is not in order."""
        with contextlib.ExitStack() as handles:
            report, before = self._look(handles), self._before
            self.close()
            self._handles, self._before = handles.pop_all(), report
        return list(_changes(before, report))

    def close(self) -> None:
        """Give up what is open."""
        self._handles.close()


def _changes(before: Report, after: Report) -> Iterator[Change]:
    """Yield what *after* says that *before* did not; what is in order needs no words."""
    known, now = _conditions(before.lines), _conditions(after.lines)
    for name in {**now, **known}:
        state, detail = now.get(name, (OK, ""))
        if (state, detail) != known.get(name, (OK, "")):
            in_order = "in order again" if name in now else "in order again, or not looked at any more"
            yield Change(name, state, detail or in_order)
    for name, seen in after.recipients.items():
        former = before.recipients.get(name)
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
