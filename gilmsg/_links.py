"""To which endpoints the ACK listener is connected, as its socket's monitor tells."""

import time
from typing import Dict, Set

import zmq
from zmq.utils.monitor import recv_monitor_message

from ._sockets import Target

EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

#: Seconds after the handshake before a link counts. Our subscription follows the handshake
#: on the same connection, so it is there a moment later than the event says.
SETTLE = 0.01


class Links:
    """The connections of one SUB socket, by endpoint as it stands in the configuration.

    The listener's thread writes, any thread may ask: each change is one dict operation.
    """

    def __init__(self) -> None:
        self._endpoints: Dict[str, Set[str]] = {}
        self._since: Dict[str, float] = {}

    def expect(self, target: Target) -> None:
        """Make known under which addresses the events of *target* come."""
        for alias in (target.where,) + target.resolved:
            self._endpoints.setdefault(alias, set()).add(target.endpoint)

    def take(self, monitor: "zmq.Socket[bytes]") -> None:
        """Take in all events that have come."""
        while monitor.poll(0):
            event = recv_monitor_message(monitor)
            for endpoint in self._endpoints.get(event["endpoint"].decode("utf-8"), ()):
                if event["event"] == zmq.EVENT_DISCONNECTED:
                    self._since.pop(endpoint, None)
                else:
                    self._since[endpoint] = time.monotonic()

    def up(self, endpoint: str) -> bool:
        """Whether the listener is connected to *endpoint*, its subscription included."""
        since = self._since.get(endpoint)
        return since is not None and time.monotonic() - since >= SETTLE
