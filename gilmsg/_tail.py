"""ACK, then yield: ``tail_messages``.

One SUB socket per endpoint, because the caller is told the endpoint of each message. The
sockets live in a zmq context of their own, so that closing the generator frees them all,
and so that there may be more than libzmq's 1,023 of them.
"""

import logging
from typing import Any, Callable, Dict, Generator, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import zmq
from fedmsg.replay import check_for_replay  # type: ignore[import-untyped]

from . import _acks, _bus, _contexts, _descriptors, _inherited_sockets, _sockets, _trust
from ._acknowledge import Acknowledger, can_acknowledge
from ._fork import Owner
from ._rate_limit import RateLimitedLog
from .errors import ConfigurationError, GilmsgError

log = logging.getLogger(__name__)

Item = Tuple[str, str, str, Dict[str, Any]]

#: Milliseconds between looks for a signal: a blocking receive can miss one.
_POLL_LIMIT = 1000

#: Per socket: its mailbox, its connection, an attempt to reconnect.
_DESCRIPTORS_EACH = 3


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


class _Received(NamedTuple):
    """A message, the topic that it was sent under, and its canonical form."""

    envelope: str
    message: Dict[str, Any]
    canonical: _acks.Canonical


#: Called with envelope, message, and whether an ACK is due, before that leaves; returns whether it may.
Asked = Callable[[str, Dict[str, Any], bool], bool]


class Tail:
    """The state of one generator; *asked* sees every message before its ACK leaves, and may withhold that."""

    def __init__(self, context: Any, topic: str, passive: bool, asked: Asked = lambda *_: True) -> None:
        self._config: Mapping[str, Any] = context.c
        self._warn = RateLimitedLog(log)
        self._topic = _prefix(topic)
        self._passive = passive
        self._asked = asked
        self._owner = Owner()
        self._subscribers: "List[zmq.Socket[bytes]]" = []
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
        _descriptors.require(len(targets), _DESCRIPTORS_EACH)
        context = _contexts.new(self._config, max(1023, len(targets) + 16))
        try:
            self._claim(context, targets)
            sources = {self._subscribe(context, target): target for target in targets}
            poller = zmq.Poller()
            for subscriber in sources:
                poller.register(subscriber, zmq.POLLIN)
            yield None
            while True:
                self._refuse_in_a_child()
                for subscriber, _ in poller.poll(_POLL_LIMIT):
                    target = sources[subscriber]
                    yield from self._receive(subscriber, context, target.name, target.endpoint)
        finally:
            if self._owner.is_here:
                # The context knows them by weak references, which a garbage collection that
                # ends this generator has cleared: it would wait for them for ever.
                for subscriber in self._subscribers:
                    subscriber.close(linger=0)
                _contexts.terminate(context)

    def _refuse_in_a_child(self) -> None:
        """In a forked child the sockets are the parent's: to read them would steal its wake-ups."""
        if not self._owner.is_here:
            raise ConfigurationError(
                "this tail_messages() belongs to process %d, which forked this one; call "
                "tail_messages() again" % self._owner.pid
            )

    def _claim(self, context: Any, targets: Sequence[_sockets.Target]) -> None:
        if self._passive:
            ports = [_sockets.port(target.endpoint) for target in targets]
            _inherited_sockets.claim(context, bound=ports)
        else:
            peers = [address for target in targets for address in target.resolved]
            _inherited_sockets.claim(context, connected_to=peers)

    def _subscribe(
        self, context: "zmq.Context[zmq.Socket[bytes]]", target: _sockets.Target
    ) -> "zmq.Socket[bytes]":
        try:
            subscriber = context.socket(zmq.SUB)
            self._subscribers.append(subscriber)
            _sockets.tune(subscriber, self._config)
            _sockets.watch_limited(subscriber)
            subscriber.setsockopt(zmq.SUBSCRIBE, self._topic.encode("utf-8"))
            if self._acknowledger is not None:
                subscriber.setsockopt(zmq.SUBSCRIBE, self._acknowledger.announcement(self._topic))
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
            item = self._checked(*_acks.decode(parts))
        except _acks.BadFrame as error:
            self._warn.warning("dropped a message from %s: %s", endpoint, error)
            return
        for one in self._with_missed(name, item, context) if name in self._sequence else [item]:
            self._acknowledge(one)
            yield name, endpoint, one.envelope, one.message
            self._refuse_in_a_child()  # it may have forked in there

    def _checked(self, envelope: str, message: Dict[str, Any]) -> _Received:
        """Return what may be handed over; raise BadFrame if signatures are validated and it must not."""
        received = _Received(envelope, message, _acks.Canonical(message))
        if self._validates:
            if message.get("topic") != envelope:
                raise _acks.BadFrame("its signed topic differs from the topic it was sent under")
            refusal = _trust.validate(message, self._config, received.canonical)
            if refusal is not None:
                raise _acks.BadFrame(refusal)
        return received

    def _with_missed(self, name: str, item: _Received, context: Any) -> Iterator[_Received]:
        """Yield *item*, unless a replay brought it before, after what the replay says was missed.

        What is no good of that is dropped, alone.
        """
        number = item.message.get("seq_id")
        try:
            found = check_for_replay(name, self._sequence, item.message, self._config, context)
        except Exception as error:  # fedmsg's code, on data from the bus: anything may come out
            log.error("replay_endpoints[%r]: the replay failed: %r", name, error)
            found = [item.message]
        for one in found:
            try:
                topic, message = _acks.opened(one)
                yield item if message.get("seq_id") == number else self._checked(topic, message)
            except _acks.BadFrame as error:
                self._warn.warning("dropped a message replayed for %r: %s", name, error)

    def _acknowledge(self, received: _Received) -> None:
        envelope, message, canonical = received
        acknowledger, body = self._acknowledger, None
        try:
            if acknowledger is not None and message.get("topic") == envelope:
                body = acknowledger.due(message, self._validates, canonical)
            if self._asked(envelope, message, body is not None) and acknowledger is not None and body is not None:
                acknowledger.send(body)
        except (_acks.BadFrame, GilmsgError) as error:
            log.error("no ACK for %s: %s", message.get("msg_id"), error)


def _prefix(topic: Any) -> str:
    """Return *topic*, which can be subscribed to."""
    try:
        topic.encode("utf-8")
    except (AttributeError, UnicodeEncodeError):
        raise ConfigurationError("topic must be text that begins topics; it is %r" % (topic,)) from None
    return str(topic)
