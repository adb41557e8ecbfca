"""``gilmsg.check``: would a publish succeed? Found out without publishing.

:mod:`.ourselves` looks at what needs no socket, and in parts: configuration, keys, CA and CRL, so that no
finding hides another. Then the port of the engine is opened that a publish would open, or joined where this
process publishes already; :mod:`.recipients` reads from it who listens to us and whom the ACK listener reaches.
What is said of a recipient is what a Timeout would say. When the look is over the port is closed again:
the engine keeps what others use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import _protocol, _settings
from .._client import context
from ..errors import ConfigurationError, ListenerError
from . import ourselves
from .ourselves import Line
from .recipients import RELAY, Seen, seen, sights

__all__ = ["Line", "Report", "Seen", "check"]


class Report:
    """The answer of :func:`gilmsg.check`: true exactly if a publish is expected to succeed.

    Attributes:
        ok (bool): the same.
        lines (list): about ourselves; each has ``check``, ``ok`` and ``detail``.
        recipients (dict): common name -> what is known; each has ``endpoints``, ``reachable``
            (None: its endpoints are unknown), ``listening`` and ``detail``. Of a group, each
            member has an entry of its own; one member that is ``ok`` is enough.
        missing (list): the recipients because of which it is not ok; not those for which another of
            their group makes good.
    """

    def __init__(self, lines: Sequence[Line], recipients: Mapping[str, Seen], groups: Sequence[Sequence[str]]) -> None:
        self.lines = list(lines)
        self.recipients = dict(recipients)
        failed = [group for group in groups if not any(recipients[name].ok for name in group)]
        self.missing = list(dict.fromkeys(name for group in failed for name in group))
        self.ok = not failed and all(line.ok for line in lines)

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"<gilmsg check: {'ok' if self.ok else '; '.join(self.failures())}>"

    def failures(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        own = [f"{line.check}: {line.detail}" for line in self.lines if not line.ok]
        return own + [f"{name}: {self.recipients[name].detail}" for name in self.missing]

    def as_dict(self) -> dict[str, Any]:
        """Return the same as plain data: what ``gilmsg-check --json`` prints."""
        return {
            "ok": self.ok,
            "self": [line._asdict() for line in self.lines],
            "recipients": {
                name: dict(seen._asdict(), endpoints=list(seen.endpoints)) for name, seen in self.recipients.items()
            },
        }


def check(recipients: Any = None, topic: str | None = None, **config: Any) -> Report:
    """Tell whether a publish would be expected to succeed, without publishing anything.

    Waits for the recipients at most ``gilmsg.head_start`` seconds, as a publisher that has
    just been started does, and not at all where this process's publisher and listener are older than that.
    Leaves everything as it was: a publisher and a listener that run here are looked at and go
    on; where none runs, one is opened and closed again. (As by publish, a soft limit of open files is
    raised where it is too low for the endpoints.)

    Args:
        recipients: as for :func:`publish`; None asks ``gilmsg.recipients`` for *topic* (without
            a topic: all that it names).
        topic (str): a full topic. Without one a recipient is present if it listens to any
            topic of our ``topic_prefix`` and ``environment``.
        **config: fedmsg configuration, used if this thread has no context; the ``gilmsg.*``
            keys always count. ``config_filename`` is read instead of ``fedmsg.d``.

    Returns:
        Report: true if a publish is expected to succeed; ``as_dict()`` is what ``gilmsg-check
        --json`` prints. Whatever is wrong with configuration, files or peers is in there.

    Raises:
        ConfigurationError: *recipients* or *topic* is not usable, or ``config_filename`` is no file.
    """
    named = None if recipients is None else _settings.recipients(recipients)
    if topic is not None and (not isinstance(topic, str) or not topic):
        raise ConfigurationError(f"topic must be a full topic (text); it is {topic!r}")
    own = context.current()
    if own is None:
        loaded = _settings.load(config)
        effective = context.named_after(loaded.config, context.calling_module())
    else:
        effective = {**own.c, **{key: config[key] for key in _settings.KEYS if key in config}}
        effective["endpoints"] = dict(effective.get("endpoints") or {})
        loaded = _settings.in_force(effective)
    lines = ourselves.lines(loaded, effective)
    entries, more = ourselves.asked(named, topic, effective)
    return _judged([_protocol.members(entry) for entry in entries], topic, effective, lines + more)


def _judged(groups: list[list[str]], topic: str | None, config: Mapping[str, Any], lines: list[Line]) -> Report:
    """Open what a publish would open, look at the recipients by it, and close it again."""
    port, book, told = ourselves.opened(config)
    lines += told
    via_relay, found = bool(config.get("active", False)), {}
    relay = [[RELAY]] if via_relay and port is not None and port.address is not None else []
    try:
        if port is not None:
            way = port.way(topic, repr(topic) if topic else f"any topic of ours ({ourselves.prefix(config)}*)")
            found = sights(port, way, groups + relay, ourselves.head_start(config))
    except ListenerError:
        lines.append(Line("listener", False, "it ended during this check, by destroy() for example; check again"))
    finally:
        if port is not None:
            port.close()
    if port is not None and RELAY in found:
        lines.append(ourselves.relay(port.endpoint, found[RELAY].absent))
    return Report(lines, seen(found, groups, book, via_relay), groups)
