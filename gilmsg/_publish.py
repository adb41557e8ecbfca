"""The recipe of ``publish``, from top to bottom."""

import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Mapping, Optional, Set, Tuple, Union

from . import _acks, _bus, _listeners, _message, _settings, _trust
from ._callbacks import CallbackFuture
from ._caller import calling_module
from ._ledger import Sent
from ._outcome import Outcome
from ._outlets import wait_for_age
from ._pending import Pending, Result
from ._receipt import Receipt
from ._visibility import Visibility
from .errors import ConfigurationError, PayloadError

if TYPE_CHECKING:
    from ._keypair import Sealed

log = logging.getLogger(__name__)

Recipients = Union[None, str, Iterable[str]]
Hook = Optional[Callable[[Dict[str, Any]], Any]]

#: The one switch for tests (see gilmsg.testing): while it is set, every call of publish and
#: publish_async raises what it makes of the call's topic, before anything else.
forbidden: Optional[Callable[[Optional[str]], BaseException]] = None

#: Topics for which the lack of recipients has been logged.
_warned: Set[str] = set()

#: Topics may hold an id and never end: past so many they are forgotten, and warned of again.
_MOST_WARNED = 1000


def publish(
    topic: Optional[str] = None,
    msg: Any = None,
    modname: Optional[str] = None,
    recipients: Recipients = None,
    ack_timeout: Optional[float] = None,
    pre_fire_hook: Hook = None,
    **config: Any,
) -> Result:
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
            start, it ended, or ``destroy()`` closed the publisher before the message left: then
            nothing was sent, as it says.
    """
    if forbidden is not None:
        raise forbidden(topic)
    sending = Sending(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
    if not sending.recipients:
        sending.send_plain()
        return None
    return sending.confirmed()


def publish_async(
    topic: Optional[str] = None,
    msg: Any = None,
    modname: Optional[str] = None,
    recipients: Recipients = None,
    ack_timeout: Optional[float] = None,
    pre_fire_hook: Hook = None,
    **config: Any,
) -> "Future[Result]":
    """Publish a message; return as soon as it is handed to the socket.

    Takes what :func:`publish` takes. Blocks for the signature and, while the publisher is
    young, for the head start. Callbacks of the future run one after the other on a thread of
    their own, so they cannot delay an ACK; one that blocks delays the others.
    ``asyncio.wrap_future`` works on it.

    Returns:
        concurrent.futures.Future: of the :class:`Receipt`, or of None without recipients;
        fails with Timeout or ListenerError. It is running from the start, so ``cancel()``
        returns False: a message that has left cannot be called back.

    Raises:
        ConfigurationError: from the call itself; nothing was sent.
        ListenerError: from the call itself; nothing was sent.
    """
    if forbidden is not None:
        raise forbidden(topic)
    sending = Sending(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
    future = CallbackFuture()
    future.set_running_or_notify_cancel()
    if sending.recipients:
        try:
            sending.send(future)
        except BaseException:
            sending.forget()
            raise
    else:
        sending.send_plain()
        future.set_result(None)
    return future


class Sending:
    """One call of publish: what was asked for, checked, and each step to the wire."""

    def __init__(
        self,
        topic: Optional[str],
        msg: Any,
        modname: Optional[str],
        recipients: Recipients,
        ack_timeout: Optional[float],
        pre_fire_hook: Hook,
        config: Mapping[str, Any],
    ) -> None:
        named = None if recipients is None else _settings.recipients(recipients)
        self._context = _bus.context(config)
        self._config: Dict[str, Any] = self._context.c
        self._settings = _settings.settings(self._config, ack_timeout, config)
        if pre_fire_hook is not None and not callable(pre_fire_hook):
            raise ConfigurationError("pre_fire_hook must be callable; it is %r" % (pre_fire_hook,))
        self._suffix, self._msg, self._hook = topic, msg, pre_fire_hook
        self._pending: Optional[Pending] = None
        self._modname = modname or calling_module()
        self._topic = _message.full_topic(topic, self._modname, self._config)
        self.recipients = (
            _settings.recipients_for(self._topic, self._settings.table) if named is None else named
        )

    def send_plain(self) -> None:
        """Publish as fedmsg does, by fedmsg's own code."""
        if self._topic not in _warned:
            if len(_warned) >= _MOST_WARNED:
                _warned.clear()
            _warned.add(self._topic)
            log.warning(
                "%s is published without recipients: nobody confirms it, as with fedmsg", self._topic
            )
        if self._config.get("zmq_enabled", True):
            wait_for_age(_bus.publisher(self._context).outlet(), self._config)
        try:
            self._context.publish(
                self._suffix, self._msg, modname=self._modname, pre_fire_hook=self._hook
            )
        except AttributeError:
            # fedmsg's words for a context that destroy() has taken the publisher from, in a signal handler.
            if self._context is not _bus.current():
                _bus.publisher(self._context)
            raise

    def confirmed(self) -> Result:
        """Send it and wait: return or raise what :func:`publish` does."""
        try:
            return self.send(Outcome()).wait()
        except BaseException:
            self.forget()
            raise

    def send(self, outcome: "Union[Outcome[Receipt], CallbackFuture]") -> Pending:
        """Sign, wait for the recipients, expect their ACKs, hand the message to the socket."""
        outlet = _bus.publisher(self._context).outlet()
        directory = _bus.directory(self._context)
        _trust.require_x509(self._config)
        store = _trust.trust_store(self._config)
        listener = _listeners.listener_for(directory.bus, self._config)
        message, sealed = self._signed(listener.origin)
        visibility = Visibility(self._topic, outlet, listener, directory)
        visibility.wait_for(self.recipients, self._settings.head_start)
        if self._hook is not None:
            self._hook(message)
            sealed = None  # it may have changed the message
        wire = sealed.wire if sealed else _encoded(message)
        sent = _sent(self._topic, message, wire, sealed.canonical if sealed else None)
        pending = Pending(sent, self.recipients, self._settings.ack_timeout, outcome, visibility, store)
        self._pending = pending
        visibility.left = outlet.mark  # if it times out before it has left
        listener.expect(pending)
        visibility.left = outlet.send([self._topic.encode("utf-8"), wire])
        return pending

    def forget(self) -> None:
        """Leave nothing registered; for whatever ends the call before its result is there."""
        if self._pending is not None:
            self._pending.forget()

    def _signed(self, origin: str) -> "Tuple[Dict[str, Any], Optional[Sealed]]":
        """Return the finished message, its recipients marked in it before it is signed.

        Also its sealed form, None where that may not be what leaves.
        """
        body = _acks.marked({} if self._msg is None else self._msg, self.recipients)
        self._context._i += 1
        message = _message.compose(self._topic, body, self._context._i, origin)
        sealed = None
        if self._config.get("sign_messages", False):
            sealed = _trust.key_pair(self._config, _bus.certname(self._config)).seal(message)
            message = sealed.message
        store = self._config.get("persistent_store")
        if not store:
            return message, sealed
        stored = store.add(message)
        if not isinstance(stored, dict):
            raise ConfigurationError("persistent_store: add() must return the message; it returned %r" % (stored,))
        return stored, None


def _encoded(message: Any) -> bytes:
    """Return the bytes of a message that the hook, or a store, has seen."""
    try:
        wire = _message.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            "the message, as pre_fire_hook or persistent_store may have left it, cannot be encoded: %s" % error
        ) from error
    if not isinstance(message.get("msg_id"), str):
        raise ConfigurationError(
            "pre_fire_hook or persistent_store left a message whose msg_id is %r" % (message.get("msg_id"),)
        )
    return wire


def _sent(topic: str, message: Dict[str, Any], wire: bytes, canonical: Optional[bytes]) -> Sent:
    """Return what ACKs must state: by the bytes that leave, unless their *canonical* form is known."""
    if canonical is None:
        try:
            _, message = _acks.decode([topic.encode("utf-8"), wire])
            canonical = _acks.canonical(message)
        except _acks.BadFrame as error:
            raise PayloadError("the message cannot be read back: %s" % error) from error
    return Sent(message["msg_id"], topic, _acks.digest_of(canonical), time.monotonic())
