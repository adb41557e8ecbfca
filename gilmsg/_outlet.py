"""A publishing socket that all threads may use: XPUB, a PUB socket that also sees its subscribers."""

import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import zmq

from . import _contexts, _inherited_sockets, _reentry, _sockets
from ._fork import Owner
from ._presence import LOOK_AGAIN, Peers
from ._subscriptions import CATCH_UP, Subscriptions
from .errors import ConfigurationError, ListenerError

#: Milliseconds, at most, for what is still to be sent when a socket closes.
LONGEST_LINGER = 500


#: What peers may send us, subscriptions that is: how many are kept per connection until we look,
#: and how large one may be (a topic and a common name).
_QUEUE = 10_000
_LARGEST_SUBSCRIPTION = 4096


class Address(NamedTuple):
    """What identifies an outlet within the process."""

    name: str
    endpoints: Tuple[str, ...]
    #: Connect to a relay instead of binding a port (``active=True``).
    active: bool


class Outlet:
    """One XPUB socket. Thread-safe; each method holds the lock for as long as it takes to send.

    The lock is re-entrant: a signal handler or a ``__del__`` may publish or destroy on the very
    thread that holds it. ``_busy`` tells them. If one raises (KeyboardInterrupt) while we
    touch the socket, half a message may have been sent, or a subscription taken and not
    counted: nobody can say, so the outlet is closed, and the next use opens another.
    """

    def __init__(self, address: Address, config: Mapping[str, Any]) -> None:
        """Make the socket.

        Raises:
            ConfigurationError: there can be none, the process has too many open files.
        """
        self.address = address
        self.born = time.monotonic()
        self.endpoint = ""
        self._lock = threading.RLock()
        self._owner = Owner()
        self._tried = self._busy = False
        self._linger = min(int(config.get("zmq_linger", 1000)), LONGEST_LINGER)
        try:
            self._context = _contexts.new(config)
            self._socket, self._subscriptions = self._made()
        except zmq.ZMQError as error:
            raise ConfigurationError(
                "no socket can be opened for the name %r: %s (too many open files? ulimit -n)" % (address.name, error)
            ) from error

    def _made(self) -> "Tuple[zmq.Socket[bytes], Subscriptions]":
        try:
            socket = self._context.socket(zmq.XPUB)
            return socket, Subscriptions(socket, connects=self.address.active)
        except zmq.ZMQError:
            _contexts.terminate(self._context)
            raise

    def open(self, config: Mapping[str, Any], preferred: str) -> None:
        """Bind or connect; until that is done the outlet counts as closed. Only the first call does it.

        Raises:
            EndpointError: no declared port is free.
            ConfigurationError: the relay's endpoint cannot be used.
            ListenerError: ``destroy()`` was called meanwhile.
        """
        with self._lock:
            if self._tried:
                return
            self._tried = True  # before "try": interrupted after it, the outlet is closed, and not opened again
            try:
                self._busy = True
                self._open(config, preferred)
                self.born = time.monotonic()
            except zmq.ZMQError as error:
                if error.errno == zmq.ENOTSOCK:
                    raise _closed(error) from error
                raise ConfigurationError(
                    "the socket for the name %r cannot be set up: %s" % (self.address.name, error)
                ) from error
            finally:
                self._busy = False
                if not self.endpoint:
                    self.close()

    def _open(self, config: Mapping[str, Any], preferred: str) -> None:
        _sockets.tune(self._socket, config)
        _sockets.bound(self._socket, _QUEUE, _LARGEST_SUBSCRIPTION)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if self.address.active:
            relay = self.address.endpoints[0]
            targets = _sockets.connectable({self.address.name: [relay]})
            _inherited_sockets.claim(self, connected_to=[one for target in targets for one in target.resolved])
            self.endpoint = _sockets.connect_to_relay(self._socket, relay)
        else:
            declared = self.address.endpoints
            _inherited_sockets.claim(self, bound=[_sockets.port(one) for one in declared])
            self.endpoint = _sockets.bind(self._socket, self.address.name, declared, preferred)
            _inherited_sockets.claim(self, bound=[_sockets.port(self.endpoint)])

    @property
    def closed(self) -> bool:
        """Whether it cannot be used: not opened, :meth:`close` has been called, or it is the parent's."""
        return not self.endpoint or bool(self._socket.closed) or not self._owner.is_here

    def require(self) -> None:
        """Raise ListenerError if it cannot be used any more: nothing was sent."""
        self._owner.require()
        if self.closed:
            raise gone()

    def refuse_reentry(self) -> None:
        """Raise ConfigurationError if the caller has interrupted its own thread in here."""
        _reentry.refuse(self._lock)

    @property
    def mark(self) -> int:
        """``Peers.mark`` as of the last look."""
        return self._subscriptions.peers.mark

    @property
    def age(self) -> float:
        """Seconds since the socket was opened."""
        return time.monotonic() - self.born

    def send(self, parts: Sequence[bytes]) -> int:
        """Hand one message to the socket and return ``Peers.mark``; never blocks, as with PUB.

        Raises:
            ListenerError: the outlet is closed, or it is the parent's of a process that forked meanwhile.
            ConfigurationError: the caller has interrupted a send of its own thread.
        """
        mark = self.send_if(lambda peers: True, parts)
        assert mark is not None
        return mark

    def send_if(self, ready: Callable[[Peers], bool], parts: Sequence[bytes]) -> Optional[int]:
        """As :meth:`send` if *ready* is true of the peers now; else send nothing and return None."""
        # First: libzmq would try for ever, and another thread may have held the lock at the fork.
        self._owner.require()
        _reentry.refuse(self._lock)
        with self._lock:
            self._drain()
            if not ready(self._subscriptions.peers):
                return None
            try:
                self._touch(lambda: _sockets.send(self._socket, parts))
            except zmq.ZMQError as error:
                raise _closed(error) from error
            return self._subscriptions.peers.mark

    @contextmanager
    def look(self) -> Iterator[Peers]:
        """Give the peers as they are now, under the lock: be brief, and keep no reference."""
        self._owner.require()
        with self._lock:
            self._drain()
            yield self._subscriptions.peers

    def wait_until(self, ready: Callable[[Peers], bool], age: float) -> None:
        """Return once *ready* is true of the peers, at the latest when the socket is *age* s old.

        The descriptor tells one of several waiting threads that there is a frame, and not
        which of them wants it; see the third race in :mod:`gilmsg._presence`.
        """
        while self.age < age:
            with self.look() as peers:
                if self.closed or ready(peers):
                    return
                descriptor = self._descriptor()
            left = min(LOOK_AGAIN, max(0.0, age - self.age))
            zmq.zmq_poll([(descriptor, zmq.POLLIN)], int(left * 1000) + 1)

    def _descriptor(self) -> int:
        """Return the socket's descriptor; -1, for which no poll has an event, if it was closed."""
        try:
            return int(self._socket.getsockopt(zmq.FD))
        except zmq.ZMQError:
            return -1

    def catch_up(self) -> None:
        """See to it that the next look finds out who has gone by now; takes some milliseconds."""
        with self.look():
            descriptor = None if self.closed else self._subscriptions.behind()
        if descriptor is not None:
            zmq.zmq_poll([(descriptor, zmq.POLLIN)], CATCH_UP)

    def _drain(self) -> None:
        if self.closed or self._busy:
            return
        try:
            self._touch(self._subscriptions.take)
        except zmq.ZMQError as error:
            if error.errno != zmq.ENOTSOCK:  # that is destroy(), called by a signal handler in here
                raise _closed(error) from error

    def _touch(self, job: Callable[[], Any]) -> None:
        """Do *job* to the socket; if it does not come to its end, give the outlet up."""
        complete = False
        try:
            self._busy = True
            job()
            complete = True
        finally:
            self._busy = False
            if not complete:
                self.close()

    def close(self) -> None:
        """Close the socket and give the port back before returning; idempotent."""
        with self._lock:
            if not self._socket.closed:
                self._subscriptions.close()
                self._socket.close(linger=self._linger)
            _contexts.terminate(self._context)


def gone(why: str = "is closed, by destroy() for example") -> ListenerError:
    """Return the error of who publishes, and has no publisher any more."""
    return ListenerError("the publisher %s; nothing was sent" % why)


def _closed(error: zmq.ZMQError) -> ListenerError:
    return gone() if error.errno == zmq.ENOTSOCK else gone("failed (%s)" % error)
