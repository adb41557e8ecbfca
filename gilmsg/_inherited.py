"""What a forked child does about the sockets that it inherited."""

import os
import socket
import stat
from typing import Any, Iterable, Iterator, List

#: Objects of the parent that the child must neither use nor tear down: their zmq
#: contexts have no threads here. pyzmq skips them at exit, but warns when they are collected.
_kept: List[Any] = []


def abandon(objects: Iterable[Any], ports: Iterable[int] = ()) -> None:
    """Keep *objects* unused for ever, and close inherited descriptors that listen on *ports*.

    A listening descriptor that lives on in a child keeps the parent's port taken after
    the parent has closed it.
    """
    _kept.extend(objects)
    wanted = set(ports)
    if wanted:
        for descriptor in _open_sockets():
            if _listening_port(descriptor) in wanted:
                os.close(descriptor)


def _open_sockets() -> Iterator[int]:
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    for entry in os.listdir(folder):
        try:
            if stat.S_ISSOCK(os.fstat(int(entry)).st_mode):
                yield int(entry)
        except OSError:
            continue  # the descriptor of the listing itself


def _listening_port(descriptor: int) -> int:
    """Return the TCP port on which *descriptor* listens, or -1."""
    try:
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return -1
    with duplicate:
        try:
            if duplicate.family not in (socket.AF_INET, socket.AF_INET6):
                return -1
            if not duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return -1
            return int(duplicate.getsockname()[1])
        except OSError:
            return -1
