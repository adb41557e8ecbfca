"""The exceptions of gilmsg: what each one carries, and what the caller can do next.

::

    GilmsgError
     +-- ConfigurationError   (also a ValueError)    nothing was sent; mend the value it names
     |    +-- EndpointError   (also an OSError)      nothing was sent; no declared port is free
     |    +-- PayloadError                           nothing was sent; it is this message, not the setting
     +-- ListenerError        the ACKs cannot be heard; its text says whether anything was sent
     +-- Timeout              (also a TimeoutError)  not proven, and here is why
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ConfigurationError", "EndpointError", "GilmsgError", "ListenerError", "PayloadError", "Reason", "Timeout"]


class GilmsgError(Exception):
    """The base of every exception that gilmsg raises of its own."""


class ConfigurationError(GilmsgError, ValueError):
    """An argument, a setting or a file is not usable; nothing was sent. The text names the value and what to do."""


class EndpointError(ConfigurationError, OSError):
    """None of the ports declared for our name can be bound. (fedmsg raises an IOError here.)"""


class PayloadError(ConfigurationError):
    """This *msg* cannot carry the names of its recipients; another one may well be sent."""


class ListenerError(GilmsgError):
    """The ACKs of a message cannot be heard: the listener ended, or could not start.

    The text says whether nothing was sent, or the message has left and may have been received. The cause is chained
    (``__cause__``) where there is one; the next publish starts a new listener.
    """


class Reason(str):
    """One sentence that says what is known of a recipient that has not acknowledged.

    Attributes:
        code (str): the same as a stable word, ``"silent"`` for example.
        may_have_arrived (bool): False only if nobody at all was subscribed to the topic at our socket
            from the sending to the end of the wait. A hint: nothing is decided by it.
        members (dict): of a group, common name -> Reason; empty for a single recipient.
    """

    code: str
    may_have_arrived: bool
    members: dict[str, Reason]

    def __new__(  # noqa: PYI034  typing has Self from Python 3.11 on
        cls, text: str, code: str, may_have_arrived: bool = True, members: Mapping[str, Reason] | None = None
    ) -> Reason:
        reason = super().__new__(cls, text)
        reason.code, reason.may_have_arrived, reason.members = code, may_have_arrived, dict(members or {})
        return reason

    def _and(self, more: str) -> Reason:
        return Reason(f"{self}; {more}", self.code, self.may_have_arrived, self.members)

    def as_dict(self) -> dict[str, Any]:
        """Return ``code``, ``may_have_arrived`` and ``text`` as plain data, for a log or JSON."""
        return {"code": self.code, "may_have_arrived": self.may_have_arrived, "text": str(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.code, self.may_have_arrived, self.members)


class Timeout(GilmsgError, TimeoutError):
    """At least one required recipient has not proven in time that it got the message.

    It may have got it all the same: its ACK may be lost, or late. A Timeout claims neither delivery nor loss. It is a
    TimeoutError, as asyncio's own, and hence an OSError: an ``except`` of it stands before one of those.

    Attributes:
        msg_id (str): the id of the message.
        topic (str): its full topic.
        ack_timeout (float): how long was waited, in seconds from the moment of sending; less than what was
            asked for where ``fail_fast`` ended it.
        acks (dict): recipient -> seconds from sending to its ACK, for those that answered.
        missing (dict): recipient (or group, ``"a,b"``) -> a :class:`Reason`, what is known of it. (Plain text, as in a
            Timeout that a test makes, becomes one with the code ``"silent"``.)
    """

    def __init__(
        self, msg_id: str, topic: str, ack_timeout: float, acks: Mapping[str, float], missing: Mapping[str, str],
        required: int,
    ) -> None:
        self.msg_id, self.topic, self.ack_timeout, self._required = msg_id, topic, ack_timeout, required
        self.acks: dict[str, float] = dict(acks)
        self.missing: dict[str, Reason] = {
            name: reason if isinstance(reason, Reason) else Reason(reason, "silent") for name, reason in missing.items()
        }
        super().__init__(self._text())

    def _text(self) -> str:
        told = "; ".join(f"{name} ({reason})" for name, reason in sorted(self.missing.items()))
        return (
            f"{self.topic} {self.msg_id}: {self._required - len(self.missing)} of {self._required} recipients "
            f"acknowledged within {self.ack_timeout:g} s; missing: {told}"
        )

    def _add(self, recipient: str, name: str, more: str) -> None:
        """Add *more* to what is known of *recipient*, if it is a group of its member *name*; for gilmsg itself."""
        known = self.missing[recipient]
        members = {one: reason._and(more) if one == name else reason for one, reason in known.members.items()}
        self.missing[recipient] = Reason(known._and(more), known.code, known.may_have_arrived, members)
        self.args = (self._text(),)

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would rebuild it from the one string that __init__ passed on.
        return type(self), (self.msg_id, self.topic, self.ack_timeout, self.acks, self.missing, self._required)


class BadFrame(ValueError):
    """Bytes from the bus that are no fedmsg message; the text says why, *code* in a word. Never reaches a caller."""

    def __init__(self, text: str, code: str = "malformed") -> None:
        super().__init__(text)
        self.code = code


class Refused(Exception):
    """A message that proves nothing. Never reaches a caller.

    ``reason`` says why, as the end of a sentence about an ACK; ``claimed`` is the common name on the certificate that
    came along, without proof. ``code`` is what a NACK says of it; where that is empty, there must be none.
    """

    def __init__(self, reason: str, claimed: str | None = None, code: str = "signature") -> None:
        super().__init__(reason)
        self.reason, self.claimed, self.code = reason, claimed, code
