"""What ``gilmsg.check`` answers. Pure."""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence


class Line(NamedTuple):
    """One thing about ourselves: which, whether it is in order, and one sentence."""

    check: str
    ok: bool
    detail: str


class Seen(NamedTuple):
    """What is known of one recipient."""

    #: From which its ACKs can come, as far as ``certnames`` tells.
    endpoints: List[str]
    #: Whether the ACK listener is connected to one of them; None where none is known.
    reachable: Optional[bool]
    #: Whether it would get what we publish; behind a relay, whether the relay would.
    listening: bool
    detail: str

    @property
    def ok(self) -> bool:
        """Whether a publish to it would be expected to succeed."""
        return self.listening and self.reachable is not False


class Report:
    """The answer of :func:`gilmsg.check`: true exactly if a publish is expected to succeed.

    Attributes:
        ok (bool): the same.
        lines (list): about ourselves; each has ``check``, ``ok`` and ``detail``.
        recipients (dict): common name -> what is known; each has ``endpoints``, ``reachable``
            (None: its endpoints are unknown), ``listening`` and ``detail``. Of a group, each
            member has an entry of its own; one member that is ``ok`` is enough.
        missing (list): the recipients because of which it is not ok.
    """

    def __init__(
        self, lines: Sequence[Line], recipients: Dict[str, Seen], groups: Sequence[Sequence[str]]
    ) -> None:
        self.lines = list(lines)
        self.recipients = dict(recipients)
        failed = [group for group in groups if not any(recipients[name].ok for name in group)]
        #: The recipients at fault; not those for which another of their group makes good.
        self.missing = list(dict.fromkeys(name for group in failed for name in group))
        self.ok = not failed and all(line.ok for line in lines)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return "<gilmsg check: %s>" % ("ok" if self.ok else "; ".join(self.failures()))

    def failures(self) -> List[str]:
        """Return what is wrong, one sentence each."""
        own = ["%s: %s" % (line.check, line.detail) for line in self.lines if not line.ok]
        return own + ["%s: %s" % (name, self.recipients[name].detail) for name in self.missing]

    def as_dict(self) -> Dict[str, Any]:
        """Return the same as plain data: what ``gilmsg-check --json`` prints."""
        return {
            "ok": self.ok,
            "self": [line._asdict() for line in self.lines],
            "recipients": {
                name: dict(seen._asdict(), endpoints=list(seen.endpoints))
                for name, seen in self.recipients.items()
            },
        }
