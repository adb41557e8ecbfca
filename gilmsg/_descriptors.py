"""Whether this process may open as many files as its sockets need."""

import errno
import os
import resource
import threading
from typing import Callable, Optional

from . import _reentry
from ._own_sockets import folder
from ._uninterrupted import uninterrupted
from .errors import ConfigurationError

#: What a process opens besides, sooner or later.
_ELSE = 128
#: What one socket takes, bound and watched, with its context, is 7, and 2 per I/O thread. The rest is to spare:
#: other threads take some between our look and our use.
_CONTEXT = 32
_IO_THREAD = 2


def require(endpoints: int, each: int, wished: Optional[int] = None) -> None:
    """See to it that *endpoints* can be connected to, with *each* so many descriptors, or better *wished*.

    Past the limit of open files everything fails that opens one, in ways that nobody understands. A
    soft limit is raised, but only where it is too low: ``select()`` in the user's code ends at 1,024.

    Raises:
        ConfigurationError: the hard limit does not allow *each*.
    """
    _reentry.refuse(_raising)

    def short() -> bool:
        besides = max(_ELSE, _opened() + _CONTEXT + _IO_THREAD)
        needed = endpoints * each + besides
        what = "%d endpoints need about %d open files" % (endpoints, needed)
        return _raised(needed, endpoints * (wished or each) + besides, what)

    _until_enough(short)


def require_context(io_threads: int) -> None:
    """See to it that a context can be made, and its first socket.

    Raises:
        ConfigurationError: the hard limit does not allow it.
    """
    more = _CONTEXT + io_threads * _IO_THREAD

    def short() -> bool:
        opened = _opened()
        what = "%d files are open and a new socket needs %d more" % (opened, more)
        return _raised(opened + more, opened + more, what)

    _until_enough(short)


def _until_enough(short: Callable[[], bool]) -> None:
    """Look again when the limit was raised: files may be open beyond it, which cannot be counted when all below are."""
    while short():
        pass


def _opened() -> int:
    """Return how many descriptors are in use; 0 where the system does not tell."""
    try:
        return len(os.listdir(folder()))
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            return 0
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # the listing needs one itself


def _raised(needed: int, wished: int, what: str) -> bool:
    """If it is below *wished*, raise the soft limit past it, or as far as the hard one allows, *needed* at least.

    Return whether that changed it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wished:
        return False
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigurationError("%s, the limit is %d; raise it (ulimit -n %d)" % (what, hard, wished + _ELSE))
    return uninterrupted(lambda: _raise_to(wished + _ELSE))


def _raise_to(limit: int) -> bool:
    """Raise the soft limit, which another thread may have raised further meanwhile; return whether that changed it."""
    with _raising:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        lower = soft != resource.RLIM_INFINITY and soft < limit
        if lower:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        return lower


def _begin_anew() -> None:
    global _raising
    _raising = threading.RLock()  # another thread may have held it at the fork


#: Held on threads that run no signal handler, see `uninterrupted`: a handler that raises the limit, too, cannot
#: have interrupted one.
_raising = threading.RLock()
os.register_at_fork(after_in_child=_begin_anew)
