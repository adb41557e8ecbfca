"""The exceptions of gilmsg: what each one carries, and what the caller can do next.

::

    GilmsgError
     +-- ConfigurationError   (also a ValueError)  nothing was sent; mend the value it names
     |    +-- EndpointError   (also an OSError)    nothing was sent; no declared port is free
     |    +-- PayloadError                          nothing was sent; it is this message, not the setting
     +-- ListenerError        the ACKs cannot be heard; its text says whether anything was sent
     +-- Timeout              not proven, and here is why
"""

from typing import Any, Dict, Mapping, Tuple

__all__ = ["GilmsgError", "ConfigurationError", "EndpointError", "ListenerError", "PayloadError", "Timeout"]


class GilmsgError(Exception):
    """The base of every exception that gilmsg raises of its own."""


class ConfigurationError(GilmsgError, ValueError):
    """An argument, a setting or a file is not usable; it is raised before anything is sent.

    The text names the value and what to do about it.
    """


class EndpointError(ConfigurationError, OSError):
    """None of the ports declared for our name can be bound.

    fedmsg raises an IOError here, hence this is an OSError too.
    """


class PayloadError(ConfigurationError):
    """This *msg* cannot carry the names of its recipients; another one may well be sent."""


class ListenerError(GilmsgError):
    """The ACKs of a message cannot be heard: the listener ended, or could not start.

    The text says whether nothing was sent, or the message has left and may have been
    received. The cause is chained (``__cause__``) where there is one; the next publish
    starts a new listener.
    """


class Timeout(GilmsgError):
    """At least one required recipient has not proven in time that it got the message.

    It may have got it all the same: its ACK may be lost, or late. A Timeout never
    claims delivery and never claims loss.

    Attributes:
        msg_id (str): the id of the message.
        topic (str): its full topic.
        ack_timeout (float): how long was waited, in seconds from the moment of sending.
        acks (dict): recipient -> seconds from sending to its ACK, for those that answered.
        missing (dict): recipient (or group, ``"a,b"``) -> one sentence that says what is
            known of it.
    """

    def __init__(
        self,
        msg_id: str,
        topic: str,
        ack_timeout: float,
        acks: Mapping[str, float],
        missing: Mapping[str, str],
        required: int,
    ) -> None:
        self.msg_id = msg_id
        self.topic = topic
        self.ack_timeout = ack_timeout
        self.acks: Dict[str, float] = dict(acks)
        self.missing: Dict[str, str] = dict(missing)
        self._required = required
        super().__init__(self._line())

    def _line(self) -> str:
        """The whole failure as one log line."""
        return "%s %s: %d of %d recipients acknowledged within %g s; missing: %s" % (
            self.topic,
            self.msg_id,
            self._required - len(self.missing),
            self._required,
            self.ack_timeout,
            "; ".join("%s (%s)" % item for item in sorted(self.missing.items())),
        )

    def __reduce__(self) -> Tuple[Any, ...]:
        # BaseException would rebuild it from the one string that __init__ passed on.
        return (
            type(self),
            (self.msg_id, self.topic, self.ack_timeout, self.acks, self.missing, self._required),
        )
