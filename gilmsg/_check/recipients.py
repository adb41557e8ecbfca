"""Evidence about each recipient: who listens to us, and whom our ACK listener reaches."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from .. import _protocol
from .._engine import Port, sockets
from .._settings import AddressBook
from .ourselves import Line

#: Seconds between two looks at who is there.
_LOOK_AGAIN = 0.01

#: Seconds for a TCP connection that only tells why the ACK listener has none.
_PROBE = 1.0

#: Such connections tried at a time.
_PROBES = 32

_BLIND = "whether it listens cannot be seen: we have no publisher (endpoint)"


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


class View:
    """The recipients as *port* shows them; a port that only listens for ACKs shows the way back, none shows nothing.

    Args:
        topic: a full topic; None stands for any topic of our prefix and environment.
        via_relay: whether we publish through a relay (``active``).
    """

    def __init__(self, port: Port | None, book: AddressBook | None, topic: str | None, via_relay: bool) -> None:
        self._port, self._book, self._via_relay = port, book, via_relay
        if port is not None and book is not None:
            scope = book.ack_topic[: -len(_protocol.ACK_SUFFIX)]
            self._way = port.way(topic, repr(topic) if topic else f"any topic of ours ({scope}*)")

    def wait_for(self, entries: Sequence[str], head_start: float) -> None:
        """Return once all *entries* (of a group, one member) are present, at the latest when publish would not wait.

        The relay is waited for even without recipients; without a publisher, the connections for the ACKs are.
        """
        if self._port is None:
            return
        born = self._port.born if self._publishes else time.monotonic()
        while time.monotonic() < born + head_start and not self._port.look(lambda: self._ready(entries)):
            time.sleep(_LOOK_AGAIN)

    def _ready(self, entries: Sequence[str]) -> bool:
        way = self._way
        if self._publishes:
            relay = not self._via_relay or _protocol.hears("", way.route, way.peers)
            return relay and _protocol.ready(entries, way.route, way.peers, way.linked)
        return all(any(way.linked(name) is not False for name in _protocol.members(entry)) for entry in entries)

    @property
    def _publishes(self) -> bool:
        return self._port is not None and self._port.address is not None

    def relay(self) -> list[Line]:
        """Return a line about the relay, if we publish through one."""
        if self._port is None or not self._publishes or not self._via_relay:
            return []
        absent = self._port.look(lambda: self._absent(""))
        there = f"the relay at {self._port.endpoint} (relay_inbound) is there; recipients behind it cannot be seen"
        return [Line("relay", absent is None, f"{absent} (relay_inbound)" if absent else there)]

    def _absent(self, name: str) -> str | None:
        """Return why *name*, or the relay before it, would not get what we publish; None if it would."""
        way = self._way
        return _protocol.absent(name, way.route, way.peers, _protocol.NOT_LEFT) if self._publishes else _BLIND

    def seen(self, groups: Sequence[Sequence[str]]) -> dict[str, Seen]:
        """Return what is known now of each member of *groups*."""
        names = list(dict.fromkeys(name for group in groups for name in group))
        endpoints = {name: self._book.of(name, self._via_relay) if self._book else [] for name in names}
        if self._port is None:
            found = {name: (_BLIND, False if endpoints[name] else None) for name in names}
        else:
            found = self._port.look(lambda: {name: (self._absent(name), self._way.linked(name)) for name in names})
        why_not = _probe([one for name in names if found[name][1] is False for one in endpoints[name]])
        there = _protocol.BEHIND_RELAY if self._via_relay else "listening to us"
        seen = {}
        for name, (absent, linked) in found.items():
            back = _way_back(name, linked, [f"{one} {why_not.get(one)}" for one in endpoints[name]])
            seen[name] = Seen(endpoints[name], linked, absent is None, f"{absent or there}; {back}")
        return _with_groups(seen, groups)


def _way_back(name: str, linked: bool | None, told: Sequence[str]) -> str:
    if linked is None:
        return (
            f"its endpoints are unknown: certnames has no entry that leads to {name!r} and to an entry of endpoints"
        )
    return "reachable for its ACK" if linked else f"not reachable for its ACK: {', '.join(told)}"


def _probe(endpoints: Sequence[str]) -> Mapping[str, str]:
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


def _with_groups(seen: dict[str, Seen], groups: Sequence[Sequence[str]]) -> dict[str, Seen]:
    """Return *seen*, with a word at each failing recipient for which others of its group make good."""
    told = dict(seen)
    for name, one in seen.items():
        own = [group for group in groups if name in group]
        if not one.ok and all(any(seen[member].ok for member in group) for group in own):
            word = f"; another of the group {_protocol.join_group(own[0])} is enough"
            told[name] = one._replace(detail=one.detail + word)
    return told
