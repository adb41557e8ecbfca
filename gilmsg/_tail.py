"""ACK, then yield: ``tail_messages``.

One SUB socket per endpoint, because the caller is told the endpoint of each message. The
sockets live in a zmq context of their own, so that closing the generator frees them all,
and so that there may be more than libzmq's 1,023 of them.
"""

import logging
import resource
from typing import Any, Dict, Generator, Iterator, Mapping, Optional, Tuple

import zmq
from fedmsg.replay import check_for_replay  # type: ignore[import-untyped]

from . import _acks, _bus, _sockets, _trust
from ._acknowledge import Acknowledger, can_acknowledge
from .errors import ConfigurationError

log = logging.getLogger(__name__)

Item = Tuple[str, str, str, Dict[str, Any]]

#: Milliseconds between looks for a signal: a blocking receive can miss one.
_POLL_LIMIT = 1000

#: Descriptors per socket (its mailbox, its connection, an attempt to reconnect), and the rest.
_DESCRIPTORS_EACH = 3
_DESCRIPTORS_ELSE = 128


def tail_messages(
    topic: str = "", passive: bool = False, **config: Any
) -> Generator[Item, None, None]:
    """Yield each message on the bus, having acknowledged it if it names us.

    The ACK is sent before the message is yielded. Plain fedmsg messages, ACKs, and messages
    that name others are yielded and not acknowledged. What is not a fedmsg message, or
    fails validation (``validate_signatures``), is logged and dropped; it does not end the
    generator. Closing the generator closes its sockets.

    All set-up happens at the call: when it returns, the sockets are subscribed and we have
    announced ourselves.

    Args:
        topic (str): a topic prefix; everything by default.
        passive (bool): bind the endpoints instead of connecting to them.
        **config: fedmsg configuration, used if this thread has no context yet.

    Yields:
        tuple: (name, endpoint, topic, message), as ``fedmsg.tail_messages`` does.

    Raises:
        ConfigurationError: at the call. With ``sign_messages``: no free endpoint, no usable key
            or certificate. With ``validate_signatures``: no usable CA or CRL. Too many
            endpoints for this process's limit of open files.
        ValueError: ``zmq_enabled`` is off.
    """
    context = _bus.context(config)
    tail = Tail(context, topic, passive)
    # Run to the first yield: from there on, closing the generator runs its clean-up.
    generator = tail.run()
    next(generator)
    return generator  # type: ignore[return-value]


class Tail:
    """The state of one generator."""

    def __init__(self, context: Any, topic: str, passive: bool) -> None:
        self._config: Mapping[str, Any] = context.c
        self._topic = topic
        self._passive = passive
        if not self._config.get("zmq_enabled", True):
            raise ConfigurationError("zmq_enabled is False; tail_messages() needs ZeroMQ")
        self._validates = bool(self._config.get("validate_signatures", False))
        if self._validates and "x509" in _trust.validating_backends(self._config):
            _trust.trust_store(self._config)
        self._acknowledger: Optional[Acknowledger] = None
        if can_acknowledge(self._config, "tail_messages()"):
            self._acknowledger = Acknowledger(self._config, _bus.publisher(context))
        replayed = self._config.get("replay_endpoints") or {}
        self._sequence: Dict[str, int] = {name: -1 for name in replayed}

    def run(self) -> Generator[Optional[Item], None, None]:
        """Set up, yield None once, then the messages."""
        targets = list(_sockets.connectable(_sockets.publishing_endpoints(self._config)))
        _require_descriptors(len(targets))
        context: "zmq.Context[zmq.Socket[bytes]]" = zmq.Context(int(self._config.get("io_threads") or 1))
        context.set(zmq.MAX_SOCKETS, max(1023, len(targets) + 16))
        try:
            sources = {self._subscribe(context, target): target for target in targets}
            poller = zmq.Poller()
            for subscriber in sources:
                poller.register(subscriber, zmq.POLLIN)
            yield None
            while True:
                for subscriber, _ in poller.poll(_POLL_LIMIT):
                    target = sources[subscriber]
                    yield from self._receive(subscriber, context, target.name, target.endpoint)
        finally:
            context.destroy(linger=0)

    def _subscribe(
        self, context: "zmq.Context[zmq.Socket[bytes]]", target: _sockets.Target
    ) -> "zmq.Socket[bytes]":
        subscriber = context.socket(zmq.SUB)
        _sockets.tune(subscriber, self._config)
        subscriber.setsockopt(zmq.SUBSCRIBE, self._topic.encode("utf-8"))
        if self._acknowledger is not None:
            subscriber.setsockopt(zmq.SUBSCRIBE, self._acknowledger.announcement(self._topic))
        try:
            if self._passive:
                subscriber.bind(target.endpoint)
            else:
                subscriber.connect(target.where)
        except zmq.ZMQError as error:
            raise ConfigurationError(
                "endpoints[%r]: %r cannot be used: %s" % (target.name, target.endpoint, error)
            ) from error
        return subscriber

    def _receive(
        self, subscriber: "zmq.Socket[bytes]", context: Any, name: str, endpoint: str
    ) -> Iterator[Item]:
        """Yield what one received frame holds: a message, none, or a replay of several."""
        parts = subscriber.recv_multipart()
        try:
            envelope, message = _acks.decode(parts)
            self._check(envelope, message)
            items = [(envelope, message)] if name not in self._sequence else list(
                self._with_missed(name, envelope, message, context)
            )
        except _acks.BadFrame as error:
            log.warning("dropped a message from %s: %s", endpoint, error)
            return
        for topic, one in items:
            self._acknowledge(topic, one)
            yield name, endpoint, topic, one

    def _check(self, envelope: str, message: Dict[str, Any]) -> None:
        """Raise BadFrame if signatures are validated and this one must not be handed over."""
        if not self._validates:
            return
        if message.get("topic") != envelope:
            raise _acks.BadFrame("its signed topic differs from the topic it was sent under")
        refusal = _trust.validate(message, self._config)
        if refusal is not None:
            raise _acks.BadFrame(refusal)

    def _with_missed(
        self, name: str, envelope: str, message: Dict[str, Any], context: Any
    ) -> Iterator[Tuple[str, Dict[str, Any]]]:
        """Yield *message*, after those that fedmsg's replay says were missed before it."""
        try:
            found = check_for_replay(name, self._sequence, message, self._config, context)
        except Exception as error:  # fedmsg's code, on data from the bus: anything may come out
            log.error("replay_endpoints[%r]: the replay failed: %r", name, error)
            found = [message]
        for one in found:
            topic = envelope if one is message else str(one.get("topic", ""))
            if one is not message:
                self._check(topic, one)
            yield topic, one

    def _acknowledge(self, envelope: str, message: Dict[str, Any]) -> None:
        if self._acknowledger is None or message.get("topic") != envelope:
            return
        try:
            body = self._acknowledger.due(message, self._validates)
            if body is not None:
                self._acknowledger.send(body)
        except (_acks.BadFrame, ConfigurationError, zmq.ZMQError) as error:
            log.error("no ACK for %s: %s", message.get("msg_id"), error)


def _require_descriptors(sockets: int) -> None:
    """Raise ConfigurationError if *sockets* cannot be opened; raise the soft limit if that helps."""
    needed = sockets * _DESCRIPTORS_EACH + _DESCRIPTORS_ELSE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError(
            "%d endpoints need about %d open files, the limit is %d; raise it (ulimit -n %d)"
            % (sockets, needed, hard, needed)
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
