"""Open files: the limit that zmq contexts need, and the sockets that a forked child inherits."""

from __future__ import annotations

import _socket
import contextlib
import errno
import glob
import os
import resource
import stat
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import zmq

from ..errors import ConfigurationError
from .sockets import Socket

Context = zmq.Context[Socket]

#: Open files that a context and its first sockets take, and each of its I/O threads. With some to spare: other
#: threads take some between the look and the use. And those that a process has besides, sooner or later.
_CONTEXT_FILES, _IO_THREAD_FILES, _OTHER_FILES = 32, 2, 128


def new_context(config: Mapping[str, Any], sockets: int = 1023) -> Context:
    """Return a zmq context for so many *sockets*; ConfigurationError where the open files do not allow it.

    A context takes most of its descriptors with its first socket; where they end in between, libzmq
    aborts the process ("src/epoll.cpp"). So the limit is looked at, and a first socket made and closed.
    """
    io_threads, opened = int(config.get("io_threads") or 1), _opened()
    more = _CONTEXT_FILES + io_threads * _IO_THREAD_FILES
    _raise_limit(opened + more, opened + more, f"{opened} files are open and a new socket needs {more} more")
    context: Context | None = None
    try:
        context = zmq.Context(io_threads)
        context.set(zmq.MAX_SOCKETS, sockets)
        context.socket(zmq.PAIR).close(linger=0)
    except zmq.ZMQError as error:
        if context is not None:
            context.term()
        text = f"no ZeroMQ context can be opened: {error} (too many open files? ulimit -n)"
        raise ConfigurationError(text) from error
    return context


def require_files(endpoints: int, each: int, wished: int | None = None) -> None:
    """See to it that *endpoints* can be connected to, with *each* so many open files, or better *wished*.

    Past the limit of open files everything fails that opens one, in ways that nobody understands. A soft limit is
    raised, but only where it is too low: ``select()`` in the user's code ends at 1,024. A hard one that
    does not allow *each* is a ConfigurationError.
    """
    besides = max(_OTHER_FILES, _opened() + _CONTEXT_FILES + _IO_THREAD_FILES)
    needed = endpoints * each + besides
    what = f"{endpoints} endpoints need about {needed} open files"
    _raise_limit(needed, endpoints * (wished or each) + besides, what)


def _opened() -> int:
    """Return how many descriptors are in use; 0 where the system does not tell."""
    try:
        return len(os.listdir(_folder()))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return 0
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # the listing needs one itself


def _raise_limit(needed: int, wished: int, what: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited, limit = resource.RLIM_INFINITY, wished + _OTHER_FILES
    if soft == unlimited or soft >= wished:
        return
    if hard != unlimited and hard < needed:
        raise ConfigurationError(f"{what}, the limit is {hard}; raise it (ulimit -n {limit})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit if hard == unlimited else min(limit, hard), hard))


# A forked child has the parent's zmq objects and not their threads: it must neither use them nor tear them down. Their
# TCP descriptors it closes at once: a listening one would keep the parent's port taken, a connected one would hide
# the parent's end from its peer. libzmq does not tell its descriptors, so they are known by address: no other
# socket of the process can have these, for libzmq binds without SO_REUSEPORT, and whatever is connected to an
# endpoint of the bus is a zmq socket, ours or fedmsg's.

#: The parent's objects, unused for ever. pyzmq skips them at exit, but warns when they are collected.
_kept: list[Any] = []

#: Owner -> our ports, and (numeric address, port) of peers.
_claims: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()


def claim(owner: Any, place: int | tuple[str, int]) -> None:
    """Note, before it is opened, a socket of *owner* that a forked child is to close: by our port, or its peer's place."""
    _claims.setdefault(owner, set()).add(place)


def forget(owner: Any) -> None:
    """Give up the claims of *owner*."""
    _claims.pop(owner, None)


def close_inherited(engine: Any) -> None:
    """Close, in a forked child, the descriptors that were claimed; keep their owners, and *engine*, for ever."""
    claims = dict(_claims)
    _claims.clear()
    _kept.extend([engine, *claims])
    claimed = set().union(*claims.values())
    for descriptor, ours, peer, _ in _tcp_sockets() if claimed else ():
        if ours in claimed or peer in claimed:
            os.close(descriptor)


def listening_ports() -> set[int]:
    """Return the TCP ports on which this process listens."""
    return {port for _, port, _, listens in _tcp_sockets() if listens}


def listening_process(port: int) -> int | None:
    """Return the id of the process, of any user, that listens on *port*; None where that cannot be read."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table, encoding="ascii") as lines:
            for words in map(str.split, lines):  # of one socket: its address is the second, 0A is LISTEN, an inode
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{words[9]}]")
    for link in glob.iglob("/proc/[0-9]*/fd/*") if sockets else ():
        with contextlib.suppress(OSError):
            if os.readlink(link) in sockets:
                return int(link.split("/")[2])
    return None


def _tcp_sockets() -> Iterator[tuple[int, int, Any, bool]]:
    """Yield (descriptor, our port, peer, whether it listens) of each IPv4 TCP socket; none where nobody tells."""
    try:
        descriptors = [int(name) for name in os.listdir(_folder())]
    except OSError:
        return
    for descriptor in descriptors:
        try:
            found = _described(os.dup(descriptor)) if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else None
        except OSError:  # the descriptor of the listing itself, or one that was closed meanwhile
            continue
        if found is not None:
            yield (descriptor, *found)


def _described(duplicate: int) -> tuple[int, Any, bool] | None:
    """Return what is known of the socket *duplicate*, and close that; None if it is no IPv4 TCP socket.

    Any other way to make a socket object of a descriptor (``socket.socket(fileno=...)``) applies Python's
    default timeout to the open file, which the program shares: its sockets would become non-blocking.
    """
    one = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK, 0, duplicate)
    try:
        name, level = one.getsockname(), _socket.SOL_SOCKET
        is_ipv4 = isinstance(name, tuple) and len(name) == 2 and isinstance(name[0], str)
        if not is_ipv4 or one.getsockopt(level, _socket.SO_TYPE) != _socket.SOCK_STREAM:
            return None
        listens = bool(one.getsockopt(level, _socket.SO_ACCEPTCONN))
        try:
            return name[1], None if listens else tuple(one.getpeername()), listens
        except OSError:  # it is being connected, and does not tell to whom
            return name[1], None, listens
    finally:
        one.close()


def _folder() -> str:
    return "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
