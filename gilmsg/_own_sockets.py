"""The sockets that this process has open, found by their descriptors."""

import os
import socket
import stat
from typing import Iterator, Set, Tuple

_INET = (socket.AF_INET, socket.AF_INET6)


def folder() -> str:
    """Return the folder that lists this process's descriptors."""
    return "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"


def each() -> Iterator[Tuple[int, socket.socket]]:
    """Yield every TCP socket: its descriptor, and a duplicate that is closed after the step."""
    for descriptor in map(int, os.listdir(folder())):
        try:
            # Asked first: a duplicate that proves to be no socket would stay open.
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            duplicate = socket.socket(fileno=os.dup(descriptor))
        except OSError:  # the descriptor of the listing itself, or one that was closed meanwhile
            continue
        with duplicate:
            if duplicate.type == socket.SOCK_STREAM and duplicate.family in _INET:
                yield descriptor, duplicate


def listening_ports() -> Set[int]:
    """Return the TCP ports on which this process listens."""
    return {
        int(one.getsockname()[1]) for _, one in each() if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    }
