"""A message on its way: how what the listener hears of it becomes a Receipt or an exception."""

import concurrent.futures
import logging
from concurrent.futures import Future
from typing import Any, Callable, Dict, Optional

from . import _callbacks
from ._ledger import Entry
from ._listener import Listener, Waiter
from ._receipt import Receipt
from ._sight import Sight
from .errors import GilmsgError, ListenerError, Timeout

log = logging.getLogger(__name__)

Result = Optional[Receipt]

#: Seconds past the deadline after which a waiting caller no longer believes in its listener.
_GRACE = 5.0


class Pending:
    """Settles a future. ``settled``, ``timed_out`` and ``failed`` run on the listener's thread.

    Logging may block, so it is done by the thread that waits or, where none does, on the
    callback thread.
    """

    def __init__(self, future: "Future[Result]", listener: Listener, sight: Sight) -> None:
        self._future = future
        self._listener = listener
        self._sight = sight
        self._awaited = not isinstance(future, _callbacks.CallbackFuture)
        self.entry: "Optional[Entry[Waiter]]" = None

    def settled(self, entry: "Entry[Waiter]") -> None:
        """All have acknowledged."""
        self._future.set_result(Receipt(entry.msg_id, entry.topic, dict(entry.acks)))
        if log.isEnabledFor(logging.DEBUG):
            self._report(lambda: log_success(entry))

    def timed_out(self, entry: "Entry[Waiter]") -> None:
        """The deadline has passed."""
        missing = self._sight.missing(entry)
        timeout = Timeout(
            entry.msg_id, entry.topic, entry.ack_timeout, entry.acks, missing, len(entry.recipients)
        )
        self._future.set_exception(timeout)
        self._report(lambda: log_timeout(timeout))

    def failed(self, error: GilmsgError) -> None:
        """The listener has ended."""
        self._future.set_exception(error)

    def wait(self) -> Result:
        """Return or raise what becomes of the message; interrupted, leave nothing registered."""
        assert self.entry is not None
        try:
            receipt = self._future.result(self.entry.ack_timeout + _GRACE)
        except Timeout as timeout:
            log_timeout(timeout)
            raise
        except concurrent.futures.TimeoutError:
            self._listener.forget(self.entry)
            raise ListenerError("the ACK listener does not keep its deadlines") from None
        except BaseException:
            self._listener.forget(self.entry)
            raise
        log_success(self.entry)
        return receipt

    def _report(self, line: Callable[[], None]) -> None:
        if not self._awaited:
            _callbacks.run(line)


def log_success(entry: "Entry[Waiter]") -> None:
    """One DEBUG line for a message that all its recipients acknowledged."""
    if log.isEnabledFor(logging.DEBUG):
        log.debug(
            "%s %s acknowledged by %s",
            entry.topic,
            entry.msg_id,
            ", ".join(sorted(entry.acks)),
            extra=_fields(entry.topic, entry.msg_id, entry.acks, {}),
        )


def log_timeout(timeout: Timeout) -> None:
    """One WARNING line for a message that was not proven to arrive."""
    log.warning(
        "%s",
        timeout,
        extra=_fields(timeout.topic, timeout.msg_id, timeout.acks, timeout.missing),
    )


def _fields(topic: str, msg_id: str, acks: Dict[str, Any], missing: Dict[str, Any]) -> Dict[str, Any]:
    return {"topic": topic, "msg_id": msg_id, "acked": sorted(acks), "missing": sorted(missing)}
