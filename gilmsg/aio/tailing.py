"""``tail_messages`` as an asynchronous iterator: the generator of a tail, and the thread that runs it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import weakref
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar

from .. import _client, _engine
from .._client import receive, tail
from ..errors import ConfigurationError

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
    asked for: what is wrong is raised there. After it the sockets are subscribed and we have announced ourselves. Endpoints
    whose host is a name are connected as soon as that resolves, while a message is asked for.

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
        self._reader: _Reader | None = None
        self._opening: asyncio.Future[None] | None = None
        #: A step that is under way on the thread, whether anybody waits for it or not.
        self._step: asyncio.Future[receive.Item | None] | None = None
        self._busy = self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> receive.Item:
        if self._busy:
            raise RuntimeError("these messages are being waited for already, by another task: each task needs a tail of its own")
        self._require_its_loop()
        self._busy = True
        try:
            reader = await self._set_up()
            while True:
                if self._step is None:
                    self._step = reader.run(reader.step)
                item = await asyncio.shield(self._step)  # it goes on where whoever waits for it is cancelled
                self._step = None
                if item is not None:
                    return item
                if self._over:
                    raise StopAsyncIteration
        except asyncio.CancelledError:
            if self._reader is not None:
                self._reader.interrupt()  # or the thread would acknowledge a message that nobody has asked for
            raise
        except BaseException:  # as from a generator, nothing comes after it
            self._end()
            raise
        finally:
            self._busy = False

    def _require_its_loop(self) -> None:
        if self._reader is not None and not self._reader.runs_here:
            raise ConfigurationError("these messages belong to another event loop; call tail_messages() in this one")

    async def _set_up(self) -> _Reader:
        if self._over:
            raise StopAsyncIteration
        if self._reader is None:
            self._reader = _Reader()
            weakref.finalize(self, self._reader.end).atexit = False
        if self._opening is None:
            open_ = functools.partial(self._reader.open, self._prepare, _client.context.place())
            self._opening = self._reader.run(open_)
        await asyncio.shield(self._opening)
        if self._over:
            raise StopAsyncIteration
        return self._reader

    def reject(self, reason: str) -> None:
        """Have a NACK tell the publisher of the last message that its handler failed, as those of :func:`gilmsg.tail_messages`.

        Args:
            reason (str): for our own log; the NACK does not tell it.

        Raises:
            ConfigurationError: not with ``acknowledge="before"``, where the ACK has left already.
        """
        if self._reader is not None and self._reader.tail is not None:
            self._reader.tail.require_after()
            if self._step is None:  # else the next message has been asked for
                self._reader.tail.reject(reason)

    async def aclose(self) -> None:
        """End, and close the sockets; nothing is acknowledged. A task that waits for a message ends its loop. Idempotent."""
        self._end()
        if self._reader is not None:
            await asyncio.shield(asyncio.wrap_future(self._reader.closed))

    def _end(self) -> None:
        self._over = True
        if self._reader is not None:
            self._reader.end()

    async def __aenter__(self) -> Self:
        self._require_its_loop()
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


class _Reader:
    """The thread of one Messages, which it does not know: it opens the sockets, takes and acknowledges messages, and closes.

    Attributes:
        tail: None until it is prepared.
        closed: a future that is done once the sockets are closed.
    """

    def __init__(self) -> None:
        self.tail: receive.Tail | None = None
        self.closed: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self._items: Generator[receive.Item | None, None, None] | None = None
        self._ended = False
        self._worker = _engine.Worker("gilmsg-aio")
        self._worker.require()

    @property
    def runs_here(self) -> bool:
        """Whether the running loop is its own."""
        return self._loop is asyncio.get_running_loop()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Have *job* done by the thread; return the future of its result."""
        future: asyncio.Future[T] = self._loop.create_future()

        def do() -> None:
            try:
                settle = functools.partial(future.set_result, job())
            except BaseException as error:  # noqa: BLE001  raised where it is awaited
                settle = functools.partial(future.set_exception, error)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(settle)

        self._worker.run(do)
        return future

    def open(self, prepare: Callable[[], receive.Tail], place: dict[str, Any]) -> None:
        """Open the sockets, on the thread, with the context that is kept in *place*."""
        with _client.context.lent(place):
            self.tail = prepare()
        # A loop that has stopped hands nothing over: what is taken then would be acknowledged, and lost.
        self._items = self.tail.run(self._loop.is_running)
        next(self._items)

    def step(self) -> receive.Item | None:
        """Return the next message, on the thread; None where it was interrupted."""
        assert self._items is not None
        return next(self._items)

    def interrupt(self) -> None:
        """Have a step end that waits for a message. For any thread; never blocks."""
        if self.tail is not None:
            self.tail.interrupt()

    def end(self) -> None:
        """Have the thread close the sockets, and end. Idempotent, never blocks; for any thread, a garbage collection too.

        In a forked child, whose parent's they are, it does nothing.
        """
        if not self._ended and self._pid == os.getpid():
            self._ended = True
            self.interrupt()
            self._worker.run(self._close)

    def _close(self) -> None:
        try:
            if self._items is not None:
                self._items.close()
        finally:
            self._worker.forget()  # so this was the thread's last job
            self.closed.set_result(None)
