"""``publish`` as a coroutine: one message between an event loop, the signing thread and the engine."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Callable, NamedTuple

from .. import _client, _engine
from .._client import publish as _publish
from .._protocol import Receipt

#: Ends of messages that a loop is told in one of its turns, at most: its other tasks want theirs, too.
_EACH_TURN = 50


def publish(
    topic: str | None = None,
    msg: Any = None,
    modname: str | None = None,
    recipients: str | Iterable[str] | None = None,
    ack_timeout: float | None = None,
    pre_fire_hook: Callable[[dict[str, Any]], Any] | None = None,
    fail_fast: bool | None = None,
    **config: Any,
) -> Coroutine[Any, Any, Receipt | None]:
    """Publish a message under asyncio; the coroutine ends only when every recipient has proven that it got it.

    Takes what :func:`gilmsg.publish` takes. It is a plain function that returns a coroutine, to be awaited, or given to
    ``create_task``, ``gather``, ``wait_for`` or a ``TaskGroup``; until then nothing happens, and *msg* must stay as it is
    until that has ended. Topic and name are guessed from the caller of this function. Messages of one loop are
    signed, and leave, in the order in which their coroutines start, save that those without recipients have no
    deadline to keep. The event loop waits for nothing: port, listener, keys, signatures, *pre_fire_hook* and
    ``persistent_store`` are a matter of gilmsg's own thread, one for all loops.

    A coroutine that is cancelled before its message has left sees to it that it never leaves. What has left cannot be
    called back: then nobody waits for its ACKs any more.

    Returns:
        Coroutine: of the Receipt, or of None without recipients.

    Raises:
        Timeout: at the await, as all others: not every recipient has acknowledged in time, or can. It is a
            TimeoutError, as asyncio's own: ``except gilmsg.Timeout`` comes first.
        ConfigurationError: an argument, setting or file is not usable; nothing was sent.
        ListenerError: see :func:`gilmsg.publish`.
    """
    module = _client.names.calling_module()
    return _published(topic, lambda: _publish.Call(
        topic, msg, modname, recipients, ack_timeout, pre_fire_hook, fail_fast, config, module))  # fmt: skip


async def _published(topic: str | None, make: Callable[[], _publish.Call]) -> Receipt | None:
    if _publish.forbidden is not None:
        raise _publish.forbidden(topic)
    sending = _Sending(make)
    try:
        receipt, error = await sending.end
    except BaseException:
        sending.withdraw()
        raise
    if error is None:
        return receipt
    try:
        raise error
    finally:
        del error, sending  # its traceback holds this frame: neither would be freed before the next garbage collection


_published.__qualname__ = "gilmsg.aio.publish"  # Python names a coroutine that nobody awaits


class _End(NamedTuple):
    """The end of a message: confirmed, or sent without recipients, where there is no error."""

    receipt: Receipt | None
    error: BaseException | None


class _Sending:
    """One message; made in its loop's thread, handed over by the signing thread, settled by the engine's.

    Attributes:
        end: an asyncio future of the _End; cancelled where nobody waits for it any more.
    """

    def __init__(self, make: Callable[[], _publish.Call]) -> None:
        self.loop = asyncio.get_running_loop()
        self.end: asyncio.Future[_End] = self.loop.create_future()
        self._make, self._place = make, _client.context.place()
        self._call: _publish.Call | None = None
        self._ident = threading.get_ident()
        for worker in (_engine.signing, _engine.futures, _engine.callbacks):
            worker.require()  # or an error: without one of them nobody would be told the end
        hand_over = contextvars.copy_context().run  # a hook may ask whose message this is
        _engine.signing.run(lambda: hand_over(self._hand_over))

    def _hand_over(self) -> None:
        """Check, sign and hand over, on the signing thread."""
        try:
            with _client.context.lent(self._place):
                if self.end.cancelled():
                    return
                self._call = call = self._make()
                if self.end.cancelled():  # perhaps before there was a call that could be withdrawn
                    return
                call.line = self._ident
                if call.recipients:
                    call.handed_over(self, waits=False)
                elif not call.send_plain(self):
                    self.settle(None, None)
        except BaseException as error:  # noqa: BLE001  raised where it is awaited
            if self._call is not None:
                self._call.abandon()
            self.settle(None, error)

    def settle(self, receipt: Receipt | None, error: BaseException | None) -> None:
        """Have the loop told the end; never blocks."""
        _ends.put((self, _End(receipt, error)))

    def complete(self, end: _End) -> None:
        """Have a Timeout say what the engine does not know, and the end logged."""
        if self._call is not None:
            self._call.tell(end.error)
        _client.end.log_later(end.error or end.receipt)

    def withdraw(self) -> None:
        """Have the message not leave, if it has not, and nobody wait for its ACKs."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self.end.cancel()
        call = self._call
        if call is not None:
            call.withdraw()
            _engine.signing.run(call.abandon)  # which asks the engine, and waits


def _tell(ends: Iterable[tuple[_Sending, _End]]) -> None:
    """Tell each loop the *ends* of its messages, on the thread of ``futures``."""
    of_loops: dict[asyncio.AbstractEventLoop, list[tuple[_Sending, _End]]] = {}
    for sending, end in ends:
        sending.complete(end)
        of_loops.setdefault(sending.loop, []).append((sending, end))
    for loop, several in of_loops.items():
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_settle, loop, several)


def _settle(loop: asyncio.AbstractEventLoop, ends: list[tuple[_Sending, _End]]) -> None:
    for sending, end in ends[:_EACH_TURN]:
        if not sending.end.done():
            sending.end.set_result(end)
    if len(ends) > _EACH_TURN:
        loop.call_soon(_settle, loop, ends[_EACH_TURN:])


_ends = _engine.Reports(_tell)
