"""Evidence about each recipient: who listens to us, and whom our ACK listener reaches."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .. import _protocol
from .._engine import Port, sockets
from .._protocol import Way
from .._settings import AddressBook

#: Seconds between two looks at who is there.
_LOOK_AGAIN = 0.02

#: Seconds for a TCP connection that only tells why the ACK listener has none.
_PROBE = 1.0

#: Such connections tried at a time.
_PROBES = 32

_BLIND = "whether it listens cannot be seen: we have no publisher (endpoint)"

#: Stands for the relay among names.
RELAY = ""


class Sight(NamedTuple):
    """One recipient as the engine sees it; by default as without an engine."""

    #: Why it, or the relay before it, does not get what we publish; None if it does.
    absent: str | None = _BLIND
    #: Whether the ACK listener is connected to it; None where its endpoints are unknown, or there is no listener.
    linked: bool | None = None


class Seen(NamedTuple):
    """What is known of one recipient."""

    #: From which its ACKs can come, as far as ``certnames`` tells.
    endpoints: list[str]
    #: Whether the ACK listener is connected to one of them; None where none is known.
    reachable: bool | None
    #: Whether it would get what we publish; behind a relay, whether the relay would.
    listening: bool
    detail: str

    @property
    def ok(self) -> bool:
        """Whether a publish to it would be expected to succeed."""
        return self.listening and self.reachable is not False


def sights(port: Port, way: Way, groups: Sequence[Sequence[str]], head_start: float) -> dict[str, Sight]:
    """Return what *port* shows of all names in *groups*, once they are there or a publish would wait no more.

    A port without publisher shows who is reached for ACKs; the connections for these are waited for then.
    """
    publishes = port.address is not None

    def sight(name: str) -> Sight:
        absent = _protocol.absent(name, way) if publishes else _BLIND
        return Sight(absent, None if name == RELAY else way.linked(name))

    def look() -> dict[str, Sight]:
        return {name: sight(name) for group in groups for name in group}

    until = head_start + (port.born if publishes else time.monotonic())
    while True:
        found = port.look(look)
        there = {name for name, one in found.items() if one.linked is not False and not (publishes and one.absent)}
        if time.monotonic() >= until or all(there.intersection(group) for group in groups):
            return found
        time.sleep(_LOOK_AGAIN)


def seen(
    found: Mapping[str, Sight], groups: Sequence[Sequence[str]], book: AddressBook | None, via_relay: bool
) -> dict[str, Seen]:
    """Return, for each member of *groups*, what *found* tells of it."""
    every: dict[str, Seen] = {}
    there = _protocol.BEHIND_RELAY if via_relay else "listening to us"
    endpoints = {name: book.of(name, via_relay) if book else [] for group in groups for name in group}
    of = {name: found.get(name, Sight()) for name in endpoints}
    why_not = _probe(one for name, known in endpoints.items() if not of[name].linked for one in known)
    for name, known in endpoints.items():
        absent, linked = of[name].absent, bool(of[name].linked) if known else None
        if linked is None:
            back = f"its endpoints are unknown: certnames has no entry that leads to {name!r} and to an entry of endpoints"
        elif linked:
            back = "reachable for its ACK"
        else:
            back = f"not reachable for its ACK: {', '.join(f'{one} {why_not[one]}' for one in known)}"
        every[name] = Seen(known, linked, absent is None, f"{absent or there}; {back}")
    return {name: _with_group(name, every, groups) for name in every}


def _with_group(name: str, every: Mapping[str, Seen], groups: Sequence[Sequence[str]]) -> Seen:
    """Return what is known of *name*, with a word if it fails, and others of its group make good."""
    own = [group for group in groups if name in group]
    if every[name].ok or not all(any(every[one].ok for one in group) for group in own):
        return every[name]
    word = f"; another of the group {_protocol.join_group(own[0])} is enough"
    return every[name]._replace(detail=every[name].detail + word)


def _probe(endpoints: Iterable[str]) -> dict[str, str]:
    """Return why the ACK listener is not connected to each of *endpoints*."""
    different = list(dict.fromkeys(endpoints))
    with ThreadPoolExecutor(_PROBES, "gilmsg-check") as pool:
        return dict(zip(different, pool.map(_why_not, different)))


def _why_not(endpoint: str) -> str:
    _, host, port = sockets.parts(endpoint)
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE).close()
    except socket.gaierror:
        return "has a host that does not resolve"
    except socket.timeout:
        return "does not answer"
    except (OSError, ValueError, OverflowError, UnicodeError) as error:
        return f"cannot be connected to: {error}"
    return "takes TCP connections, but the ACK listener has no ZeroMQ connection to it (yet)"
