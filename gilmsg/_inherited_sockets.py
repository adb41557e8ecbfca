"""What a forked child does about the sockets that it inherited.

The child has the parent's zmq objects and not their threads: it must neither use them nor
tear them down (its copies of the eventfds are the parent's: to read one would steal a wake-up).
Their TCP descriptors it closes at once. A listening one that lives on in a child keeps the
parent's port taken after the parent has closed it. A connected one hides the parent's end:
the peer sees a connection that nobody serves, for as long as the child lives, and a plain
fedmsg consumer (no heartbeats) never connects to the parent's next socket.

The descriptors are libzmq's own and it does not tell them, so they are known by address. No
other socket of the process can have these: libzmq binds 0.0.0.0 without SO_REUSEPORT, so the
kernel gives the same IPv4 port to nobody else, and IPv6 is not touched; and whatever is
connected to an endpoint of the bus is a zmq socket, ours or fedmsg's.
"""

import os
import socket
import weakref
from typing import Any, Iterable, List, NamedTuple, Set

from . import _own_sockets

#: Objects of the parent. pyzmq skips them at exit, but warns when they are collected.
_kept: List[Any] = []


class _Claim(NamedTuple):
    bound: Set[int]
    connected_to: Set[str]


_claims: "weakref.WeakKeyDictionary[Any, _Claim]" = weakref.WeakKeyDictionary()


def claim(owner: Any, bound: Iterable[int] = (), connected_to: Iterable[str] = ()) -> None:
    """Note the sockets of *owner*, which a child is to give up: by TCP port, and by
    ``tcp://<numeric address>:<port>`` of the peer."""
    _claims[owner] = _Claim(set(bound), set(connected_to))


def _after_fork() -> None:
    """Keep the claiming objects unused for ever, and close their inherited descriptors."""
    global _claims
    claims = list(_claims.items())
    _claims = weakref.WeakKeyDictionary()
    _kept.extend(owner for owner, _ in claims)
    bound = {port for _, one in claims for port in one.bound}
    peers = {peer for _, one in claims for peer in one.connected_to}
    if bound or peers:
        for descriptor, duplicate in _own_sockets.each():
            ours = duplicate.family == socket.AF_INET and duplicate.getsockname()[1] in bound
            if ours or _peer(duplicate) in peers:
                os.close(descriptor)


def _peer(connection: socket.socket) -> str:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # it listens, or is being connected and does not tell to whom
        return ""
    return "tcp://%s:%s" % (host, port)


os.register_at_fork(after_in_child=_after_fork)
