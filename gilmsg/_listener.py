"""The ACK-listener thread: one per process and bus; it owns its sockets and wakes the waiters.

It runs before the first message leaves, is shared by all publishing threads, and stays for
the next publish. It binds no port and touches no fedmsg context.

Lock rule: what is expected (the ledger) is decided under the lock; sockets, signatures and
waking happen outside it. Only the thread itself touches its zmq sockets; other threads
reach it through the ledger and a wake-up. While it works it takes no lock that a signal handler
could have interrupted somebody in, besides those by which such a handler's publish is refused
(:mod:`gilmsg._reentry`): no future's that another holds, and not logging's. Nothing that comes from the
bus can end the thread: a bad frame is logged and dropped. Should it die of anything else,
every waiter hears of it at once.
"""

import collections
import logging
import threading
import time
from typing import Any, Deque, Mapping, Optional

import zmq

from . import _callbacks, _contexts, _message, _reentry
from ._ack_socket import AckSocket
from ._acks import BadFrame
from ._directory import Bus
from ._fork import Owner
from ._judge import Expected, Judge
from ._ledger import Ledger
from ._links import Links
from ._outcome import Gate
from ._rate_limit import RateLimitedLog
from ._uninterrupted import here, uninterrupted
from ._wakeup import Wakeup
from .errors import ListenerError

log = logging.getLogger(__name__)

START_LIMIT = 10.0
STOP_LIMIT = 2.0

#: Milliseconds: libzmq takes a C int. It wakes then, sees that nothing is due, and sleeps on.
_LONGEST_SLEEP = 2**31 - 1


