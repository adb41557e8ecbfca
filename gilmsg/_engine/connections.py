"""Connections to the endpoints of a bus: made by numeric address, noticed when they end for good, made anew."""

from __future__ import annotations

import contextlib
import heapq
import logging
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import zmq

from .. import _protocol as protocol
from . import descriptors, sockets
from .waiting import RateLimitedLog, callbacks

log = logging.getLogger("gilmsg.endpoints")

#: Seconds between two look-ups of a host that does not resolve or whose endpoint is down; of one of which
#: nobody tells whether it is down; and between two log lines of one kind.
_LOOK_UP_AGAIN, _LOOK_UP_ALL, _LINE_EVERY = 5.0, 30.0, 60.0

#: Lines at level INFO, on who comes and leaves, that may be written at a time; past that one a second.
INFO_LINES = 100

#: The first frame of a monitor's event: the event, and a value. ``zmq.utils.monitor`` would read it, but brings
#: asyncio along, which is a tenth of all that ``import fedmsg`` takes.
_EVENT = struct.Struct("=Hi")

_EVENTS = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): protocol.UP,
    int(zmq.EVENT_DISCONNECTED): protocol.DOWN,
    int(zmq.EVENT_CONNECT_RETRIED): protocol.RETRIED,
}


class Connections:
    """The connections of sockets of one thread; libzmq is only ever given numeric addresses.

    Args:
        connecting: each endpoint, as it stands in the configuration, and the socket that is to connect there.
        names: where host names are looked up; its answers are to be given to :meth:`answer`.
        watched: the one socket that connects everywhere, if its connections are to be watched.
    """

    def __init__(
        self, connecting: Iterable[tuple[str, sockets.Socket]], names: sockets.Names, watched: sockets.Socket | None = None
    ) -> None:
        self.links = protocol.Links()
        self.monitor: sockets.Socket | None = watched and watched.get_monitor_socket(sum(_EVENTS))
        self._watched, self._names = watched, names
        self._by_host: dict[str, list[tuple[str, sockets.Socket]]] = {}
        #: Host -> its address in use; a host name has none while it does not resolve.
        self._addresses: dict[str, str] = {}
        self._look_ups: list[tuple[float, str]] = []
        #: The hosts in there. Others may share the names: an answer comes to those who have not asked, too.
        self._planned: set[str] = set()
        #: By host, so that each is named.
        self._warn_of: defaultdict[str, RateLimitedLog] = defaultdict(lambda: RateLimitedLog(log, _LINE_EVERY))
        self._warn_of_links = RateLimitedLog(log, _LINE_EVERY)
        self._tell = RateLimitedLog(log, burst=INFO_LINES)
        for endpoint, socket in connecting:
            self._by_host.setdefault(sockets.parts(endpoint)[1], []).append((endpoint, socket))
        for host in self._by_host:
            if sockets.is_numeric(host):
                self._connect(host, host)
            else:
                names.ask(host)

    def take(self, now: float) -> set[str]:
        """Take in the monitor's events; return their kinds."""
        kinds = set()
        while self.monitor is not None and sockets.readable(self.monitor):
            told, address = self.monitor.recv_multipart()
            kind = _EVENTS.get(_EVENT.unpack(told)[0])
            if kind is not None:
                for endpoint in self.links.note(kind, address.decode("utf-8", "replace"), now):
                    self._tell.info("connected to %s" if kind == protocol.UP else "the connection to %s has ended", endpoint)
                kinds.add(kind)
        return kinds

    def answer(self, host: str, addresses: Sequence[str]) -> None:
        """Connect to *host*, which resolves to *addresses*, unless one of them is in use; if none, look again later."""
        if host not in self._by_host:
            return
        used = self._addresses.get(host)
        if not addresses and used is None:
            line = "endpoints: the host of %r does not resolve; it is looked up again"
            self._warn_of[host].warning(line, self._by_host[host][0][0])
        if addresses and used not in addresses:
            if used is not None:
                self._disconnect(host, used)
            self._connect(host, addresses[0])
        pause = _LOOK_UP_ALL if self._watched is None and host in self._addresses else _LOOK_UP_AGAIN
        self._look_up(time.monotonic() + pause, host)

    def tick(self, now: float) -> None:
        """Connect anew what libzmq gave up; look up what does not resolve, or is down."""
        for where in self.links.given_up(now):
            self._warn_of_links.warning("the connection to %s was ended for good; it is made anew", where)
            assert self._watched is not None
            self._watched.disconnect(where)  # a second connect alone does nothing
            self._watched.connect(where)
        while self._look_ups and self._look_ups[0][0] <= now:
            _, host = heapq.heappop(self._look_ups)
            self._planned.discard(host)
            if self._watched is None or host not in self._addresses or self._is_down(host):
                self._names.ask(host)
            else:
                self._look_up(now + _LOOK_UP_AGAIN, host)

    def next_due(self) -> float | None:
        """Return when :meth:`tick` has something to do."""
        doubtful = self.links.next_due()
        if not self._look_ups:
            return doubtful
        return self._look_ups[0][0] if doubtful is None else min(doubtful, self._look_ups[0][0])

    def states(self) -> dict[str, bool]:
        """Return whether each endpoint is connected to."""
        return {endpoint: self.links.up(endpoint) for several in self._by_host.values() for endpoint, _ in several}

    def unresolved(self, endpoint: str) -> bool:
        """Return whether the host of *endpoint* does not resolve, or not yet."""
        host = sockets.parts(endpoint)[1]
        return host in self._by_host and host not in self._addresses

    def close(self) -> None:
        """Stop to watch, before the socket is closed."""
        if self._watched is not None and self.monitor is not None:
            self._watched.disable_monitor()
            self.monitor.close(linger=0)

    def _look_up(self, when: float, host: str) -> None:
        if host not in self._planned:
            self._planned.add(host)
            heapq.heappush(self._look_ups, (when, host))

    def _is_down(self, host: str) -> bool:
        return not all(self.links.up(endpoint) for endpoint, _ in self._by_host[host])

    def _connect(self, host: str, address: str) -> None:
        self._addresses[host] = address
        for endpoint, socket in self._by_host[host]:
            where = _by_address(endpoint, address)
            if not self.links.expect(where, endpoint) and self._watched is not None:
                continue  # another name of the same place
            port = sockets.parts(endpoint)[2]
            if port.isdigit():
                descriptors.claim(self, (address, int(port)))
            try:
                socket.connect(where)
            except zmq.ZMQError as error:
                told = "endpoints: cannot connect to %r: %s", endpoint, error
                callbacks.run(lambda told=told: log.warning(*told))  # type: ignore[misc]

    def _disconnect(self, host: str, address: str) -> None:
        for endpoint, socket in self._by_host[host]:
            where = _by_address(endpoint, address)
            if self.links.forget(where, endpoint) or self._watched is None:
                with contextlib.suppress(zmq.ZMQError):  # it was refused when it was to be connected
                    socket.disconnect(where)


def _by_address(endpoint: str, address: str) -> str:
    scheme, _, port = sockets.parts(endpoint)
    return f"{scheme}://{address}:{port}"
