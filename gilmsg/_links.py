"""To which endpoints the ACK listener is connected, as its socket's monitor tells."""

import struct
from typing import Dict, Set

import zmq

from ._sockets import Target

#: What a monitor tells in its first frame: the event, and a value. ``zmq.utils.monitor`` would read
#: it for us, but brings asyncio along, which is a tenth of all that ``import fedmsg`` takes.
_EVENT = struct.Struct("=Hi")

EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class Links:
    """The connections of one SUB socket, by endpoint as it stands in the configuration.

    The listener's thread writes, any thread may ask: each change is one set operation.

    A link is up once the handshake is over. Our subscription follows on the same connection,
    and may come a moment later than a message that takes another: the consumer waits for it,
    see :mod:`gilmsg._acknowledge`.
    """

    def __init__(self) -> None:
        self._endpoints: Dict[str, Set[str]] = {}
        self._up: Set[str] = set()

    def expect(self, target: Target) -> None:
        """Make known under which addresses the events of *target* come."""
        for alias in (target.where,) + target.resolved:
            self._endpoints.setdefault(alias, set()).add(target.endpoint)

    def take(self, monitor: "zmq.Socket[bytes]") -> None:
        """Take in all events that have come."""
        while monitor.poll(0):
            told, address = monitor.recv_multipart()
            event, _ = _EVENT.unpack(told)
            for endpoint in self._endpoints.get(address.decode("utf-8"), ()):
                if event == zmq.EVENT_DISCONNECTED:
                    self._up.discard(endpoint)
                else:
                    self._up.add(endpoint)

    def up(self, endpoint: str) -> bool:
        """Whether the listener is connected to *endpoint*."""
        return endpoint in self._up
