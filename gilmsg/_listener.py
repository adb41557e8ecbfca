"""The ACK-listener thread: one per process and bus; it owns its sockets and wakes the waiters.

It runs before the first message leaves, is shared by all publishing threads, and stays for
the next publish. It binds no port and touches no fedmsg context.

Lock rule: what is expected (the ledger) is decided under the lock; sockets, signatures and
waking happen outside it. Only the thread itself touches its zmq sockets; other threads
reach it through the ledger and one byte on the control socket. Nothing that comes from the
bus can end the thread: a bad frame is logged and dropped. Should it die of anything else,
every waiter hears of it at once.
"""

import atexit
import logging
import os
import socket
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import zmq

from . import _acks, _inherited, _sockets
from ._acks import BadFrame, Refused
from ._ledger import Entry, Ledger
from ._links import EVENTS, Links
from .errors import ConfigurationError, GilmsgError, ListenerError

log = logging.getLogger(__name__)

START_LIMIT = 10.0
STOP_LIMIT = 2.0

#: Frames taken in before deadlines are looked at again: a flood must not delay a Timeout.
_BATCH = 64

#: ACKs with a foreign digest whose certificate is read, per message: more are a flood.
_QUOTED = 64


class Waiter(NamedTuple):
    """Who waits for an entry; each callable is called once at most, from the listener's thread."""

    #: Return the common name that signed an ACK, or raise Refused.
    signer_of: Callable[[Mapping[str, Any]], str]
    #: Return the name on the certificate in an ACK, unverified.
    claimed_name: Callable[[Mapping[str, Any]], Optional[str]]
    settled: "Callable[[Entry[Waiter]], None]"
    timed_out: "Callable[[Entry[Waiter]], None]"
    failed: Callable[[GilmsgError], None]


class Bus(NamedTuple):
    """What identifies a listener within the process."""

    ack_topic: str
    endpoints: Tuple[Tuple[str, Tuple[str, ...]], ...]


