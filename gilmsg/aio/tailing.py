"""``tail_messages`` as an asynchronous iterator: sockets that an event loop watches, and a thread that handles messages."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar

from .. import _client
from .._client import receive, tail
from ..errors import ConfigurationError, ListenerError

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


def tail_messages(
    topic: str = "", passive: bool = False, *, acknowledge: Literal["before", "after"] = "before", **config: Any
) -> Messages:
    """Iterate over the messages on the bus under asyncio, and acknowledge each that names us.

    ``async for name, endpoint, topic, msg in gilmsg.aio.tail_messages(...)``. Takes what :func:`gilmsg.tail_messages`
    takes, and does the same: the ACK of a message is sent before it is handed over; with ``acknowledge="after"`` when the
    next one is asked for, and ``reject()`` makes that a NACK. The event loop waits for nothing.

    All set-up happens at the first step, which is the entry of an ``async with`` block, or else the first message that is
    asked for: what is wrong is raised there. After it the sockets are subscribed and we have announced ourselves.

    Args:
        topic (str): a topic prefix; everything by default.
        passive (bool): bind the endpoints instead of connecting to them.
        acknowledge (str): ``"before"`` a message is handed over, or ``"after"`` it was handled.
        **config: fedmsg configuration, used if this thread has no context yet.

    Returns:
        Messages: an asynchronous iterator over tuples (name, endpoint, topic, message).

    Raises:
        ConfigurationError: at the first step; see :func:`gilmsg.tail_messages`.
    """
    return Messages(functools.partial(tail.prepared, topic, passive, acknowledge, config, _client.names.calling_module()))


class Messages(AsyncIterator[receive.Item]):
    """What :func:`tail_messages` returns: an asynchronous iterator that can reject its last message.

    It is an asynchronous context manager, too. Its sockets are closed by :meth:`aclose`, at the end of an ``async with``
    block, and with the last reference to it: after ``break``, or when the task that iterates is cancelled. That
    acknowledges nothing. A step that is cancelled loses no message: the next step returns what it had taken.
    """

    def __init__(self, prepare: Callable[[], receive.Tail]) -> None:
        self._prepare = prepare
        self._watch: _Watch | None = None
        self._opening: asyncio.Future[None] | None = None
        #: A step that is under way on the other thread, whether anybody waits for it or not.
        self._step: asyncio.Future[receive.Item | None] | None = None
        #: What the last frames hold; its next step acknowledges its last one.
        self._several: Generator[receive.Item, None, None] | None = None
        self._busy = self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> receive.Item:
        if self._busy:
            raise RuntimeError("these messages are being waited for already, by another task: each task needs a tail of its own")
        self._busy = True
        try:
            watch = await self._set_up()
            while True:
                if self._step is None and self._several is None:
                    await watch.message()
                    if self._over:
                        raise StopAsyncIteration
                    self._several = watch.take()
                if self._step is None:
                    self._step = watch.run(functools.partial(next, self._several, None))
                item = await _outcome(self._step)
                self._step = None
                if item is not None:
                    return item
                self._several = None
        except (asyncio.CancelledError, StopAsyncIteration):
            raise
        except BaseException:  # as from a generator, nothing comes after it
            self._end()
            raise
        finally:
            self._busy = False

    async def _set_up(self) -> _Watch:
        if self._over:
            raise StopAsyncIteration
        if self._watch is not None and not self._watch.runs_here:
            raise ConfigurationError("these messages belong to another event loop; call tail_messages() in this one")
        if self._watch is None:
            self._watch = _Watch()
            weakref.finalize(self, self._watch.drop).atexit = False
        if self._opening is None:
            open_ = functools.partial(self._watch.open, self._prepare, _client.context.place())
            self._opening = self._watch.run(open_)
        await _outcome(self._opening)
        if self._over:
            raise StopAsyncIteration
        self._watch.begin()
        return self._watch

    def reject(self, reason: str) -> None:
        """Have a NACK tell the publisher of the last message that its handler failed; the ACK will not be sent.

        Of a message that owes no ACK, and of one that was rejected already, nothing is said.

        Args:
            reason (str): for our own log; the NACK does not tell it.

        Raises:
            ConfigurationError: not with ``acknowledge="before"``, where the ACK has left already.
        """
        if self._watch is not None and self._watch.tail is not None:
            self._watch.tail.require_after()
            if self._step is None:  # else the next message has been asked for
                self._watch.tail.reject(reason)

    async def aclose(self) -> None:
        """End, and close the sockets; nothing is acknowledged. A task that waits for a message ends its loop. Idempotent."""
        self._end()
        if self._watch is not None:
            await self._watch.closed()

    def _end(self) -> None:
        self._over = True
        if self._watch is not None:
            self._watch.end()

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except StopAsyncIteration:
            raise RuntimeError("these messages were closed; call tail_messages() again") from None
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _outcome(future: asyncio.Future[T]) -> T:
    """Return the result of *future*, which goes on where whoever waits for it is cancelled."""
    if not future.done():
        await asyncio.wait([future])
    return future.result()


class _Watch:
    """The sockets of one Messages, which it does not know, its loop, and its thread.

    The sockets are that thread's while they are opened and closed, and the loop's in between.
    """

    def __init__(self) -> None:
        self.tail: receive.Tail | None = None
        self._loop = asyncio.get_running_loop()
        self._pid, self._ident = os.getpid(), threading.get_ident()
        self._thread = ThreadPoolExecutor(1, "gilmsg-aio")
        self._opened: receive.Subscribers | None = None
        #: Descriptors that the loop watches; sockets that have a message, in turn.
        self._watched: list[int] = []
        self._ready: dict[Any, None] = {}
        self._came = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: concurrent.futures.Future[None] | None = None

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Have *job* done by the thread; ListenerError if that cannot start."""
        try:
            return self._loop.run_in_executor(self._thread, job)
        except RuntimeError as error:
            if self._closing is None:  # it did not start, so nothing is open
                self._closing = concurrent.futures.Future()
                self._closing.set_result(None)
            raise ListenerError(f"there is no thread gilmsg-aio: {error}") from error

    @property
    def runs_here(self) -> bool:
        """Whether this is its loop."""
        return self._loop is asyncio.get_running_loop()

    def open(self, prepare: Callable[[], receive.Tail], place: dict[str, Any]) -> None:
        """Open the sockets, on the thread, with the context that is kept in *place*."""
        with _client.context.lent(place):
            self.tail = prepare()
        self._opened = self.tail.subscribers()
        self._opened.open()

    @property
    def _subscribers(self) -> receive.Subscribers:
        assert self._opened is not None
        return self._opened

    def begin(self) -> None:
        """Have the loop watch the sockets. Idempotent."""
        if not self._watched:
            readers: dict[int, Callable[[], None]] = {self._subscribers.woken.fileno(): self._answer}
            for source in self._subscribers.sources:
                readers[source.fileno()] = functools.partial(self._look, source)
            self._watched = list(readers)
            for descriptor, look in readers.items():
                self._loop.add_reader(descriptor, look)
            self._look_at_all()

    async def message(self) -> None:
        """Return when a message can be taken, or this has ended."""
        await self._came.wait()

    def take(self) -> Generator[receive.Item, None, None]:
        """Return what the next message holds; the sockets take turns."""
        assert self.tail is not None
        source = next(iter(self._ready))
        del self._ready[source]
        frames = self._subscribers.take(source)
        self._look(source)
        if not self._ready:
            self._came.clear()
        return self.tail.received(frames, *self._subscribers.sources[source], self._subscribers.context)

    def _look(self, source: Any) -> None:
        if self._subscribers.has_message(source):
            self._ready[source] = None
            self._came.set()

    def _look_at_all(self) -> None:
        """Look at all sockets: whoever touched one may have taken the news from its descriptor. Plan the next tick."""
        for source in self._subscribers.sources:
            self._look(source)
        due = self._subscribers.next_due()
        if self._timer is not None:
            self._timer.cancel()
        if due is not None:
            self._timer = self._loop.call_later(max(0.0, due - time.monotonic()), self._tick)

    def _answer(self) -> None:
        self._subscribers.answer()
        self._look_at_all()

    def _tick(self) -> None:
        self._subscribers.tick()
        self._look_at_all()

    def drop(self) -> None:
        """End, for nobody holds the Messages any more; a garbage collection calls it, on any thread, or in a forked child."""
        if self._pid != os.getpid():
            return
        try:
            if self._ident == threading.get_ident():
                self.end()
            else:
                self._loop.call_soon_threadsafe(self.end)
        except RuntimeError:  # the loop is closed; or the interpreter is ending, and its threads have
            with contextlib.suppress(RuntimeError):
                self.end()

    def end(self) -> None:
        """Watch no more, and have the thread close the sockets and end. Idempotent."""
        if self._closing is not None:
            return
        if not self._loop.is_closed():
            for descriptor in self._watched:
                self._loop.remove_reader(descriptor)
            if self._timer is not None:
                self._timer.cancel()
        self._came.set()
        self._closing = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            if self.tail is not None:
                self.tail.ended()

    async def closed(self) -> None:
        """Return when the sockets are closed."""
        assert self._closing is not None
        await _outcome(asyncio.wrap_future(self._closing))
