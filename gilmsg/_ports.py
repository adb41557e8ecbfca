"""Free TCP ports on loopback that stay ours."""

import random
import socket
import sys
from typing import List

#: Below the range from which Linux takes the source ports of outgoing connections (32768 on).
#: Above it, a client that tries again and again to reach a dead port would in the end connect
#: to itself, and hold the port.
_LOWEST, _HIGHEST = 10000, 32000


class Ports:
    """Hands out ports; none of them is handed out again, by any process, until ``close``."""

    def __init__(self) -> None:
        self._claims: List[socket.socket] = []

    def take(self) -> int:
        """Return a port that nobody has bound and nobody else was given."""
        while True:
            port = random.SystemRandom().randint(_LOWEST, _HIGHEST)
            # Claimed first: a port that another process was given is not even tried. For as long
            # as we try it, a bind without SO_REUSEADDR would be refused to its owner.
            if self._claim(port) and not refusal(port):
                return port

    def endpoint(self) -> str:
        """Return a loopback endpoint with a port of its own."""
        return "tcp://127.0.0.1:%d" % self.take()

    def close(self) -> None:
        """Give all ports back."""
        while self._claims:
            self._claims.pop().close()

    def _claim(self, port: int) -> bool:
        """Claim *port* among processes by a name that the kernel forgets when we end.

        Only Linux has such names (abstract sockets); elsewhere nothing is claimed.
        """
        if not sys.platform.startswith("linux"):
            return True
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind("\0gilmsg-port-%d" % port)
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True


def refusal(port: int) -> int:
    """Return the errno with which *port* cannot be bound on every interface; 0 if it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As libzmq does; without it, a port with a connection in TIME_WAIT looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            return error.errno or -1
        return 0
