"""How a publisher's XPUB socket learns of subscriptions: those of its peers, and their end."""

import time
from typing import Optional

import zmq

from ._presence import Peers
from ._sockets import readable

#: Taken in at a time: a peer that sends subscriptions without end must not hold up a message.
_AT_ONCE = 1000

#: Milliseconds that libzmq gets to tell of a peer's end.
CATCH_UP = 5

#: Seconds before it gets them again: a thousand messages that time out together wait but once.
_CATCH_UP_EVERY = 0.05


class Subscriptions:
    """Reads one XPUB socket into ``peers``. Its owner holds a lock.

    A bound socket is told when a peer's connection ends. One that *connects* (to a relay) is
    not: libzmq keeps the peer's subscriptions, and what is sent, for when it is back, and then
    gets the subscriptions once more. There the socket's monitor tells; as there is but one
    peer, its end is the end of all. Should it have come and gone between two looks, the
    subscription is taken in after the end, and stands until the next end: a hint is wrong.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", connects: bool) -> None:
        self.peers = Peers()
        self._socket = socket
        self._caught_up = 0.0
        self._monitor: "Optional[zmq.Socket[bytes]]" = None
        if connects:
            self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def take(self) -> None:
        """Take in what has arrived; unread it would pile up."""
        if self._monitor is not None and self._monitor.poll(0):
            while self._monitor.poll(0):
                self._monitor.recv_multipart()
            self.peers.end_all()
        for _ in range(_AT_ONCE):
            if not readable(self._socket):
                return
            self.peers.note(*self._socket.recv_multipart(zmq.NOBLOCK))

    def behind(self) -> Optional[int]:
        """Return the descriptor to wait on between two looks that shall show who has gone.

        libzmq ends a connection in two steps: a look at the socket for each, its I/O thread in
        between. One look would not find a peer that went while nobody looked. There is no
        telling whether a second step is due, so the wait is short, and None while the last
        one was but a moment ago.
        """
        now = time.monotonic()
        if now - self._caught_up < _CATCH_UP_EVERY:
            return None
        self._caught_up = now
        return int(self._socket.getsockopt(zmq.FD))

    def close(self) -> None:
        """Stop to watch, before the socket is closed."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
