"""What gilmsg's own zmq sockets have in common: limits, keepalive, reconnects, heartbeats."""

import logging
import socket as _socket
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

import six
import zmq
from fedmsg.utils import set_tcp_keepalive, set_tcp_reconnect  # type: ignore[import-untyped]

log = logging.getLogger(__name__)

#: Milliseconds. After silent packet loss TCP alone takes as long to recover as the loss
#: lasted; a heartbeat notices within some seconds, and a connection attempt that is not
#: answered gives up soon enough to be tried again.
HEARTBEAT_IVL = 2000
HEARTBEAT_TIMEOUT = 5000
CONNECT_TIMEOUT = 1000

#: Never subscribed to: its far end listens, it does not publish.
RELAY_INBOUND = "relay_inbound"


def tune(socket: "zmq.Socket[bytes]", config: Mapping[str, Any]) -> None:
    """Apply fedmsg's socket settings, and ours, to a socket that is not connected yet."""
    limit = int(config.get("high_water_mark") or 0)
    socket.setsockopt(zmq.SNDHWM, limit)
    socket.setsockopt(zmq.RCVHWM, limit)
    set_tcp_keepalive(socket, config)
    set_tcp_reconnect(socket, config)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_IVL)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT)


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


def connectable(named: Mapping[str, Iterable[str]]) -> Iterator[Target]:
    """Yield the endpoints of *named* (name -> endpoints), without those that do not resolve.

    libzmq would try to resolve such a host again and again on its only I/O thread; fedmsg
    leaves them out too.
    """
    known: Dict[str, Tuple[str, ...]] = {}
    for name, endpoints in named.items():
        for endpoint in endpoints:
            where = endpoint.replace("//*:", "//127.0.0.1:")
            scheme, _, rest = where.partition("://")
            host, _, port = rest.rpartition(":")
            if host not in known:
                known[host] = _addresses(host)
            if known[host]:
                resolved = tuple("%s://%s:%s" % (scheme, one, port) for one in known[host])
                yield Target(name, endpoint, where, resolved)


def _addresses(host: str) -> Tuple[str, ...]:
    """Return the numeric addresses of *host*; none if it does not resolve."""
    try:
        found = _socket.getaddrinfo(host.strip("[]"), None, type=_socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        log.warning("endpoints: the host %r does not resolve; it is left out", host)
        return ()
    return tuple(str(address[0]) for *_, address in found)
