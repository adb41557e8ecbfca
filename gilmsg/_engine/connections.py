"""The connections of a zmq socket: made by numeric address, noticed when they end for good, made anew."""

from __future__ import annotations

import heapq
import logging
import struct
from collections.abc import Iterable, Sequence
from typing import Callable

import zmq

from .. import _protocol as protocol
from . import descriptors, sockets
from .waiting import RateLimitedLog, callbacks

log = logging.getLogger("gilmsg.endpoints")

#: Seconds between two look-ups of a host that does not resolve, or whose endpoint is down.
_LOOK_UP_AGAIN = 5.0

#: Seconds between two log lines of one kind that tell of connections.
_LINE_EVERY = 60.0

#: The first frame of a monitor's event: the event, and a value. ``zmq.utils.monitor`` would read it, but brings
#: asyncio along, which is a tenth of all that ``import fedmsg`` takes.
_EVENT = struct.Struct("=Hi")

_EVENTS = {
    int(zmq.EVENT_HANDSHAKE_SUCCEEDED): protocol.UP,
    int(zmq.EVENT_DISCONNECTED): protocol.DOWN,
    int(zmq.EVENT_CONNECT_RETRIED): protocol.RETRIED,
}
_WATCHED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED


class Connections:
    """The connections of one socket, for the thread that owns the socket.

    Args:
        endpoints: as they stand in the configuration.
    """

    def __init__(self, socket: sockets.Socket, endpoints: Iterable[str], names: sockets.Names) -> None:
        self.links = protocol.Links()
        self.monitor: sockets.Socket = socket.get_monitor_socket(_WATCHED)
        self._socket = socket
        self._names = names
        self._by_host: dict[str, list[str]] = {}
        #: Host name -> its address in use; no entry while it does not resolve.
        self._resolved: dict[str, str] = {}
        self._look_ups: list[tuple[float, str]] = []
        self._warn_of_names = RateLimitedLog(log, _LINE_EVERY)
        self._warn_of_links = RateLimitedLog(log, _LINE_EVERY)
        for endpoint in endpoints:
            _, host, _ = sockets.parts(endpoint)
            self._by_host.setdefault(host, []).append(endpoint)
        for host in self._by_host:
            address = sockets.numeric(host)
            if address is None:
                names.ask(host)
            else:
                self._use(host, address)

    def take(self, now: float, tell: Callable[[str], None] | None = None) -> None:
        """Take in all events that have come; call *tell* with each kind."""
        while self.monitor.poll(0):
            told, address = self.monitor.recv_multipart()
            event = _EVENTS.get(_EVENT.unpack(told)[0])
            if event is not None:
                self.links.note(event, address.decode("utf-8", "replace"), now)
                if tell is not None:
                    tell(event)

    def answer(self, host: str, addresses: Sequence[str], now: float) -> None:
        """Take in what *host* resolves to: connect, or look again later."""
        if host not in self._by_host:
            return
        if not addresses and host not in self._resolved:
            line = "endpoints: the host of %r does not resolve; it is looked up again"
            self._warn_of_names.warning(line, self._by_host[host][0])
        if addresses and self._resolved.get(host) not in addresses:
            if host in self._resolved:
                self._leave(host)
            self._use(host, addresses[0])
        heapq.heappush(self._look_ups, (now + _LOOK_UP_AGAIN, host))

    def tick(self, now: float) -> None:
        """Do what is due: connect anew what libzmq gave up, look up what does not resolve or is down."""
        for address in self.links.given_up(now):
            self._warn_of_links.warning("the connection to %s was ended for good; it is made anew", address)
            self._disconnect(address)
            self._connect(address)
        while self._look_ups and self._look_ups[0][0] <= now:
            _, host = heapq.heappop(self._look_ups)
            since = [self.links.down_since(endpoint) for endpoint in self._by_host[host]]
            down = any(one is not None and now - one >= _LOOK_UP_AGAIN for one in since)
            if host not in self._resolved or down:
                self._names.ask(host)
            else:
                heapq.heappush(self._look_ups, (now + _LOOK_UP_AGAIN, host))

    def next_due(self) -> float | None:
        """Return when :meth:`tick` has something to do."""
        due = self.links.next_due()
        if not self._look_ups:
            return due
        return self._look_ups[0][0] if due is None else min(due, self._look_ups[0][0])

    def unresolved(self, endpoint: str) -> bool:
        """Return whether the host of *endpoint* does not resolve, or not yet."""
        host = sockets.parts(endpoint)[1]
        return host in self._by_host and sockets.numeric(host) is None and host not in self._resolved

    def close(self) -> None:
        """Stop to watch, before the socket is closed."""
        self._socket.disable_monitor()
        self.monitor.close(linger=0)

    def _use(self, host: str, address: str) -> None:
        if sockets.numeric(host) is None:
            self._resolved[host] = address
        for endpoint in self._by_host[host]:
            scheme, _, port = sockets.parts(endpoint)
            where = f"{scheme}://{address}:{port}"
            self.links.expect(where, endpoint)
            descriptors.claim(self, connected_to=[where])
            self._connect(where, endpoint)

    def _leave(self, host: str) -> None:
        address = self._resolved.pop(host)
        for endpoint in self._by_host[host]:
            scheme, _, port = sockets.parts(endpoint)
            self._disconnect(f"{scheme}://{address}:{port}")
            self.links.forget(f"{scheme}://{address}:{port}")

    def _connect(self, where: str, endpoint: str = "") -> None:
        try:
            self._socket.connect(where)
        except zmq.ZMQError as error:
            line, told = "endpoints: cannot connect to %r: %s", (endpoint or where, error)
            callbacks.run(lambda: log.warning(line, *told))

    def _disconnect(self, where: str) -> None:
        try:
            self._socket.disconnect(where)
        except zmq.ZMQError:  # it never was connected
            pass
