"""The recipe of ``publish``, from top to bottom."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Callable

from .. import _engine, _protocol, _settings, _trust
from .._engine import CallbackFuture, Outcome
from .._protocol import Receipt
from ..errors import ConfigurationError, Timeout
from . import context as _context
from . import end as _end
from . import message as _message
from . import names as _names
from .overloads import Hook, Recipients

log = logging.getLogger("gilmsg.publish")

#: The one switch for tests (see gilmsg.testing): while it is set, every call of publish and
#: publish_async raises what it makes of the call's topic, before anything else.
forbidden: Callable[[str | None], BaseException] | None = None

#: Topics for which the lack of recipients has been logged.
_warned: set[str] = set()

#: Topics may hold an id and never end: past so many they are forgotten, and warned of again.
_MOST_WARNED = 1000

#: Whether it was said in this process that an event loop has to wait with a caller.
_loop_told = False

#: Further attempts of a message whose publisher another thread ends, by ``destroy()``, between two steps.
_FURTHER_ATTEMPTS = 4


def publish(
    topic: str | None = None,
    msg: Any = None,
    modname: str | None = None,
    recipients: Recipients = None,
    ack_timeout: float | None = None,
    pre_fire_hook: Hook = None,
    fail_fast: bool | None = None,
    **config: Any,
) -> Receipt | None:
    """Publish a message; return only when every recipient has proven that it got it.

    Args:
        topic (str): the end of the topic, as for ``fedmsg.publish``.
        msg (dict): the payload. It is not changed.
        modname (str): the middle of the topic; by default the caller's top-level module.
        recipients: certificate common names that must acknowledge, in any iterable; one string is one entry. An entry
            may be a group, see :func:`gilmsg.any_of`. None asks ``gilmsg.recipients``; an empty one means none.
        ack_timeout (float): seconds to wait for the ACKs, from the moment of sending; by default
            the key ``gilmsg.ack_timeout``, else 0.25.
        pre_fire_hook (callable): called once with the finished, signed message, in this thread, just before it leaves.
            If it raises, nothing is sent.
        fail_fast (bool): raise the Timeout once a recipient cannot answer any more: it has gone, and our listener is
            connected to none of its endpoints, or its NACK says that it dropped the message, or failed to handle it,
            each for a second. By default the key ``gilmsg.fail_fast``, else False.
        **config: fedmsg configuration, used if this thread has no context yet; the ``gilmsg.*`` keys always count.

    Returns:
        Receipt: who acknowledged, and when. None without recipients: then the message goes out
        as with fedmsg, and a warning is logged once per topic.

    Raises:
        Timeout: not every recipient has acknowledged in time, or can; it says what is known of each.
        ConfigurationError: an argument, setting or file is not usable; nothing was sent.
        ListenerError: the listener ended while we waited, delivery is unknown; or it could not
            start, or ended before the message left: then nothing was sent, as it says.
    """
    if forbidden is not None:
        raise forbidden(topic)
    _warn_in_a_loop()
    call = Call(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, fail_fast, config)
    if not call.recipients:
        call.send_plain()
        return None
    return call.confirmed()


def publish_async(
    topic: str | None = None,
    msg: Any = None,
    modname: str | None = None,
    recipients: Recipients = None,
    ack_timeout: float | None = None,
    pre_fire_hook: Hook = None,
    fail_fast: bool | None = None,
    **config: Any,
) -> Future[Receipt | None]:
    """Publish a message; return as soon as it is handed to the engine.

    Takes what :func:`publish` takes. The first call of a process or name waits until port, listener and keys are
    ready; later ones block for the signature only: the head start of a young publisher is waited for by the
    engine. Callbacks of the future run one after the other on a thread of their own, so they cannot delay an
    ACK; one that blocks delays the others. ``asyncio.wrap_future`` works on it.

    Returns:
        concurrent.futures.Future: of the :class:`Receipt`, or of None without recipients;
        fails with Timeout or ListenerError (with ConfigurationError, if a hook took the id of a message
        that still waits). It is running from the start, so ``cancel()``
        returns False: a message that has left cannot be called back.

    Raises:
        ConfigurationError: from the call itself; nothing was sent.
        ListenerError: from the call itself; nothing was sent.
    """
    if forbidden is not None:
        raise forbidden(topic)
    call = Call(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, fail_fast, config)
    future = CallbackFuture(call.tell)
    if call.recipients:
        for worker in (_engine.futures, _engine.callbacks):  # now: at the interpreter's end none starts since Python 3.12
            worker.require()
        Future.add_done_callback(future, lambda done: _end.log_later(done.exception() or done.result()))
        try:
            call.handed_over(future, waits=False)
        except BaseException:
            call.abandon()
            raise
    else:
        call.send_plain()
        future.set_result(None)
    return future


def _warn_in_a_loop() -> None:
    """Log one WARNING in a process if an event loop of asyncio's runs in the calling thread, and has to wait with it."""
    global _loop_told
    if _loop_told:
        return
    # Not imported: who runs a loop has loaded it, and others are spared a tenth of what ``import fedmsg`` takes.
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    if running is not None and running() is not None:
        _loop_told = True  # first: a log handler may publish
        log.warning(
            "gilmsg.publish() was called within a running event loop, whose other tasks stand still until it returns; "
            "use `await gilmsg.aio.publish(...)` there (said once)"
        )


