"""The socket by which ACKs come in: subscribed, connected to whoever may send one, bounded."""

import logging
import time
from typing import Any, Iterator, List, Mapping

import zmq

from . import _acks, _callbacks, _inherited_sockets, _sockets
from ._directory import Bus
from ._links import EVENTS, Links
from ._presence import announcement

log = logging.getLogger(__name__)

#: Frames, and seconds, before deadlines are looked at again: a flood must not delay a Timeout.
_BATCH = 64
_BATCH_TIME = 0.005

#: Frames that libzmq keeps for us per connection, whatever ``high_water_mark`` says. What is more
#: stays with its sender: nothing is lost, and a flood fills the attacker's memory, not ours.
#: libzmq takes one frame of each connection in turn, so a flood does not delay the ACKs of others.
_QUEUE = 1000

#: Bytes. A larger frame ends the connection that it comes by, before it is in our memory; what is
#: between this and ``LARGEST_ACK`` is only dropped, because behind a relay others share the connection.
_LARGEST_FRAME = 4 * _acks.LARGEST_ACK


class AckSocket:
    """The SUB socket of one listener, and its monitor, which feeds *links*; for one thread.

    Args:
        bus: the topic of ACKs, and where they may come from.
        origin: by which consumers know that this very listener hears them.
    """

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        bus: Bus,
        origin: str,
        config: Mapping[str, Any],
        links: Links,
    ) -> None:
        targets = list(_sockets.connectable(bus.endpoints, _callbacks.callbacks.run))
        _inherited_sockets.claim(self, connected_to=[one for target in targets for one in target.resolved])
        self.socket = context.socket(zmq.SUB)
        _sockets.tune(self.socket, config)
        _sockets.bound(self.socket, _QUEUE, _LARGEST_FRAME)
        _sockets.watch_by_keepalive(self.socket)
        self.monitor = self.socket.get_monitor_socket(EVENTS)
        self.socket.setsockopt(zmq.SUBSCRIBE, bus.ack_topic.encode("utf-8"))
        self.socket.setsockopt(zmq.SUBSCRIBE, announcement(bus.ack_topic, origin))
        for target in targets:
            links.expect(target)
            try:
                self.socket.connect(target.where)
            except zmq.ZMQError as error:
                _warn_of(target.endpoint, error)

    def frames(self) -> Iterator[List[bytes]]:
        """Yield what has come, one batch."""
        until = time.monotonic() + _BATCH_TIME
        for _ in range(_BATCH):
            if not _sockets.readable(self.socket) or time.monotonic() > until:
                return
            yield self.socket.recv_multipart(zmq.NOBLOCK)

    def close(self) -> None:
        """Close both, here and not by the garbage collector, which warns of it."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)


def _warn_of(endpoint: str, error: zmq.ZMQError) -> None:
    # Not here: logging may block, see :mod:`gilmsg._listener`.
    line = "endpoints: cannot connect to %r: %s"
    _callbacks.callbacks.run(lambda: log.warning(line, endpoint, error))
