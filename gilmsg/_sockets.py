"""What gilmsg's own zmq sockets have in common: keepalive, reconnects, heartbeats, ports."""

import functools
import logging
import socket as _socket
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import six
import zmq
from fedmsg.utils import set_tcp_keepalive, set_tcp_reconnect  # type: ignore[import-untyped]

from . import _config_types
from .errors import ConfigurationError, EndpointError

log = logging.getLogger(__name__)

#: Milliseconds. After silent packet loss TCP alone takes as long to recover as the loss
#: lasted; a heartbeat notices within some seconds, and a connection attempt that is not
#: answered gives up soon enough to be tried again.
HEARTBEAT_IVL = 2000
HEARTBEAT_TIMEOUT = 5000
CONNECT_TIMEOUT = 1000

#: The same by the kernel: seconds without a word before it asks, and between two questions; how many may
#: stay unanswered. Milliseconds that what was sent may.
_KEEPALIVE_IDLE, _KEEPALIVE_INTVL, _KEEPALIVE_CNT = 2, 1, 4
_UNANSWERED = 6000

#: Seconds to wait for a port that a socket of this very process is giving up.
PATIENCE = 2.0
_TRY_AGAIN = 0.01

#: Never subscribed to: its far end listens, it does not publish.
RELAY_INBOUND = "relay_inbound"


def tune(socket: "zmq.Socket[bytes]", config: Mapping[str, Any]) -> None:
    """Apply fedmsg's socket settings, and ours, to a socket that is not connected yet."""
    limit = int(config.get("high_water_mark") or 0)
    socket.setsockopt(zmq.SNDHWM, limit)
    socket.setsockopt(zmq.RCVHWM, limit)
    set_tcp_keepalive(socket, config)
    set_tcp_reconnect(socket, config)
    beat(socket)


def beat(socket: "zmq.Socket[bytes]") -> None:
    """Let *socket*, which is not connected yet, notice by heartbeats that a link has silently died."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT)


#: As plain numbers: the enumerations cost more than the call.
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_LAST, _MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)


def readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a frame can be taken off *socket*.

    Reading EVENTS makes libzmq look at its mailbox now; a receive alone does so only now and then. It
    is cheaper than the exception of a receive in vain, too.
    """
    events = socket.getsockopt(_EVENTS)
    assert isinstance(events, int)
    return bool(events & _POLLIN)


def send(socket: "zmq.Socket[bytes]", parts: Sequence[bytes]) -> None:
    """Hand one message to *socket*; never blocks."""
    for part in parts[:-1]:
        socket.send(part, _MORE)
    socket.send(parts[-1], _LAST)


