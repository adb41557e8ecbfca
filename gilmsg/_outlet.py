"""The process's publishing sockets: one per name, shared by all threads, aware of its peers.

An :class:`Outlet` is one XPUB socket; it is a PUB socket that also sees its subscribers.
fedmsg makes one publisher per thread and binds a port for each; here every thread's
context holds a :class:`SharedPublisher`, a handle that leads to the one outlet of that
name, opens it anew after ``destroy()`` or a fork, and can be used like the bare socket
that fedmsg would have put there.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import zmq

from . import _inherited, _sockets
from ._presence import LOOK_AGAIN, Peers
from .errors import ConfigurationError, EndpointError

log = logging.getLogger(__name__)

#: Seconds to wait for a port that a socket of this very process is giving up.
PATIENCE = 2.0

#: Milliseconds, at most, for what is still to be sent when a socket closes.
LONGEST_LINGER = 500


class Address(NamedTuple):
    """What identifies an outlet within the process."""

    name: str
    endpoints: Tuple[str, ...]
    #: Connect to a relay instead of binding a port (``active=True``).
    active: bool


class Outlet:
    """One XPUB socket. Thread-safe; each method holds the lock for as long as it takes to send."""

    def __init__(self, address: Address, config: Mapping[str, Any], preferred: str = "") -> None:
        self.address = address
        self.peers = Peers()
        self._lock = threading.Lock()
        self._context: "zmq.Context[zmq.Socket[bytes]]" = zmq.Context(int(config.get("io_threads") or 1))
        self._socket = self._context.socket(zmq.XPUB)
        self._linger = min(int(config.get("zmq_linger", 1000)), LONGEST_LINGER)
        try:
            self._open(config, preferred)
        except BaseException:
            self.close()
            raise
        self.born = time.monotonic()

    def _open(self, config: Mapping[str, Any], preferred: str) -> None:
        _sockets.tune(self._socket, config)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if self.address.active:
            self.endpoint = _connect(self._socket, self.address.endpoints[0])
        else:
            self.endpoint = _bind(self._socket, self.address, preferred)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` has been called."""
        return bool(self._socket.closed)

    @property
    def age(self) -> float:
        """Seconds since the socket was made."""
        return time.monotonic() - self.born

    def send(self, parts: Sequence[bytes]) -> None:
        """Hand one message to the socket; never blocks, as with PUB.

        Raises:
            zmq.ZMQError: the outlet is closed.
        """
        with self._lock:
            self._drain()
            self._socket.send_multipart(parts, zmq.NOBLOCK)

    @contextmanager
    def look(self) -> Iterator[Peers]:
        """Give the peers as they are now, under the lock: be brief, and keep no reference."""
        with self._lock:
            self._drain()
            yield self.peers

    def wait_until(self, ready: Callable[[Peers], bool], age: float) -> None:
        """Return once *ready* is true of the peers, at the latest when the socket is *age* s old.

        The descriptor tells one of several waiting threads that there is a frame, and not
        which of them wants it; see the third race in :mod:`gilmsg._presence`.
        """
        while self.age < age:
            with self.look() as peers:
                if self.closed or ready(peers):
                    return
                descriptor = self._socket.getsockopt(zmq.FD)
            left = min(LOOK_AGAIN, max(0.0, age - self.age))
            zmq.zmq_poll([(descriptor, zmq.POLLIN)], int(left * 1000) + 1)  # type: ignore[list-item]

    def _drain(self) -> None:
        """Take in the subscriptions that have arrived; unread they would pile up."""
        if self._socket.closed:
            return
        # Reading EVENTS makes libzmq look at its mailbox now; recv alone does so only now and then.
        while int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
            for frame in self._socket.recv_multipart(zmq.NOBLOCK):
                self.peers.note(frame)

    def close(self) -> None:
        """Close the socket and give the port back before returning; idempotent."""
        with self._lock:
            if not self._socket.closed:
                self._socket.close(linger=self._linger)
                self._context.term()


def _connect(socket: "zmq.Socket[bytes]", endpoint: str) -> str:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigurationError(
            "relay_inbound: cannot connect to %r: %s" % (endpoint, error)
        ) from error
    return endpoint


