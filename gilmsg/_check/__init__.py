"""``gilmsg.check``: would a publish succeed? Found out without publishing.

:mod:`.ourselves` looks at what needs no socket, and in parts: configuration, keys, CA and CRL, so that no finding
hides another. Then it opens the port of the engine that a publish would open, or joins it where this process
publishes already. By that port it is seen who listens to us and whom the ACK listener reaches; what is said of a
recipient is what a Timeout would say. What cannot be seen is ``unknown``, never ``ok`` (:mod:`.report`). When the
look is over the port is closed again: the engine keeps what others use.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import _client, _engine, _protocol, _settings, _trust
from ..errors import ConfigurationError, ListenerError, Reason
from . import ourselves
from .report import FAIL, OK, UNKNOWN, WARNING, Change, Line, Report, Seen, Watch, worst

__all__ = ["Change", "Line", "Report", "Seen", "Watch", "check", "watch"]

#: Seconds: between two looks at who is there; for a TCP connection that only tells why the ACK listener has none.
_LOOK_AGAIN, _PROBE = 0.02, 1.0

#: Such connections tried at a time.
_PROBES = 32

_BLIND = "whether it listens cannot be seen: we have no publisher (endpoint)"

_NO_ZEROMQ = "takes TCP connections, but the ACK listener has no ZeroMQ connection to it (yet)"

#: Stands for the relay among names.
RELAY = ""

#: Name -> why it, or the relay before it, does not get what we publish (None: it does), and whether the ACK listener is
#: connected to it (None: its endpoints are unknown).
Sights = dict[str, tuple["str | None", "bool | None"]]


def check(
    recipients: Any = None, topic: str | None = None, *, consumer: bool = False, warn_days: float | None = None,
    **config: Any,
) -> Report:
    """Tell whether a publish would be expected to succeed, without publishing anything.

    Waits for the recipients at most ``gilmsg.head_start`` seconds, as a publisher that has
    just been started does, and not at all where this process's publisher and listener are older.
    Leaves everything as it was: a publisher and a listener that run here are looked at and go
    on; where none runs, one is opened and closed again. (As by publish, a soft limit of open files is
    raised where it is too low for the endpoints.)

    Args:
        recipients: as for :func:`publish`; None asks ``gilmsg.recipients`` for *topic* (without
            a topic: all that it names).
        topic (str): a full topic. Without one a recipient is present if it listens to any
            topic of our ``topic_prefix`` and ``environment``.
        consumer (bool): tell instead whether a consumer would be expected to acknowledge: its keys, CA and CRL, as
            whom and from where its ACKs leave, and which publishers' endpoints take connections. No *recipients* then;
            *topic* may be the beginning of topics.
        warn_days (float): a certificate that ends within so many days, 14 by default, is a warning; a CRL is in the
            last tenth of its time.
        **config: fedmsg configuration, used if this thread has no context; the ``gilmsg.*``
            keys always count. ``config_filename`` is read instead of ``fedmsg.d``.

    Returns:
        Report: true if a publish is expected to succeed; ``as_dict()`` is what ``gilmsg-check
        --json`` prints. Whatever is wrong with configuration, files or peers is in there.

    Raises:
        ConfigurationError: *recipients*, *topic* or *warn_days* is not usable, or ``config_filename`` is no file.
    """
    with contextlib.ExitStack() as handles:
        return _look(handles, recipients, topic, consumer, warn_days, **config)


def watch(**asked: Any) -> Watch:
    """Return a check that can be repeated: it takes what :func:`check` does, and says what has changed."""
    return Watch(lambda handles: _look(handles, **asked))


def _look(
    handles: contextlib.ExitStack, /, recipients: Any = None, topic: Any = None, consumer: bool = False, warn_days: Any = None,
    **config: Any,
) -> Report:
    """Check once; what a publisher opens stays open until *handles* close."""
    if consumer and recipients is not None:
        raise ConfigurationError(f"a consumer has no recipients; they are {recipients!r}")
    named = None if recipients is None else _settings.recipients(recipients)
    if topic is not None and (not isinstance(topic, str) or not topic):
        raise ConfigurationError(f"topic must be a full topic (text); it is {topic!r}")
    if warn_days is not None and not (isinstance(warn_days, (int, float)) and warn_days >= 0):
        raise ConfigurationError(f"warn_days must be a number of days, 0 or more; it is {warn_days!r}")
    loaded, effective = _in_force(config)
    lines = ourselves.lines(loaded, effective, warn_days)
    if consumer:
        _consuming(topic, effective, lines)
        return Report(lines, {}, [], "what names this consumer is expected to be acknowledged")
    groups = [_protocol.members(entry) for entry in ourselves.asked(named, topic, effective, lines)]
    return Report(lines, _publishing(handles, groups, topic, effective, lines, warn_days), groups)


def _in_force(config: dict[str, Any]) -> tuple[_settings.Loaded, dict[str, Any]]:
    """Return what is read of files, and the configuration by which this thread would publish."""
    own = _client.context.current()
    if own is None:
        loaded = _settings.load(config)
        return loaded, _client.names.named_after(loaded.config, _client.names.calling_module())
    effective = {**own.c, **{key: config[key] for key in _settings.KEYS if key in config}}
    effective["endpoints"] = dict(effective.get("endpoints") or {})
    return _settings.in_force(effective), effective


def _consuming(topic: str | None, config: Mapping[str, Any], lines: list[Line]) -> None:
    """Add to *lines* those about what a consumer needs besides: its port, its name, and publishers."""
    begin, prefix = (topic or "").replace("*", ""), ourselves.prefix(config)
    if not begin.startswith(prefix) and not prefix.startswith(begin):
        lines.append(ourselves.foreign(begin, config))
    with contextlib.ExitStack() as handles:  # at once given back: the port is the consumer's
        port = ourselves.endpoint(config, lines, handles, consumes=True)
    if not config.get("sign_messages", False):
        lines.append(Line("acks", FAIL, "sign_messages is off: this consumer acknowledges nothing"))
    elif all(line.state != FAIL for line in lines):
        name = _trust.signer(config, _client.names.certname(config)).common_name
        lines.append(Line("acks", OK, f"they leave as {name} from {port.endpoint if port else 'one of these ports'}"))
    others = _settings.publishing_endpoints(config)
    others.pop(str(config.get("name")), None)
    tried = _probed([one for several in others.values() for one in several])
    if not tried:
        told = "endpoints has no entry but our own: there is nobody to listen to"
        lines.append(Line("publishers", FAIL, told))
        return
    refused = "".join(f"; {one} {why_not}" for one, why_not in tried.items() if why_not)
    reached = sum(why_not is None for why_not in tried.values())
    told = f"{reached} of {len(tried)} endpoints of others take connections (a port is open while its process runs)"
    lines.append(Line("publishers", UNKNOWN if not reached else WARNING if refused else OK, told + refused))


def _publishing(
    handles: contextlib.ExitStack, groups: list[list[str]], topic: str | None, config: Mapping[str, Any],
    lines: list[Line], warn_days: float | None,
) -> dict[str, Seen]:  # fmt: skip
    """Open what a publish would open, and return what is seen by it of the recipients; add to *lines* what else is."""
    found: Sights = {}
    book = _settings.AddressBook(config)
    port = ourselves.opened(config, book, lines, handles)
    if port is not None:
        way = port.way(topic, repr(topic) if topic else f"any topic of ours ({ourselves.prefix(config)}*)")
        relay = [[RELAY]] if config.get("active", False) and port.address is not None else []
        try:
            found = _sights(port, way, groups + relay, _settings.plain(_settings.HEAD_START, config))
        except ListenerError:
            lines.append(Line("listener", FAIL, "it ended during this check, by destroy() for example; check again"))
        if RELAY in found:
            there = f"the relay at {port.endpoint} (relay_inbound) is there; recipients behind it cannot be seen"
            absent, _ = found[RELAY]
            lines.append(Line("relay", FAIL, f"{absent} (relay_inbound)") if absent else Line("relay", OK, there))
    return _seen(found, groups, book, config, warn_days)


def _sights(port: _engine.Port, way: _protocol.Way, groups: Sequence[Sequence[str]], head_start: float) -> Sights:
    """Return what *port* shows of all names in *groups*, once they are there or a publish would wait no more.

    A port without publisher shows who is reached for ACKs; the connections for these are waited for then.
    """
    publishes = port.address is not None

    def look() -> Sights:
        return {
            name: (_protocol.absent(name, way) if publishes else _BLIND, None if name == RELAY else way.linked(name))
            for group in groups
            for name in group
        }

    until = head_start + (port.born if publishes else time.monotonic())
    while True:
        found = port.look(look)
        there = {name for name, (absent, linked) in found.items() if linked is not False and not (publishes and absent)}
        if time.monotonic() >= until or all(there.intersection(group) for group in groups):
            return found
        time.sleep(_LOOK_AGAIN)


def _seen(
    found: Sights, groups: Sequence[Sequence[str]], book: _settings.AddressBook, config: Mapping[str, Any],
    warn_days: float | None,
) -> dict[str, Seen]:  # fmt: skip
    """Return, for each member of *groups*, what *found* tells of it."""
    via_relay = bool(config.get("active", False))
    there = _protocol.BEHIND_RELAY if via_relay else "listening to us"
    endpoints = {name: book.of(name, via_relay) for group in groups for name in group}
    sights = {name: found.get(name, (_BLIND, None)) for name in endpoints}
    unlinked = list({one: None for name, known in endpoints.items() if not sights[name][1] for one in known})
    why_not = {one: why or _NO_ZEROMQ for one, why in _probed(unlinked).items()}
    every: dict[str, Seen] = {}
    for name, known in endpoints.items():
        absent, linked = sights[name]
        sentences = [absent or there]
        states = [FAIL if absent not in (None, _BLIND) else UNKNOWN if absent or via_relay else OK]
        by = ""
        if not book.of(name, False):
            unmapped = f"certnames has no entry that leads to {name!r} and to an entry of endpoints"
            sentences.append(f"its endpoints are unknown: {unmapped}")
            states.append(UNKNOWN)
            by = "through the relay: "
        if known and linked:
            sentences.append(by + "reachable for its ACK")
        elif known:
            sentences.append(f"{by}not reachable for its ACK: {', '.join(f'{one} {why_not[one]}' for one in known)}")
            states.append(FAIL)
        elif set(book.publishing) <= {config.get("name")}:
            sentences.append("no ACK can come, for endpoints has no entry but our own")
            states.append(FAIL)
        warnings = tuple(ourselves.ending(name, config, warn_days))
        if warnings:
            states.append(WARNING)
        told = "; ".join([*sentences, *warnings])
        if isinstance(absent, Reason):
            told = Reason(told, absent.code, absent.may_have_arrived)
        elif known and not linked and absent is None:
            told = Reason(told, "unreachable")
        every[name] = Seen(known, bool(linked) if known else None, absent is None, worst(states), told, warnings)
    return every


def _probed(endpoints: Sequence[str]) -> dict[str, str | None]:
    """Return, for each of *endpoints*, why it does not take TCP connections; None if it does."""
    with ThreadPoolExecutor(_PROBES, "gilmsg-check") as pool:
        return dict(zip(endpoints, pool.map(_why_not, endpoints)))


def _why_not(endpoint: str) -> str | None:
    _, host, port = _engine.sockets.parts(endpoint)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE).close()
    except socket.gaierror:
        return "has a host that does not resolve"
    except socket.timeout:
        return "does not answer"
    except (OSError, ValueError) as error:
        return f"cannot be connected to: {error}"
    return None