def connect_to_relay(socket: "zmq.Socket[bytes]", endpoint: str) -> str:
    """Connect a publishing socket to the relay at *endpoint*; return that."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigurationError(
            "relay_inbound: cannot connect to %r: %s" % (endpoint, error)
        ) from error
    return endpoint


def bind(
    socket: "zmq.Socket[bytes]", name: str, endpoints: Iterable[str], preferred: str
) -> str:
    """Bind the first endpoint that is free, *preferred* before all others; return it."""
    failures = []
    first = _config_types.port(preferred)
    for endpoint in sorted(endpoints, key=lambda one: port(one) != first):
        patience = PATIENCE if port(endpoint) == first else 0.0
        failure = _try_bind(socket, "tcp://*:%d" % port(endpoint), patience)
        if failure is None:
            return endpoint
        failures.append("%s (%s)" % (endpoint, failure))
    raise EndpointError(
        "none of the endpoints declared for the name %r can be bound: %s; a port that is in use "
        "is held by another process: declare one in endpoints[%r] for each process that publishes"
        % (name, ", ".join(failures), name)
    )


def _try_bind(
    socket: "zmq.Socket[bytes]", where: str, patience: float
) -> Optional[zmq.ZMQError]:
    """Bind *where*, trying for *patience* seconds: libzmq gives ports of this process back late."""
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.bind(where)
            return None
        except zmq.ZMQError as error:
            if error.errno == zmq.ENOTSOCK:
                raise  # closed meanwhile
            if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                return error
        time.sleep(_TRY_AGAIN)


def port(endpoint: str) -> int:
    """Return the port of *endpoint*, to bind it.

    Raises:
        ConfigurationError: it has none: it is ``ipc://...``, say, by which fedmsg cannot publish either.
    """
    found = _config_types.port(endpoint)
    if not found:
        raise ConfigurationError("endpoints: %r cannot be bound, it must be tcp://host:port" % endpoint)
    return found


def bound(socket: "zmq.Socket[bytes]", queue: int, largest: int) -> None:
    """Limit what strangers can put into our memory: *queue* frames per connection, *largest* bytes each.

    Beyond the first their own socket has to wait, beyond the second the connection ends.
    """
    configured = socket.getsockopt(zmq.RCVHWM)
    assert isinstance(configured, int)
    socket.setsockopt(zmq.RCVHWM, min(configured or queue, queue))
    socket.setsockopt(zmq.MAXMSGSIZE, largest)


def watch_limited(subscriber: "zmq.Socket[bytes]") -> None:
    """Where the queue of *subscriber* is limited, have the kernel watch its link instead of heartbeats."""
    if subscriber.getsockopt(zmq.RCVHWM):
        watch_by_keepalive(subscriber)


def watch_by_keepalive(socket: "zmq.Socket[bytes]") -> None:
    """Let the kernel notice silent losses, not ZMQ heartbeats: for a socket that connects and has a limited queue.

    A full queue stops the reading, of heartbeats too. If its reader then stalls (a SIGSTOP, or a flood by
    ten connections) libzmq takes the peer for gone and connects anew, and the next receive aborts the
    process, because it restarts an input that the new connection has not stopped (libzmq's issue 3937).
    TCP's keepalive is answered whether anybody reads or not. Nothing else ends a connection that is not
    read: a peer's own PING with a TTL does not, its timer ends with the next frame; ``ZMQ_IMMEDIATE`` would help
    too, but it drops what has come by a connection that ends.
    """
    socket.setsockopt(zmq.HEARTBEAT_IVL, 0)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, _KEEPALIVE_IDLE)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, _KEEPALIVE_INTVL)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, _KEEPALIVE_CNT)
    socket.setsockopt(zmq.TCP_MAXRT, _UNANSWERED)


def listed(endpoints: Any) -> List[str]:
    """Return one endpoint, or several, as a list."""
    if not endpoints:
        return []
    return [endpoints] if isinstance(endpoints, six.string_types) else list(endpoints)


def publishing_endpoints(config: Mapping[str, Any]) -> Dict[str, List[str]]:
    """Return name -> endpoints of everybody who publishes on the bus of *config*."""
    # An active context of fedmsg puts the relay's inbound address among the endpoints.
    inward = set(listed(config.get(RELAY_INBOUND)))
    found = {}
    for name, value in (config.get("endpoints") or {}).items():
        reachable = [endpoint for endpoint in listed(value) if endpoint not in inward]
        if name != RELAY_INBOUND and reachable:
            found[name] = reachable
    return found


class Target(NamedTuple):
    """One endpoint to connect to."""

    name: str
    #: As it stands in the configuration.
    endpoint: str
    #: As it is given to libzmq: what binds to every interface is reached on loopback.
    where: str
    #: The same with the host's numeric addresses: libzmq reports those once it has resolved it.
    resolved: Tuple[str, ...]


def connectable(
    named: Mapping[str, Iterable[str]], run: Callable[[Callable[[], None]], None] = lambda write: write()
) -> Iterator[Target]:
    """Yield the endpoints of *named* (name -> endpoints), without those that do not resolve.

    *run* is called with what writes a log line; logging may block, so it may want another thread.

    libzmq would try to resolve such a host again and again on its only I/O thread; fedmsg
    leaves them out too.
    """
    known: Dict[str, Tuple[str, ...]] = {}
    for name, endpoints in named.items():
        for endpoint in endpoints:
            scheme, host, port = parts(endpoint)
            if host not in known:
                known[host] = _addresses(host)
                if not known[host]:
                    run(functools.partial(_warn_of, endpoint))
            if known[host]:
                resolved = tuple("%s://%s:%s" % (scheme, one, port) for one in known[host])
                yield Target(name, endpoint, "%s://%s:%s" % (scheme, host, port), resolved)


def parts(endpoint: str) -> Tuple[str, str, str]:
    """Return scheme, host and port by which *endpoint* is reached: what binds to every interface, on loopback."""
    scheme, _, rest = endpoint.replace("//*:", "//127.0.0.1:").partition("://")
    host, _, port = rest.rpartition(":")
    return scheme, host, port


def _addresses(host: str) -> Tuple[str, ...]:
    """Return the numeric addresses of *host*; none if it does not resolve."""
    try:
        found = _socket.getaddrinfo(host.strip("[]"), None, type=_socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(str(address[0]) for *_, address in found)


def _warn_of(endpoint: str) -> None:
    log.warning("endpoints: the host of %r does not resolve; it is left out", endpoint)