class Listener:
    """See the module. ``start`` returns when it is ready, or raises why it is not."""

    def __init__(self, bus: Bus, config: Mapping[str, Any]) -> None:
        self.bus = bus
        self._config = dict(config)
        self._lock = threading.Lock()
        self._ledger: Ledger[Waiter] = Ledger()
        self._links = Links()
        self._ready = threading.Event()
        self._failure: Optional[BaseException] = None
        self._over = False
        self._stopping = False
        self._wakes_at: Optional[float] = None
        self._control, self._bell = socket.socketpair()
        self._control.setblocking(False)
        self._bell.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="gilmsg-listener", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it takes new entries."""
        return not self._over and not self._stopping

    def start(self) -> None:
        """Start the thread; return when its socket is subscribed and connecting.

        Raises:
            ListenerError: it could not start; the cause is chained.
        """
        self._thread.start()
        if not self._ready.wait(START_LIMIT):
            raise ListenerError("the ACK listener did not start within %g s" % START_LIMIT)
        if self._failure is not None:
            raise ListenerError("the ACK listener did not start: %s" % self._failure) from self._failure

    def stop(self) -> None:
        """End the thread and fail its waiters; idempotent, returns within STOP_LIMIT seconds."""
        self._stopping = True
        self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_LIMIT)

    def expect(self, entry: Entry[Waiter]) -> None:
        """Start to wait for the ACKs of *entry*; call it before the message leaves.

        Raises:
            ListenerError: the listener has ended.
            ConfigurationError: a message of that id is still on its way.
        """
        with self._lock:
            if not self.alive:
                raise self._ended()
            try:
                self._ledger.add(entry)
            except KeyError:
                raise ConfigurationError(
                    "a message with the id %r still waits for its ACKs" % entry.msg_id
                ) from None
            # It wakes by itself at the latest when the earliest entry that it knew of ends.
            late = self._wakes_at is None or entry.deadline < self._wakes_at
        if late:
            self._ring()

    def forget(self, entry: Entry[Waiter]) -> bool:
        """Stop to wait for *entry*; False if it is decided already."""
        with self._lock:
            return self._ledger.remove(entry)

    def connected(self, endpoint: str) -> bool:
        """Whether the listener is connected to *endpoint*, as it stands in the configuration."""
        return self._links.up(endpoint)

    def _ended(self) -> ListenerError:
        if self._failure is None:
            return ListenerError("the ACK listener was stopped by destroy()")
        error = ListenerError("the ACK listener died: %r" % self._failure)
        error.__cause__ = self._failure
        return error

    def _ring(self) -> None:
        """Wake the thread. A full pipe means that it is to wake anyway; a closed one, that it ended."""
        try:
            self._bell.send(b".")
        except OSError:
            pass

    # From here on: the listener's own thread.

    def _run(self) -> None:
        context: "zmq.Context[zmq.Socket[bytes]]" = zmq.Context()
        try:
            self._serve(context)
        except BaseException as error:  # noqa: B902  whatever it is, those who wait must hear of it
            self._failure = error
            log.error("the ACK listener died: %r", error, exc_info=True)
        finally:
            context.destroy(linger=0)
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._over = True
            waiting = self._ledger.clear()
        for entry in waiting:
            entry.waiter.failed(self._ended())
        self._control.close()
        self._bell.close()
        self._ready.set()

    def _serve(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        subscriber, monitor = self._connect(context)
        poller = zmq.Poller()
        for source in (subscriber, monitor, self._control.fileno()):
            poller.register(source, zmq.POLLIN)
        self._ready.set()
        while not self._stopping:
            events = dict(poller.poll(self._milliseconds_to_sleep()))
            if monitor in events:
                self._links.take(monitor)
            if self._control.fileno() in events:
                self._answer_bell()
            if subscriber in events:
                self._take_frames(subscriber)
            self._expire()
        subscriber.disable_monitor()

    def _connect(
        self, context: "zmq.Context[zmq.Socket[bytes]]"
    ) -> "Tuple[zmq.Socket[bytes], zmq.Socket[bytes]]":
        targets = list(_sockets.connectable(dict(self.bus.endpoints)))
        subscriber = context.socket(zmq.SUB)
        _sockets.tune(subscriber, self._config)
        monitor = subscriber.get_monitor_socket(EVENTS)
        subscriber.setsockopt(zmq.SUBSCRIBE, self.bus.ack_topic.encode("utf-8"))
        for target in targets:
            self._links.expect(target)
            try:
                subscriber.connect(target.where)
            except zmq.ZMQError as error:
                log.warning("endpoints: cannot connect to %r: %s", target.endpoint, error)
        return subscriber, monitor

    def _milliseconds_to_sleep(self) -> Optional[int]:
        """How long to sleep, None for until something happens; round up, never spin."""
        with self._lock:
            self._wakes_at = self._ledger.next_deadline()
            if self._wakes_at is None:
                return None
            return max(0, int((self._wakes_at - time.monotonic()) * 1000) + 1)

    def _answer_bell(self) -> None:
        try:
            while self._control.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _take_frames(self, subscriber: "zmq.Socket[bytes]") -> None:
        for _ in range(_BATCH):
            try:
                parts = subscriber.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take(parts)
            except BadFrame as error:
                log.warning("dropped what came on the ACK topic: %s", error)

    def _take(self, parts: List[bytes]) -> None:
        """Look at one frame, cheap checks first: a flood of foreign ACKs must cost nothing."""
        if len(parts) != 2 or parts[0] != self.bus.ack_topic.encode("utf-8"):
            return
        if len(parts[1]) > _acks.LARGEST_ACK:
            raise BadFrame("%d bytes are too many for an ACK" % len(parts[1]))
        with self._lock:
            entry = self._ledger.find(_acks.claimed_id(parts[1]))
        if entry is None:
            return
        topic, message = _acks.decode(parts)
        ack = _acks.parse_ack(message)
        if message.get("topic") != topic or ack.msg_id != entry.msg_id:
            raise BadFrame("its signed topic or id differs from what it was sent under")
        self._judge(entry, ack, message)

    def _judge(self, entry: Entry[Waiter], ack: _acks.Ack, message: _acks.Message) -> None:
        """Check digest, signature and signer of an ACK for *entry*; count it, or keep why not."""
        if ack.digest is not None and ack.digest != entry.digest:
            self._refuse_digest(entry, message)
            return
        try:
            signer = entry.waiter.signer_of(message)
        except Refused as refusal:
            if refusal.claimed is not None:
                entry.refuse(refusal.claimed, refusal.reason)
            return
        if entry.awaits(signer):
            self._count(entry, signer)
        elif signer not in entry.acks:
            entry.strangers.add(signer)

    def _refuse_digest(self, entry: Entry[Waiter], message: _acks.Message) -> None:
        """Keep who seems to have received something else; not worth a signature check."""
        entry.altered += 1
        claimed = entry.waiter.claimed_name(message) if entry.altered <= _QUOTED else None
        if claimed is not None:
            entry.refuse(claimed, "its digest differs, what it received is not what was sent")

    def _count(self, entry: Entry[Waiter], signer: str) -> None:
        with self._lock:
            settled = entry.confirm(signer, time.monotonic()) and self._ledger.remove(entry)
        if settled:
            entry.waiter.settled(entry)

    def _expire(self) -> None:
        with self._lock:
            late = self._ledger.expired(time.monotonic())
        for entry in late:
            entry.waiter.timed_out(entry)


_registry_lock = threading.Lock()
_listeners: Dict[Bus, Listener] = {}


def listener_for(config: Mapping[str, Any]) -> Listener:
    """Return the running listener of the bus that *config* describes; start it if there is none.

    Raises:
        ListenerError: it could not start.
    """
    named = _sockets.publishing_endpoints(config)
    bus = Bus(_acks.ack_topic(config), tuple((name, tuple(named[name])) for name in sorted(named)))
    with _registry_lock:
        listener = _listeners.get(bus)
        if listener is None or not listener.alive:
            listener = Listener(bus, config)
            listener.start()
            _listeners[bus] = listener
            atexit.unregister(stop_all)
            atexit.register(stop_all)
        return listener


def stop_all() -> None:
    """Stop every listener of the process; their waiters get a ListenerError at once."""
    with _registry_lock:
        listeners = list(_listeners.values())
        _listeners.clear()
    for listener in listeners:
        listener.stop()


def _after_fork() -> None:
    """A thread does not survive a fork: the child starts its own listener when it needs one."""
    global _registry_lock, _listeners
    _inherited.abandon(_listeners.values())
    _registry_lock, _listeners = threading.Lock(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