def _bind(socket: "zmq.Socket[bytes]", address: Address, preferred: str) -> str:
    """Bind the first endpoint that is free, *preferred* before all others; return it."""
    failures = []
    for endpoint in sorted(address.endpoints, key=lambda one: _port(one) != _port(preferred)):
        patience = PATIENCE if preferred and _port(endpoint) == _port(preferred) else 0.0
        failure = _try_bind(socket, "tcp://*:%s" % _port(endpoint), patience)
        if failure is None:
            return endpoint
        failures.append("%s (%s)" % (endpoint, failure))
    raise EndpointError(
        "none of the endpoints declared for the name %r can be bound: %s; a port that is in use "
        "is held by another process: declare one in endpoints[%r] for each process that publishes"
        % (address.name, ", ".join(failures), address.name)
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
            if error.errno != zmq.EADDRINUSE or time.monotonic() >= deadline:
                return error
        time.sleep(LOOK_AGAIN)


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]


class SharedPublisher:
    """The handle in ``context.publisher``: safe in any thread, one socket per name and process.

    Offers what fedmsg does with a publisher: ``send_multipart`` and ``close``.
    """

    def __init__(self, address: Address, config: Mapping[str, Any], preferred: str = "") -> None:
        self.address = address
        self._config = config
        self._closed = False
        with _registry_lock:
            _open_outlet(address, config, preferred)
            _handles.setdefault(address, weakref.WeakSet()).add(self)

    def outlet(self) -> Outlet:
        """Return the outlet, opened anew where it was closed (destroy, fork).

        Raises:
            EndpointError: no declared port is free.
        """
        if self._closed:
            raise ConfigurationError("this publisher of %r is closed" % self.address.name)
        with _registry_lock:
            return _open_outlet(self.address, self._config, "")

    def send_multipart(self, parts: Sequence[bytes], flags: int = 0, **_: Any) -> None:
        """Send one plain message, no earlier than ``post_init_sleep`` after the socket's birth."""
        outlet = self.outlet()
        wait_for_age(outlet, self._config)
        outlet.send(parts)

    def close(self, linger: Optional[int] = None) -> None:
        """Give up this handle; the last one closes the socket."""
        if self._closed:
            return
        self._closed = True
        with _registry_lock:
            users = _handles[self.address]
            users.discard(self)
            outlet = None if users else _outlets.pop(self.address, None)
        if outlet is not None:
            outlet.close()


def wait_for_age(outlet: Outlet, config: Mapping[str, Any]) -> None:
    """Sleep until *outlet* is ``post_init_sleep`` old: a message without recipients has no
    evidence to wait for, so this is fedmsg's own head start."""
    time.sleep(max(0.0, float(config.get("post_init_sleep") or 0.0) - outlet.age))


_registry_lock = threading.RLock()
_outlets: Dict[Address, Outlet] = {}
#: The handles in use. Weak, so that those of threads that have ended do not count.
_handles: "Dict[Address, weakref.WeakSet[SharedPublisher]]" = {}


def _open_outlet(address: Address, config: Mapping[str, Any], preferred: str) -> Outlet:
    """Return the outlet of *address*, a new one if there is none. The registry's lock is held."""
    outlet = _outlets.get(address)
    if outlet is None or outlet.closed:
        # What was just sent is flushed at exit. Unregistered first, so that it stands there once.
        atexit.unregister(close_all)
        atexit.register(close_all)
        outlet = _outlets[address] = Outlet(address, config, preferred)
    return outlet


def close_all() -> None:
    """Close every outlet of the process; the next use of a handle opens it anew."""
    with _registry_lock:
        outlets: List[Outlet] = list(_outlets.values())
        _outlets.clear()
    for outlet in outlets:
        outlet.close()


def _after_fork() -> None:
    """A child has the parent's memory but not its zmq threads: it starts with nothing open."""
    global _registry_lock, _outlets
    ports = [int(_port(o.endpoint)) for o in _outlets.values() if not o.address.active]
    _inherited.abandon(list(_outlets.values()), ports)
    _registry_lock, _outlets = threading.RLock(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
