"""A signal handler, ``__del__`` or weakref callback that calls gilmsg may have interrupted gilmsg itself."""

from typing import Any

from . import _uninterrupted
from .errors import ConfigurationError


def refuse(lock: Any) -> None:
    """Refuse to go on if the calling thread already holds *lock*, a ``threading.RLock``.

    It would wait for the ACK listener, and that for the lock: held below us on this very stack. Or by
    the thread for which we make something, and which waits for that. ``_is_owned`` is what
    ``threading.Condition`` asks too.

    Raises:
        ConfigurationError: it holds the lock; nothing was sent.
    """
    if lock._is_owned():
        raise _interrupted()
    refuse_here()


def refuse_here() -> None:
    """Refuse to go on if something is made on the calling thread, for which another may hold any lock.

    Raises:
        ConfigurationError: it is.
    """
    if _uninterrupted.runs_here():
        raise _interrupted()


def _interrupted() -> ConfigurationError:
    return ConfigurationError(
        "a signal handler, __del__ or weakref callback called gilmsg while it interrupted gilmsg "
        "itself; do it on another thread"
    )
