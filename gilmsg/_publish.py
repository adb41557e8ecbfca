"""The recipe of ``publish``, from top to bottom."""

import logging
import time
from concurrent.futures import Future
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Set, Union

import zmq

from . import _acks, _bus, _listener, _message, _settings, _trust
from ._callbacks import CallbackFuture
from ._caller import calling_module
from ._ledger import Entry
from ._listener import Waiter
from ._outlet import wait_for_age
from ._pending import Pending, Result
from ._sight import Sight
from .errors import ConfigurationError, ListenerError

log = logging.getLogger(__name__)

Recipients = Union[None, str, Iterable[str]]
Hook = Optional[Callable[[Dict[str, Any]], Any]]

#: Topics for which the lack of recipients has been logged.
_warned: Set[str] = set()


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
        ListenerError: the listener ended while we waited; delivery is unknown.
    """
    sending = _Sending(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
    if not sending.recipients:
        sending.send_plain()
        return None
    return sending.send(Future()).wait()


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
    sending = _Sending(topic, msg, modname, recipients, ack_timeout, pre_fire_hook, config)
    future: "Future[Result]" = CallbackFuture()
    future.set_running_or_notify_cancel()
    if sending.recipients:
        sending.send(future)
    else:
        sending.send_plain()
        future.set_result(None)
    return future


class _Sending:
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
        own = {key: config[key] for key in _settings.KEYS if key in config}
        self._settings = _settings.settings({**self._config, **own}, ack_timeout)
        self._suffix, self._msg, self._hook = topic, msg, pre_fire_hook
        self._modname = modname or calling_module()
        self._topic = _message.full_topic(topic, self._modname, self._config)
        self.recipients = self._settings.recipients_for(self._topic) if named is None else named

    def send_plain(self) -> None:
        """Publish as fedmsg does, by fedmsg's own code."""
        if self._topic not in _warned:
            _warned.add(self._topic)
            log.warning(
                "%s is published without recipients: nobody confirms it, as with fedmsg", self._topic
            )
        if self._config.get("zmq_enabled", True):
            wait_for_age(_bus.publisher(self._context).outlet(), self._config)
        self._context.publish(
            self._suffix, self._msg, modname=self._modname, pre_fire_hook=self._hook
        )

    def send(self, future: "Future[Result]") -> Pending:
        """Sign, wait for the recipients, expect their ACKs, hand the message to the socket."""
        outlet = _bus.publisher(self._context).outlet()
        _trust.require_x509(self._config)
        store = _trust.trust_store(self._config)
        message = self._signed()
        listener = _listener.listener_for(self._config)
        sight = Sight(self._topic, outlet, listener, self._config)
        sight.wait_for(self.recipients, self._settings.head_start)
        if self._hook is not None:
            self._hook(message)
        wire = _encoded(message)
        pending = Pending(future, listener, sight)
        waiter = Waiter(
            store.signer_of, _trust.claimed_name, pending.settled, pending.timed_out, pending.failed
        )
        entry = pending.entry = self._entry(wire, waiter)
        listener.expect(entry)
        try:
            outlet.send([self._topic.encode("utf-8"), wire])
        except BaseException as error:
            listener.forget(entry)
            if isinstance(error, zmq.ZMQError):
                raise ListenerError("the publisher was closed by destroy()") from error
            raise
        return pending

    def _signed(self) -> Dict[str, Any]:
        """Return the finished message, its recipients marked in it before it is signed."""
        body = _acks.marked({} if self._msg is None else self._msg, self.recipients)
        self._context._i += 1
        message = _message.compose(self._topic, body, self._context._i)
        if self._config.get("sign_messages", False):
            pair = _trust.signing_key(self._config, _bus.certname(self._config))
            message = pair.sign(message)
        store = self._config.get("persistent_store")
        return store.add(message) if store else message

    def _entry(self, wire: bytes, waiter: Waiter) -> "Entry[Waiter]":
        """Return what to expect, by the bytes that leave: the hook may have changed the message."""
        _, sent = _acks.decode([self._topic.encode("utf-8"), wire])
        return Entry(
            sent["msg_id"],
            self._topic,
            _acks.digest(sent),
            self.recipients,
            time.monotonic(),
            self._settings.ack_timeout,
            waiter,
        )


def _encoded(message: Any) -> bytes:
    """Return the bytes of a message that the hook has seen."""
    try:
        wire = _message.encode(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            "pre_fire_hook left a message that cannot be encoded: %s" % error
        ) from error
    if not isinstance(message.get("msg_id"), str):
        raise ConfigurationError(
            "pre_fire_hook left a message whose msg_id is %r" % (message.get("msg_id"),)
        )
    return wire