class Listener:
    """See the module. It runs once ``launch`` is called; ``wait_ready`` tells when, or why it does not."""

    def __init__(self, bus: Bus, config: Mapping[str, Any]) -> None:
        self.bus = bus
        #: By this consumers know our subscription, see :mod:`gilmsg._message`.
        self.origin = _message.new_origin()
        self.born = time.monotonic()
        self._config = dict(config)
        # Re-entrant, as all locks here: a signal handler or a __del__ may publish or destroy on
        # the very thread that holds one. The ledger bears that: no step relies on the one before.
        self._lock = threading.RLock()
        self._ledger: Ledger[Expected] = Ledger()
        #: Taken out of the ledger and not told yet; the thread's own.
        self._undecided: Deque[Expected] = collections.deque()
        self._judge = Judge(bus.ack_topic, self._find)
        self._links = Links()
        self._warn = RateLimitedLog(log, _callbacks.callbacks.run)
        self._ready = Gate()
        self._failure: Optional[BaseException] = None
        self._launched = False
        self._over = False
        self._stopping = False
        self._why = ""
        #: When the thread wakes by itself; the thread's to write.
        self._wakes_at: Optional[float] = None
        self._owner = Owner()
        self._wakeup = uninterrupted(Wakeup)
        self._thread = threading.Thread(target=self._run, name="gilmsg-listener", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it takes new entries."""
        return not self._over and not self._stopping and self._owner.is_here

    def launch(self) -> None:
        """Start the thread, once; interrupted (a signal) while it does so, it will take no entry."""
        if self._launched:
            return
        self._launched = True
        try:
            uninterrupted(self._start)
        except BaseException:
            # Started or not: it ends, or is never looked at again.
            self.give_up("was interrupted while it started")
            raise

    def _start(self) -> None:
        try:
            self._thread.start()
        except Exception as error:  # no more threads, or the interpreter ends
            self._failure = error
            self._end()

    def wait_ready(self) -> None:
        """Return when the socket is subscribed and connecting.

        Raises:
            ListenerError: it could not start, the cause is chained; or it was stopped meanwhile.
        """
        if not self._ready.wait(START_LIMIT, lambda: not self.alive) and self.alive:
            self.give_up("did not start within %g s" % START_LIMIT)
        if self._failure is not None:
            text = "the ACK listener did not start: %s; nothing was sent" % self._failure
            raise ListenerError(text) from self._failure
        self.require()

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is the listener's own."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the thread and fail its waiters; idempotent, returns within STOP_LIMIT seconds."""
        self.give_up("was stopped by destroy()")
        if not self.runs_here and self._thread.is_alive():
            self._thread.join(STOP_LIMIT)

    def give_up(self, why: str) -> None:
        """Take no more entries, and end as soon as may be; the next publish starts another."""
        self._why = self._why or why
        self._stopping = True
        self._wakeup.wake()

    def require(self) -> None:
        """Raise ListenerError if it takes no more entries: nothing was sent."""
        self._owner.require()
        if not self.alive:
            raise self._ended("nothing was sent")

    def expect(self, entry: Expected) -> None:
        """Start to wait for the ACKs of *entry*; call it before the message leaves.

        Raises:
            ListenerError: the listener has ended.
            ConfigurationError: a message of that id is still on its way.
        """
        self._owner.require()
        _reentry.refuse(self._lock)
        with self._lock:
            self.require()
            self._ledger.add(entry)
            # Read, never written here: an interrupt before the wake-up must not leave a promise behind.
            late = self._wakes_at is None or entry.deadline < self._wakes_at
        if late:
            self._wakeup.wake()

    def forget(self, entry: Expected) -> bool:
        """Stop to wait for *entry*; False if it is decided already, or another process's."""
        if not self._owner.is_here:
            return False  # who held the lock at the fork is not here to give it back
        with self._lock:
            return self._ledger.remove(entry)

    def _find(self, claimed_id: bytes) -> Optional[Expected]:
        with self._lock:
            return self._ledger.find(claimed_id)

    def connected(self, endpoint: str) -> bool:
        """Whether the listener is connected to *endpoint*, as it stands in the configuration."""
        return self._links.up(endpoint)

    def _ended(self, consequence: str) -> ListenerError:
        if self._failure is None:
            return ListenerError("the ACK listener %s; %s" % (self._why, consequence))
        error = ListenerError("the ACK listener died: %r; %s" % (self._failure, consequence))
        error.__cause__ = self._failure
        return error

    # From here on: the listener's own thread.

    def _run(self) -> None:
        context: "Optional[zmq.Context[zmq.Socket[bytes]]]" = None
        try:
            context = here(_contexts.open_here)
            self._serve(context)
        except BaseException as error:  # noqa: B902  whatever it is, those who wait must hear of it
            self._failure = error
        finally:
            self._end(context)
        if self._failure is not None:  # last, for somebody may have been interrupted in logging, and wait for us
            log.error("the ACK listener died: %r", self._failure, exc_info=self._failure)

    def _end(self, context: "Optional[zmq.Context[zmq.Socket[bytes]]]" = None) -> None:
        self._tell_all()
        try:
            if context is not None:
                _contexts.terminate(context)
        finally:
            self._wakeup.close()
            self._ready.open()

    def _tell_all(self) -> None:
        """Take no more entries, and fail those that wait: what was taken out to be told, too."""
        with self._lock:
            self._over = True
            waiting = [*self._undecided, *self._ledger.clear()]
            self._undecided.clear()
        for entry in waiting:
            try:
                entry.failed(self._ended("whether the message was received is unknown"))
            except Exception:  # one that cannot be told must not keep the others waiting
                log.exception("could not tell who waits for %s", entry.msg_id)

    def _serve(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        acks = AckSocket(context, self.bus, self.origin, self._config, self._links)
        poller = zmq.Poller()
        wakeup = self._wakeup.fileno()
        for source in (acks.socket, acks.monitor, wakeup):
            poller.register(source, zmq.POLLIN)
        self._ready.open()
        while not self._stopping:
            events = dict(poller.poll(self._milliseconds_to_sleep()))
            if acks.monitor in events:
                self._links.take(acks.monitor)
            if wakeup in events:
                self._wakeup.clear()
            if acks.socket in events:
                self._take_frames(acks)
            self._expire()
            # Last: whoever waits wakes up as we go to sleep, and need not wait for the interpreter.
            self._decide()
        acks.close()

    def _milliseconds_to_sleep(self) -> Optional[int]:
        """How long to sleep, None for until something happens; round up, never spin.

        A wake-up that was announced stands, though what it was for is settled: whoever publishes
        next, with a later deadline, need not wake it. So a busy publisher does so once per ack_timeout.
        """
        now = time.monotonic()
        with self._lock:
            due = self._ledger.next_deadline()
            stands = self._wakes_at is not None and self._wakes_at > now
            if not stands or (due is not None and due < (self._wakes_at or 0.0)):
                self._wakes_at = due
            if self._wakes_at is None:
                return None
            return min(_LONGEST_SLEEP, max(0, int((self._wakes_at - now) * 1000) + 1))

    def _take_frames(self, acks: AckSocket) -> None:
        for parts in acks.frames():
            try:
                proven = self._judge.proven(parts)
            except BadFrame as error:
                self._warn.warning("dropped what came on the ACK topic: %s", error)
            else:
                if proven is not None:
                    self._count(*proven)

    def _count(self, entry: Expected, signer: str) -> None:
        with self._lock:
            if entry.confirm(signer, time.monotonic()) and self._ledger.remove(entry):
                self._undecided.append(entry)

    def _expire(self) -> None:
        with self._lock:
            self._undecided.extend(self._ledger.expired(time.monotonic()))

    def _decide(self) -> None:
        """Tell whoever waits for what was taken out; should that fail, `_tell_all` still knows them."""
        while self._undecided:
            self._undecided[0].ended()
            self._undecided.popleft()
