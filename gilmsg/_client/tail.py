"""``tail_messages`` and what it returns.

``Messages`` holds the generator of a :class:`receive.Tail`, which does not know it: so that generator ends, and its
sockets are closed, with the last reference to ``Messages``.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal

from . import acknowledge as _acknowledge
from . import context as _context
from . import receive


def tail_messages(
    topic: str = "", passive: bool = False, *, acknowledge: Literal["before", "after"] = "before", **config: Any
) -> Messages:
    """Yield each message on the bus, and acknowledge it if it names us.

    The ACK is sent before the message is yielded. Plain fedmsg messages, ACKs, and messages that name others are
    yielded and not acknowledged. What is not a fedmsg message, or fails validation (``validate_signatures``), is
    logged and dropped, and if it names us its publisher gets a NACK; it does not end the iteration.

    With ``acknowledge="after"`` the ACK of a message is sent when the next one is asked for, whatever happened in
    between. ``reject()`` makes that a NACK, and ``throw()`` is one; ``break``, ``close()`` and garbage collection
    acknowledge nothing. Without an outbox nobody sends a message again.

    All set-up happens at the call: when it returns, the sockets are subscribed and we have announced ourselves.
    Endpoints whose host is a name are connected by the loop as soon as the name resolves; nothing waits for that.

    Args:
        topic (str): a topic prefix; everything by default.
        passive (bool): bind the endpoints instead of connecting to them.
        acknowledge (str): ``"before"`` a message is yielded, or ``"after"`` it was handled.
        **config: fedmsg configuration, used if this thread has no context yet.

    Returns:
        Messages: an iterator, as the generator that ``fedmsg.tail_messages`` returns, over tuples (name, endpoint,
        topic, message). Closing it closes its sockets; so does the end of a ``with`` block.

    Raises:
        ConfigurationError: at the call. ``acknowledge`` is neither of the two, or misspelt. With ``sign_messages``: no
            free endpoint, no usable key or certificate. With ``validate_signatures``: no usable CA or CRL. Too many
            endpoints for this process's limit of open files.
        ValueError: ``zmq_enabled`` is off.
    """
    return Messages(prepared(topic, passive, acknowledge, config))


def prepared(
    topic: str, passive: bool, acknowledge: str, config: Mapping[str, Any], module: str | None = None
) -> receive.Tail:
    """Return a tail by the arguments of :func:`tail_messages`, called from *module*; its sockets are not open yet."""
    after = _acknowledge.is_after(acknowledge, "acknowledge")
    _context.require_keywords(config, ("acknowledge",))
    return receive.Tail(_context.context(config, module), topic, passive, after=after)


class Messages(Generator[receive.Item, None, None], AbstractContextManager["Messages"]):
    """What :func:`tail_messages` returns: a generator of (name, endpoint, topic, message) that can reject its last one."""

    def __init__(self, tail: receive.Tail) -> None:
        self._tail, self._run = tail, tail.run()
        next(self._run)  # from its first yield on, closing it runs its clean-up

    def send(self, value: None) -> receive.Item:
        """Return the next message; *value* must be None, as of a generator that nobody sends to."""
        return self._run.send(value)  # type: ignore[return-value]  # None was the first, and comes no more

    def throw(self, *error: Any) -> receive.Item:
        """Raise *error* where the last message was yielded, and so out of here; with ``acknowledge="after"`` a NACK is sent."""
        try:
            return self._run.throw(*error)  # type: ignore[return-value]
        except GeneratorExit:  # as close()
            raise
        except BaseException as thrown:
            self._tail.reject(repr(thrown))
            raise

    def close(self) -> None:
        """End, and close the sockets; nothing is acknowledged. Idempotent."""
        self._run.close()

    def reject(self, reason: str) -> None:
        """Have a NACK tell the publisher of the last message that its handler failed; the ACK will not be sent.

        Of a message that owes no ACK, and of one that was rejected already, nothing is said.

        Args:
            reason (str): for our own log; the NACK does not tell it.

        Raises:
            ConfigurationError: not with ``acknowledge="before"``, where the ACK has left already; nor in a forked child.
        """
        self._tail.require_after()
        self._tail.reject(reason)

    def __exit__(self, *_: object) -> None:
        self.close()
