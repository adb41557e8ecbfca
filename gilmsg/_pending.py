"""A message on its way: how what the listener hears of it becomes a Receipt or an exception."""

import logging
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Union

from . import _callbacks, _trust
from ._callbacks import CallbackFuture
from ._judge import Expected
from ._ledger import Sent
from ._outcome import Outcome
from ._receipt import Receipt
from ._visibility import Visibility
from .errors import GilmsgError, ListenerError, Timeout

if TYPE_CHECKING:
    from ._chain import TrustStore

log = logging.getLogger(__name__)

Result = Optional[Receipt]
Fields = Mapping[str, Any]

#: Seconds past the deadline after which a waiting caller no longer believes in its listener: many
#: short waits. When the process stood still (SIGSTOP, a debugger, a frozen container), both
#: are late, and the caller may wake first; that uses up one of the waits, not the listener's time.
_GRACE = (0.5,) * 10


class Pending(Expected):
    """Expects the ACKs of one message, and tells *outcome* its end.

    Logging may block, so it is done by the thread that waits or, where none does, on the
    callback thread.
    """

    def __init__(
        self,
        sent: Sent,
        recipients: Sequence[str],
        ack_timeout: float,
        outcome: "Union[Outcome[Receipt], CallbackFuture]",
        visibility: Visibility,
        store: "TrustStore",
    ) -> None:
        super().__init__(sent, recipients, ack_timeout)
        self._outcome = outcome
        self._visibility = visibility
        self._store = store
        self._told = False

    def signer_of(self, message: Mapping[str, Any]) -> str:
        """Return whose valid signature *message* bears; raises Refused."""
        return self._store.signer_of(message)

    def claimed_name(self, message: Mapping[str, Any]) -> Optional[str]:
        """Return the common name in its certificate, proven or not."""
        return _trust.claimed_name(message)

    def ended(self) -> None:
        """Tell the outcome: of an end in time who acknowledged, else why the missing are missing."""
        if self.missing():
            self._time_out()
        else:
            self._succeed()

    def _succeed(self) -> None:
        self._tell(Receipt(self.msg_id, self.topic, dict(self.acks)), None)
        if isinstance(self._outcome, CallbackFuture) and log.isEnabledFor(logging.DEBUG):
            _callbacks.callbacks.run(self._log_success)

    def _time_out(self) -> None:
        timeout = Timeout(
            self.msg_id,
            self.topic,
            self.ack_timeout,
            self.acks,
            self._visibility.missing(self),
            len(self.recipients),
        )
        self._tell(None, timeout)
        if isinstance(self._outcome, CallbackFuture):
            _callbacks.callbacks.run(lambda: _log_timeout(timeout))

    def failed(self, error: GilmsgError) -> None:
        """The listener ended first."""
        if not self._told:
            self._tell(None, error)

    def _tell(self, receipt: Result, error: Optional[GilmsgError]) -> None:
        self._told = True
        self._outcome.settle(receipt, error)

    def wait(self) -> Result:
        """Return or raise what becomes of the message; the caller forgets it if this raises."""
        assert isinstance(self._outcome, Outcome)
        if not any(map(self._outcome.wait, (self.ack_timeout,) + _GRACE)):
            late = "does not keep its deadlines"
            self._visibility.listener.give_up(late)
            raise ListenerError("the ACK listener %s; whether the message was received is unknown" % late)
        try:
            receipt = self._outcome.take()
        except Timeout as timeout:
            _log_timeout(timeout)
            raise
        self._log_success()
        return receipt

    def forget(self) -> None:
        """Stop to expect anything; nothing happens where all is decided already."""
        self._visibility.listener.forget(self)

    def _log_success(self) -> None:
        """Write one DEBUG line for a message that all its recipients acknowledged."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "%s %s acknowledged by %s",
                self.topic,
                self.msg_id,
                ", ".join(sorted(self.acks)),
                extra=_fields(self.topic, self.msg_id, self.acks, {}),
            )


def _log_timeout(timeout: Timeout) -> None:
    """Write one WARNING line for a message that was not proven to arrive."""
    log.warning(
        "%s",
        timeout,
        extra=_fields(timeout.topic, timeout.msg_id, timeout.acks, timeout.missing),
    )


def _fields(topic: str, msg_id: str, acks: Fields, missing: Fields) -> Dict[str, Any]:
    return {"topic": topic, "msg_id": msg_id, "acked": sorted(acks), "missing": sorted(missing)}
