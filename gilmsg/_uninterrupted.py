"""Work that an interrupt must not leave half done.

A signal handler may raise (KeyboardInterrupt, or a time limit of the user's) between any two steps of the
main thread. There are steps that do not bear it: what libzmq or the kernel has opened and nobody
holds yet is lost; a ``Thread.start`` that is interrupted in the lock of its event leaves a thread that waits for
that lock for ever.
"""

import _thread
import os
import sys
from typing import Callable, List, Set, TypeVar

from .errors import ListenerError

Made = TypeVar("Made")

#: The threads on which something is made just now: somebody waits for each, perhaps with a lock in hand.
_makers: Set[int] = set()
os.register_at_fork(after_in_child=_makers.clear)  # none of them is there, and its number may be another's


def runs_here() -> bool:
    """Whether the calling thread makes something: the garbage collector may run a ``__del__`` on it, too."""
    return _thread.get_ident() in _makers


def uninterrupted(make: Callable[[], Made]) -> Made:
    """Return what *make* returns, or raise what it raises; it runs to its end, come what may.

    It does so on a thread of its own: Python runs signal handlers on the main thread only. (To block
    signals would not do: any other thread may take them.) ``_thread``, because of what is said above.
    The caller may be interrupted while it waits; then what was made is dropped, as a whole.
    *make* must not need a lock that the caller holds.

    Raises:
        ListenerError: the interpreter is shutting down; another thread would never get to run.
    """
    if sys.is_finalizing():  # pragma: no cover  # by then coverage has saved what it measured
        raise ListenerError("the interpreter is shutting down; nothing was sent")
    made: List[Made] = []
    failures: List[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            made.append(here(make))
        except BaseException as error:  # noqa: B902  raised below
            failures.append(error)
        finally:
            done.release()

    if not _started(work):
        return make()
    done.acquire()
    if failures:
        raise failures.pop()
    return made.pop()


def here(make: Callable[[], Made]) -> Made:
    """Return what *make* returns, made on the calling thread, which must be one that runs no signal handler."""
    _makers.add(_thread.get_ident())
    try:
        return make()
    finally:
        _makers.discard(_thread.get_ident())


def _started(work: Callable[[], None]) -> bool:
    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # no more threads, or the interpreter ends
        return False
    return True
