"""Settings, ports and host names of zmq sockets."""

from __future__ import annotations

import _socket
import collections
import contextlib
import ipaddress
import threading
from _queue import SimpleQueue  # greenlets have a queue.SimpleQueue of their own
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import zmq
from fedmsg.utils import set_tcp_keepalive, set_tcp_reconnect

from ..errors import ConfigurationError
from . import greenlets

Socket = zmq.Socket[bytes]

#: Milliseconds. After silent packet loss TCP alone takes as long to recover as the loss lasted; a heartbeat notices
#: within some seconds, and a connection attempt that is not answered gives up soon enough to be tried again.
_HEARTBEATS = {zmq.HEARTBEAT_IVL: 2000, zmq.HEARTBEAT_TIMEOUT: 5000, zmq.CONNECT_TIMEOUT: 1000}

#: The same by the kernel: seconds without a word before it asks, and between two questions; how many may
#: stay unanswered. Milliseconds that what was sent may.
_KEEPALIVE = {
    zmq.HEARTBEAT_IVL: 0, zmq.TCP_KEEPALIVE: 1, zmq.TCP_KEEPALIVE_IDLE: 2, zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 4, zmq.TCP_MAXRT: 6000,
}  # fmt: skip

#: The largest port. libzmq takes a larger one modulo 65,536.
_LARGEST_PORT = 65535

#: Threads that look host names up at a time, at most: a name server that is dead takes up to 30 s for each.
_MOST_LOOKUPS = 16

_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # the enumerations cost more than the call


def tune(socket: Socket, config: Mapping[str, Any]) -> None:
    """Apply fedmsg's socket settings, and gilmsg's, to a socket that is not connected yet."""
    limit = int(config.get("high_water_mark") or 0)
    _set(socket, {zmq.SNDHWM: limit, zmq.RCVHWM: limit})
    set_tcp_keepalive(socket, config)
    set_tcp_reconnect(socket, config)
    beat(socket)


def beat(socket: Socket) -> None:
    """Let *socket*, which is not connected yet, notice by heartbeats that a link has silently died."""
    _set(socket, _HEARTBEATS)


def limit_input(socket: Socket, queue: int, largest: int) -> None:
    """Limit what strangers can put into our memory: *queue* frames per connection, *largest* bytes each.

    Beyond the first their own socket has to wait, beyond the second the connection ends.
    """
    configured = int(socket.getsockopt(zmq.RCVHWM))
    _set(socket, {zmq.RCVHWM: min(configured or queue, queue), zmq.MAXMSGSIZE: largest})


def watch_limited(subscriber: Socket) -> None:
    """Where the queue of *subscriber* is limited, have the kernel watch its link instead of heartbeats."""
    if subscriber.getsockopt(zmq.RCVHWM):
        watch_by_keepalive(subscriber)


def watch_by_keepalive(socket: Socket) -> None:
    """Let the kernel notice silent losses, not ZMQ heartbeats: for a socket that connects and has a limited queue.

    A full queue stops the reading, of heartbeats too. If its reader then stalls (a SIGSTOP, or a flood by
    ten connections) libzmq takes the peer for gone and connects anew, and the next receive aborts the
    process, because it restarts an input that the new connection has not stopped (libzmq's issue 3937).
    TCP's keepalive is answered whether anybody reads or not, and nothing else ends a connection that is not read.
    """
    _set(socket, _KEEPALIVE)


def _set(socket: Socket, options: Mapping[Any, int]) -> None:
    for option, value in options.items():
        socket.setsockopt(option, value)


def readable(socket: Socket) -> bool:
    """Return whether a frame can be taken off *socket*; cheaper than the exception of a receive in vain."""
    return bool(socket.getsockopt(_EVENTS) & _POLLIN)  # type: ignore[operator]


def port(endpoint: str) -> int:
    """Return the port of *endpoint*, to bind it: of a context that ``fedmsg.init`` made nobody has checked the endpoints."""
    text = endpoint.rpartition(":")[2].strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 0 < number <= _LARGEST_PORT:
        raise ConfigurationError(f"endpoints: {endpoint!r} cannot be bound, it must be tcp://host:port")
    return number


def parts(endpoint: str) -> tuple[str, str, str]:
    """Return scheme, host and port by which *endpoint* is reached: what binds to every interface, on loopback."""
    scheme, _, rest = endpoint.replace("//*:", "//127.0.0.1:").partition("://")
    host, _, port = rest.rpartition(":")
    return scheme, host, port


def interface(endpoint: str) -> str:
    """Return where to listen for *endpoint*: on all interfaces, as fedmsg does, unless its host says loopback.

    No name but ``localhost`` counts: some systems have 127.0.1.1 for their own.
    """
    host = endpoint.partition("://")[2].rpartition(":")[0]
    return host if host.startswith("127.") and is_numeric(host) else "127.0.0.1" if host == "localhost" else "*"


def is_numeric(host: str) -> bool:
    """Return whether *host* is a numeric IPv4 address."""
    try:
        return bool(ipaddress.IPv4Address(host))
    except ValueError:
        return False


class Names:
    """Host names, looked up on daemon threads, which call *tell* when an answer has come; it must not block."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._wanted: collections.deque[str] = collections.deque()
        self._asked: set[str] = set()
        self._answers: SimpleQueue[tuple[str, list[str]]] = SimpleQueue()
        self._threads = 0

    def ask(self, host: str) -> None:
        """Look *host* up, unless that is under way. Call it on one thread only."""
        if host in self._asked:
            return
        self._asked.add(host)
        self._wanted.append(host)
        if self._threads < _MOST_LOOKUPS:
            self._threads += 1
            try:
                greenlets.start(threading.Thread(target=self._look_up, name="gilmsg-names", daemon=True))
            except RuntimeError:  # no more threads: as if it did not resolve, until one that runs already has looked
                self._threads -= 1
                self._answers.put((host, []))
                self._tell()

    def answers(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each answer that has come: the host and its numeric IPv4 addresses, none if it does not resolve."""
        while not self._answers.empty():
            host, found = self._answers.get()
            self._asked.discard(host)
            yield host, found

    def _look_up(self) -> None:
        with contextlib.suppress(IndexError):  # nothing is wanted any more
            while True:
                host = self._wanted.popleft()
                self._answers.put((host, _addresses(host)))
                self._tell()
        self._threads -= 1  # a wrong count costs a thread more or less


def _addresses(host: str) -> list[str]:
    try:
        # The C function: programs put others in the place of Python's.
        found = _socket.getaddrinfo(host, None, _socket.AF_INET, _socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
