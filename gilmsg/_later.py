"""Our modules that are loaded on first use: one thread loads at a time, and nobody sees half a module."""

import importlib
import logging as logging  # before our hook, see below
import os
import threading
from types import ModuleType
from typing import Set

from . import _reentry

_lock = threading.RLock()

#: The modules that have been loaded to their end.
_whole: Set[str] = set()


def load(module: str) -> ModuleType:
    """Return our own *module*; the first who asks for it imports it.

    Raises:
        ImportError: it, or what it needs, does not load.
        ConfigurationError: the calling thread, a few frames below a signal handler, is itself loading
            one: handed out half it would lack something, and to wait would be for ever.
    """
    name = "%s.%s" % (__package__, module)
    if name not in _whole:
        _reentry.refuse(_lock)
        with _lock:
            importlib.import_module(name)
            _whole.add(name)
    return importlib.import_module(name)


#: Whether the thread that forks was itself loading. Written only by one that holds the lock.
_loading = False


def _before_fork() -> None:
    """Take the lock, whatever a signal handler raises: Python would print that, and fork all the same."""
    global _loading
    loading = _lock._is_owned()  # type: ignore[attr-defined]
    while not _lock._is_owned():  # type: ignore[attr-defined]
        try:
            _lock.acquire()
        except BaseException:  # noqa: B902  it may have come just after the lock
            continue
    _loading = loading


def _after_fork() -> None:
    """Give it back, in the parent and in the child: there the forking thread is the same."""
    if not _loading:
        _lock.release()


# A thread that imports holds its module's lock, which Python does not renew in a forked child: there the module
# would never come. So a fork waits until nobody loads. Whoever loads makes loggers, too, and logging has a lock
# that a fork takes as well; since its hook is older than ours, a fork takes that lock after ours, as a load does.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