class Call:
    """One call of publish: what was asked for, checked, and each step to the engine; *module* is the caller's."""

    def __init__(
        self, topic: str | None, msg: Any, modname: str | None, recipients: Recipients, ack_timeout: float | None,
        pre_fire_hook: Hook, fail_fast: bool | None, config: Mapping[str, Any], module: str | None = None,
    ) -> None:  # fmt: skip
        _engine.prepare()
        named = None if recipients is None else _settings.recipients(recipients)
        _context.require_keywords(config)
        self._context = _context.context(config, module)
        self._config: dict[str, Any] = self._context.c
        self._settings = _settings.settings(self._config, ack_timeout, config, fail_fast)
        if pre_fire_hook is not None and not callable(pre_fire_hook):
            raise ConfigurationError(f"pre_fire_hook must be callable; it is {pre_fire_hook!r}")
        self._suffix, self._msg, self._hook = topic, msg, pre_fire_hook
        self._modname = modname or module or _names.calling_module()
        self._store = self._config.get("persistent_store")
        #: Whose messages leave in one order: those that this thread hands over, or those of an event loop.
        self.line = threading.get_ident()
        self._plain: _engine.Plain | None = None
        #: What was handed to the engine, from just before on: a signal handler may raise at any moment after it.
        self._handed: tuple[_engine.Port, _engine.Message] | None = None
        self._withdrawn = False
        self.topic = _protocol.full_topic(topic, self._modname, self._config)
        self.recipients = _settings.recipients_for(self.topic, self._settings.table) if named is None else named

    def send_plain(self, outcome: _engine.Settled | None = None) -> bool:
        """Publish as fedmsg does, by fedmsg's own code; return when it has left.

        With an *outcome* this returns whether that will tell when it has left, or what has kept it from that.
        """
        if self._settings.required:
            raise ConfigurationError(
                f"{self.topic} would be published without recipients, which {_settings.REQUIRED} forbids; name them, in "
                f"the call or in {_settings.RECIPIENTS}"
            )
        if self.topic not in _warned:
            if len(_warned) >= _MOST_WARNED:
                _warned.clear()
            _warned.add(self.topic)  # first: a log handler may publish
            log.warning("%s is published without recipients: nobody confirms it, as with fedmsg", self.topic)
        if self._config.get("zmq_enabled", True):
            _context.publisher(self._context).aged_port()
        if self._withdrawn:
            return False
        former = _context.taking_over.set(None if outcome is None else functools.partial(self._take_over, outcome))
        try:
            self._context.publish(self._suffix, self._msg, modname=self._modname, pre_fire_hook=self._hook)
        except AttributeError:
            # fedmsg's words for a context that destroy() has taken the publisher from, in a signal handler.
            if self._context is not _context.current():
                _context.publisher(self._context)
            raise
        finally:
            _context.taking_over.reset(former)
        return self._plain is not None

    def _take_over(self, outcome: _engine.Settled, port: _engine.Port, frames: list[bytes]) -> None:
        self._plain = plain = port.unconfirmed(frames, outcome)
        plain.abandoned, plain.thread = self._withdrawn, self.line
        port.publish(plain)

    def confirmed(self) -> Receipt:
        """Send the message and wait: return or raise what :func:`publish` does."""
        outcome: Outcome[Receipt] = Outcome()
        try:
            port, entry = self.handed_over(outcome, waits=True)
            receipt: Receipt = port.result_of(outcome, entry.ack_timeout)
        except Timeout as timeout:
            self.tell(timeout)
            _end.log(timeout)
            raise
        except BaseException:
            self.abandon()
            raise
        _end.log(receipt)
        return receipt

    def tell(self, error: BaseException | None) -> None:
        """Have a Timeout of this call say what the engine does not know."""
        _end.tell(error, self._config)

    def abandon(self) -> None:
        """Have the message not leave any more, for the caller leaves by an exception."""
        self.withdraw()
        if self._handed is not None:
            port, entry = self._handed
            port.forget(entry)

    def withdraw(self) -> None:
        """Have the message not leave, if it has not; another thread may be about to hand it over. Never blocks."""
        self._withdrawn = True
        if self._plain is not None:
            self._plain.abandoned = True
        if self._handed is not None:
            self._handed[1].abandoned = True

    def handed_over(self, outcome: _engine.Settled, waits: bool) -> tuple[_engine.Port, _engine.Message]:
        """Sign the message, call the hook, and hand the message to the engine.

        Another attempt is made where ``destroy()`` came in between: the message is signed for the listener that awaits
        its ACKs, and that is another one then. A hook or a store that has seen the message must see no second one.
        """
        further = 0 if self._hook is not None or self._store else _FURTHER_ATTEMPTS
        for _ in range(further):
            with contextlib.suppress(_engine.Gone):
                return self._hand_over(outcome, waits)
        return self._hand_over(outcome, waits)

    def _hand_over(self, outcome: _engine.Settled, waits: bool) -> tuple[_engine.Port, _engine.Message]:
        port = _context.port(self._context)
        _trust.require_x509(self._config)
        verifier = _trust.verifier(self._config)
        body = _protocol.marked({} if self._msg is None else self._msg, self.recipients)
        self._context._i += 1
        message, leaving = _message.composed(self.topic, body, self._context._i, port.origin), None
        if self._config.get("sign_messages", False):
            message, *leaving = _message.sealed(message, self._config, _names.certname(self._config))
        if self._store:
            message, leaving = self._store.add(message), None
            if not isinstance(message, dict):
                raise ConfigurationError(f"persistent_store: add() must return the message; it returned {message!r}")
        way, head_start = port.way(self.topic), self._settings.head_start
        if self._hook is not None:
            if waits:
                port.present(self.recipients, way, port.born + head_start)
            self._hook(message)
            leaving = None  # it may have changed the message
        covered, wire = leaving or _message.read_back(self.topic, message)
        entry = port.message(
            head_start, msg_id=message["msg_id"], topic=self.topic, digest=_protocol.digest_of(covered),
            parts=[self.topic.encode("utf-8"), wire], recipients=self.recipients,
            ack_timeout=self._settings.ack_timeout, verifier=verifier, way=way, outcome=outcome,
            unsigned="signature" not in message and bool(self._config.get("validate_signatures")),
            fail_fast=self._settings.fail_fast, urgent=waits,
        )  # fmt: skip
        self._handed = port, entry
        entry.thread = self.line
        if self._withdrawn:
            entry.abandoned = True
        port.publish(entry)
        return port, entry
