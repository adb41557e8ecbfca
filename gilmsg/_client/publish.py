"""The recipe of ``publish``, from top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Callable, Optional, Union

from .. import _engine, _protocol, _settings, _trust
from .._engine import CallbackFuture, Outcome
from .._protocol import Receipt
from ..errors import BadFrame, ConfigurationError, PayloadError, Timeout
from . import context as _context
from . import messages

log = logging.getLogger("gilmsg.publish")

Recipients = Union[None, str, Iterable[str]]
Hook = Optional[Callable[[dict[str, Any]], Any]]

#: The one switch for tests (see gilmsg.testing): while it is set, every call of publish and
#: publish_async raises what it makes of the call's topic, before anything else.
forbidden: Callable[[str | None], BaseException] | None = None

#: Topics for which the lack of recipients has been logged.
_warned: set[str] = set()

#: Topics may hold an id and never end: past so many they are forgotten, and warned of again.
_MOST_WARNED = 1000

#: Attempts of a message whose publisher another thread ends, by ``destroy()``, between two steps.
_ATTEMPTS = 5


def publish(
    topic: str | None = None,
    msg: Any = None,
    modname: str | None = None,
    recipients: Recipients = None,
    ack_timeout: float | None = None,
    pre_fire_hook: Hook = None,
    **config: Any,
) -> Receipt | None:
    """Publish a message; return only when every recipient has proven that it got it.

    Args:
        topic (str): the end of the topic, as for ``fedmsg.publish``.
        msg (dict): the payload. It is not changed.
        modname (str): the middle of the topic; by default the caller's top-level module.
        recipients: certificate common names that must acknowledge, in any iterable; one string
            is one entry. An entry may be a group, see :func:`gilmsg.any_of`. None asks the
            key ``gilmsg.recipients``; an empty one means none.
        ack_timeout (float): seconds to wait for the ACKs, from the moment of sending; by default
            the key ``gilmsg.ack_timeout``, else 0.25.
        pre_fire_hook (callable): called once with the finished, signed message, in this
            thread, just before it leaves. If it raises, nothing is sent.
        **config: fedmsg configuration, used if this thread has no context yet; the
            ``gilmsg.*`` keys always count.

    Returns:
        Receipt: who acknowledged, and when. None without recipients: then the message goes out
        as with fedmsg, and a warning is logged once per topic.

    Raises:
        Timeout: not every recipient has acknowledged in time; it says what is known of each.
        ConfigurationError: an argument, setting or file is not usable; nothing was sent.
        ListenerError: the listener ended while we waited, delivery is unknown; or it could not
            start, or ended before the message left: then nothing was sent, as it says.
    """
    if forbidden is not None:
        raise forbidden(topic)
    call = _Call(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
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
    call = _Call(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
    future = CallbackFuture()
    if call.recipients:
        _engine.futures.require()
        Future.add_done_callback(future, _log_end_of)
        call.attempted(lambda: call.hand_over(future, waits_for_presence=False))
    else:
        call.send_plain()
        future.set_result(None)
    return future


class _Call:
    """One call of publish: what was asked for, checked, and each step to the engine."""

    def __init__(
        self,
        topic: str | None,
        msg: Any,
        modname: str | None,
        recipients: Recipients,
        ack_timeout: float | None,
        pre_fire_hook: Hook,
        config: Mapping[str, Any],
    ) -> None:
        named = None if recipients is None else _settings.recipients(recipients)
        self._context = _context.context(config)
        self._config: dict[str, Any] = self._context.c
        self._settings = _settings.settings(self._config, ack_timeout, config)
        if pre_fire_hook is not None and not callable(pre_fire_hook):
            raise ConfigurationError(f"pre_fire_hook must be callable; it is {pre_fire_hook!r}")
        self._suffix, self._msg, self._hook = topic, msg, pre_fire_hook
        self._modname = modname or _context.calling_module()
        self._store = self._config.get("persistent_store")
        self.topic = _protocol.full_topic(topic, self._modname, self._config)
        self.recipients = _settings.recipients_for(self.topic, self._settings.table) if named is None else named

    def send_plain(self) -> None:
        """Publish as fedmsg does, by fedmsg's own code."""
        if self.topic not in _warned:
            if len(_warned) >= _MOST_WARNED:
                _warned.clear()
            _warned.add(self.topic)
            log.warning("%s is published without recipients: nobody confirms it, as with fedmsg", self.topic)
        if self._config.get("zmq_enabled", True):
            _context.wait_for_age(_context.publisher(self._context).port(), self._config)
        try:
            self._context.publish(self._suffix, self._msg, modname=self._modname, pre_fire_hook=self._hook)
        except AttributeError:
            # fedmsg's words for a context that destroy() has taken the publisher from, in a signal handler.
            if self._context is not _context.current():
                _context.publisher(self._context)
            raise

    def confirmed(self) -> Receipt:
        """Send the message and wait: return or raise what :func:`publish` does."""
        outcome: Outcome[Receipt] = Outcome()
        port, entry = self.attempted(lambda: self.hand_over(outcome, waits_for_presence=True))
        try:
            receipt: Receipt = port.result_of(outcome, max(0.0, entry.until - time.monotonic()) + entry.ack_timeout)
        except Timeout as timeout:
            _log_timeout(timeout)
            raise
        except BaseException:
            port.forget(entry)
            raise
        _log_receipt(receipt)
        return receipt

    def attempted(self, hand_over: Callable[[], tuple[_engine.Port, _engine.Message]]) -> Any:
        """Return what *hand_over* returns; another attempt is made where ``destroy()`` came in between.

        The message is signed for the listener that awaits its ACKs, and that is another one then. A hook or a store
        has seen the message, though, and must see no second one.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return hand_over()
            except _engine.Gone:
                if not left or self._hook is not None or self._store:
                    raise
        return None

    def hand_over(
        self, outcome: Outcome[Receipt] | CallbackFuture, waits_for_presence: bool
    ) -> tuple[_engine.Port, _engine.Message]:
        """Sign the message, call the hook, and hand the message to the engine.

        Where *waits_for_presence*, a hook is called after any head start; else it is called at once.
        """
        port = _context.port(self._context)
        _trust.require_x509(self._config)
        verifier = _trust.verifier(self._config)
        message, sealed = self._signed(port.origin)
        way, head_start = port.way(self.topic), self._settings.head_start
        if self._hook is not None:
            if waits_for_presence:
                port.present(self.recipients, way, port.born + head_start)
            self._hook(message)
            sealed = None  # it may have changed the message
        msg_id, covered, wire = _leaving(self.topic, message) if sealed is None else (message["msg_id"], *sealed[1:])
        entry = port.message(
            head_start, msg_id=msg_id, topic=self.topic, digest=_protocol.digest_of(covered),
            parts=[self.topic.encode("utf-8"), wire], recipients=self.recipients,
            ack_timeout=self._settings.ack_timeout, verifier=verifier, way=way, outcome=outcome,
        )  # fmt: skip
        port.publish(entry)
        return port, entry

    def _signed(self, origin: str) -> tuple[dict[str, Any], messages.Sealed | None]:
        """Return the finished message, its recipients marked in it before it is signed.

        Also its sealed form, None where that may not be what leaves.
        """
        body = _protocol.marked({} if self._msg is None else self._msg, self.recipients)
        self._context._i += 1
        message = messages.composed(self.topic, body, self._context._i, origin)
        sealed = None
        if self._config.get("sign_messages", False):
            sealed = messages.sealed(message, self._config, _context.certname(self._config))
            message = sealed.message
        if not self._store:
            return message, sealed
        stored = self._store.add(message)
        if not isinstance(stored, dict):
            raise ConfigurationError(f"persistent_store: add() must return the message; it returned {stored!r}")
        return stored, None


def _leaving(topic: str, message: Any) -> tuple[str, bytes, bytes]:
    """Return id, covered bytes and wire bytes of a message that the hook, or a store, has seen.

    ACKs must state what leaves: hence the covered bytes are taken from the bytes that leave, parsed again.
    """
    try:
        wire = _protocol.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"the message, as pre_fire_hook or persistent_store may have left it, cannot be encoded: {error}"
        ) from error
    if not isinstance(message.get("msg_id"), str):
        raise ConfigurationError(
            f"pre_fire_hook or persistent_store left a message whose msg_id is {message.get('msg_id')!r}"
        )
    try:
        received = _protocol.Received.of([topic.encode("utf-8"), wire])
        return received.message["msg_id"], received.covered, wire
    except BadFrame as error:
        raise PayloadError(f"the message cannot be read back: {error}") from error


def _log_end_of(future: Future[Any]) -> None:
    """Have the end of a future logged on the callback thread."""
    error = future.exception()
    if isinstance(error, Timeout):
        _engine.callbacks.run(lambda: _log_timeout(error))
    elif error is None and log.isEnabledFor(logging.DEBUG):
        _engine.callbacks.run(lambda: _log_receipt(future.result()))


def _log_receipt(receipt: Receipt) -> None:
    """Write one DEBUG line for a message that all its recipients acknowledged."""
    if log.isEnabledFor(logging.DEBUG):
        names = sorted(receipt.acks)
        fields = {"topic": receipt.topic, "msg_id": receipt.msg_id, "acked": names, "missing": []}
        log.debug("%s %s acknowledged by %s", receipt.topic, receipt.msg_id, ", ".join(names), extra=fields)


def _log_timeout(timeout: Timeout) -> None:
    """Write one WARNING line for a message that was not proven to arrive."""
    fields = {
        "topic": timeout.topic, "msg_id": timeout.msg_id, "acked": sorted(timeout.acks),
        "missing": sorted(timeout.missing),
    }  # fmt: skip
    log.warning("%s", timeout, extra=fields)
