"""Whether this process may open as many files as its sockets need."""

import errno
import os
import resource
import threading
from typing import Optional

from ._own_sockets import folder
from ._uninterrupted import uninterrupted
from .errors import ConfigurationError

#: What a process opens besides, sooner or later.
_ELSE = 128
#: What one socket takes, bound and watched, with its context: 7 and some to spare; and 2 per I/O thread.
_CONTEXT = 16
_IO_THREAD = 2


def require(endpoints: int, each: int, wished: Optional[int] = None) -> None:
    """See to it that *endpoints* can be connected to, with *each* so many descriptors, or better *wished*.

    Past the limit of open files everything fails that opens one, in ways that nobody understands. A
    soft limit is raised, but only where it is too low: ``select()`` in the user's code ends at 1,024.

    Raises:
        ConfigurationError: the hard limit does not allow *each*.
    """
    besides = max(_ELSE, _opened() + _CONTEXT + _IO_THREAD)
    needed = endpoints * each + besides
    what = "%d endpoints need about %d open files" % (endpoints, needed)
    _allow(needed, endpoints * (wished or each) + besides, what)


def require_context(io_threads: int) -> None:
    """See to it that a context can be made, and its first socket.

    Raises:
        ConfigurationError: the hard limit does not allow it.
    """
    opened = _opened()
    more = _CONTEXT + io_threads * _IO_THREAD
    _allow(opened + more, opened + more, "%d files are open and a new socket needs %d more" % (opened, more))


def _opened() -> int:
    """Return how many descriptors are in use; 0 where the system does not tell."""
    try:
        return len(os.listdir(folder()))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return 0
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # the listing needs one itself


def _allow(needed: int, wished: int, what: str) -> None:
    """If it is below *wished*, raise the soft limit past it, or as far as the hard one allows, *needed* at least."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wished:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError("%s, the limit is %d; raise it (ulimit -n %d)" % (what, hard, wished + _ELSE))
    uninterrupted(lambda: _raise_to(wished + _ELSE))


def _raise_to(limit: int) -> None:
    """Raise the soft limit, which another thread may have raised further meanwhile, or the user lowered."""
    with _raising:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        if soft != resource.RLIM_INFINITY and soft < limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def _begin_anew() -> None:
    global _raising
    _raising = threading.Lock()  # another thread may have held it at the fork


#: Held on threads that run no signal handler, see `uninterrupted`: a handler that raises the limit, too, cannot
#: have interrupted one.
_raising = threading.Lock()
os.register_at_fork(after_in_child=_begin_anew)
